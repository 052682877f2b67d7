"""Which files make a case."""

from __future__ import annotations

import pytest
from e2enet.events import BadInput
from e2enet.inference.case.inputs import find_case, find_cases, is_case_folder


def touch(folder, *names):
    for name in names:
        (folder / name).touch()
    return folder


def found(folder, channels):
    return {case.name: [p.name for p in case.paths] for case in find_cases(folder, channels)}


def test_channels_are_grouped_as_nnunet_does(tmp_path):
    touch(tmp_path, "b_0001.nii.gz", "b_0000.nii.gz", "a_0000.nii.gz", "notes.txt", ".c.nii.gz")
    assert found(tmp_path, 2) == {"a": ["a_0000.nii.gz"], "b": ["b_0000.nii.gz", "b_0001.nii.gz"]}


def test_with_one_channel_every_file_is_a_case(tmp_path):
    touch(tmp_path, "a_0000.nii.gz", "scan.nrrd", "visit_0002.mha")
    assert found(tmp_path, 1) == {
        "a": ["a_0000.nii.gz"],
        "scan": ["scan.nrrd"],
        "visit_0002": ["visit_0002.mha"],
    }


def test_a_surplus_channel_stays_with_its_case(tmp_path):
    touch(tmp_path, "a_0000.nii.gz", "a_0001.nii.gz")
    assert found(tmp_path, 1) == {"a": ["a_0000.nii.gz", "a_0001.nii.gz"]}


@pytest.mark.parametrize(
    "names", [("a.nii.gz", "a.nrrd"), ("a_0000.nii.gz", "a_0000.nrrd"), ("a.nrrd", "a_0000.nrrd")]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_the_same_case_twice_is_refused(tmp_path, names, channels):
    with pytest.raises(BadInput, match="case a more than once"):
        find_cases(touch(tmp_path, *names), channels)


def test_an_empty_folder(tmp_path):
    assert not is_case_folder(tmp_path)
    with pytest.raises(BadInput, match="holds no images"):
        find_cases(tmp_path, 1)


def test_a_dicom_folder_is_no_folder_of_cases(tmp_path):
    assert not is_case_folder(touch(tmp_path, "IM0001", "slice.dcm"))


def test_names_of_single_cases(tmp_path):
    touch(tmp_path, "a.b.nii.gz", "x_0000.nrrd", "x_0001.nrrd")
    assert find_case([tmp_path / "a.b.nii.gz"]).name == "a.b"
    assert find_case([tmp_path / "x_0000.nrrd", tmp_path / "x_0001.nrrd"]).name == "x"
    assert find_case([tmp_path]).name == tmp_path.name
    with pytest.raises(BadInput, match="does not exist"):
        find_case([tmp_path / "none.nii.gz"])


def test_a_datasets_folder_is_answered_with_the_folders_in_it(tmp_path):
    touch(tmp_path, "dataset.json")
    (tmp_path / "imagesTs").mkdir()
    with pytest.raises(BadInput, match="is the folder of a dataset") as caught:
        find_case([tmp_path])
    assert caught.value.help == "Give its imagesTs."
