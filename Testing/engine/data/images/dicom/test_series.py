"""Which of the series in a folder is meant, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from e2enet.data.images.dicom.series import find_series
from e2enet.data.images.volume import read_channels, read_image
from e2enet.events import BadInput

Series = Callable[..., list[Path]]


def planes(value: int, count: int = 5) -> np.ndarray:
    return np.full((count, 6, 8), value, np.int16)


@pytest.fixture
def study(tmp_path: Path, dicom_series: Series) -> Path:
    """A study as it comes from an archive: a scout, two MR series and one CT, in folders."""
    folder = tmp_path / "study"
    dicom_series(
        folder / "S1", planes(1, 3), uid="1.1", number=1, modality="MR", description="scout",
        image_type="ORIGINAL\\PRIMARY\\LOCALIZER",
    )  # fmt: skip
    dicom_series(
        folder / "S2", planes(2), uid="1.2", number=2, modality="MR", description="T1 MPRAGE"
    )
    dicom_series(folder / "S3", planes(3), uid="1.3", number=12, modality="MR", description="T2")
    dicom_series(folder / "S4" / "deep", planes(4), uid="1.4", number=4, description="Thorax")
    (folder / "README").write_text("no image")
    return folder


@pytest.mark.parametrize(
    ("wanted", "value"), [("2", 2), ("mprage", 2), ("T2", 3), ("12", 3), ("1.4", 4), ("scout", 1)]
)
def test_chosen_by_number_description_and_uid(study: Path, wanted: str, value: int) -> None:
    volume = read_image(study, series=wanted)
    assert (volume.array == value).all()
    assert volume.series_uid == {1: "1.1", 2: "1.2", 3: "1.3", 4: "1.4"}[value]
    ((code, sentence),) = volume.warnings
    assert code == "series-chosen"
    assert "Of the 4 DICOM series in study" in sentence


def test_chosen_by_itself_when_one_volume_fits_the_model(study: Path) -> None:
    for wanted in (None, "auto"):
        assert (read_image(study, series=wanted, modality="CT").array == 4).all()
    with pytest.raises(BadInput) as caught:
        read_image(study, modality="MR")
    assert caught.value.code == "several-series"
    assert "2 DICOM series that may be meant: series 2: MR T1 MPRAGE" in caught.value.message
    assert "scout" not in caught.value.message


def test_an_unclear_choice_is_listed(study: Path) -> None:
    with pytest.raises(BadInput, match=r"series 2: .*series 12: .*T2") as caught:
        read_image(study, series="T")  # the T of Thorax too
    assert caught.value.code == "several-series"
    with pytest.raises(BadInput, match=r"no series 'FLAIR', but 4 .*scout.*Thorax") as caught:
        read_image(study, series="FLAIR")
    assert caught.value.code == "no-such-series"


def test_a_series_of_one_file_a_channel(study: Path) -> None:
    first, second = read_channels([study, study], series=["T1", "T2"])
    assert (first.array[0, 0, 0], second.array[0, 0, 0]) == (2, 3)


def test_no_folder_to_choose_from(tmp_path: Path) -> None:
    (tmp_path / "head.nii").write_bytes(b"")
    with pytest.raises(BadInput, match=r"no folder or zip of DICOM files"):
        read_image(tmp_path / "head.nii", series="2")


def test_another_patient_in_the_same_folder(tmp_path: Path, dicom_series: Series) -> None:
    dicom_series(tmp_path / "mixed", planes(1), uid="1.1", prefix="a", modality="MR")
    dicom_series(tmp_path / "mixed", planes(2), uid="1.2", prefix="b", patient="P2", number=2)
    with pytest.raises(BadInput, match="images of 2 patients") as caught:
        read_image(tmp_path / "mixed", modality="MR")  # though only one series is MR
    assert caught.value.code == "several-patients"
    assert "P2" not in caught.value.message  # messages are logged
    assert (read_image(tmp_path / "mixed", series="2").array == 2).all()


def test_another_patient_in_the_same_series(tmp_path: Path, dicom_series: Series) -> None:
    dicom_series(tmp_path / "mixed", planes(1), prefix="a")
    dicom_series(tmp_path / "mixed", planes(2), prefix="b", patient="P2", heights=range(50, 55))
    for wanted in (None, "1"):
        with pytest.raises(BadInput, match="images of 2 patients"):
            read_image(tmp_path / "mixed", series=wanted)


def test_damaged_slice_is_named(tmp_path: Path, dicom_series: Series) -> None:
    last = dicom_series(tmp_path / "ct", planes(1))[-1]
    last.write_bytes(last.read_bytes()[:400])  # its header ends within
    with pytest.raises(BadInput, match=rf"^{last.name} in ct is damaged"):
        read_image(tmp_path / "ct")


def test_description_in_another_character_set(tmp_path: Path, dicom_series: Series) -> None:
    for path in dicom_series(tmp_path / "ct", planes(1), description="Schadel!"):
        path.write_bytes(path.read_bytes().replace(b"Schadel!", b"Sch\xe4del!"))
    (series,) = find_series(tmp_path / "ct")
    series.describe().encode("utf-8")
    assert read_image(tmp_path / "ct").array.shape == (5, 6, 8)


def test_files_without_preamble(tmp_path: Path, dicom_series: Series) -> None:
    for path in dicom_series(tmp_path / "ct", planes(7)):
        path.write_bytes(path.read_bytes()[132:])
    assert (read_image(tmp_path / "ct").array == 7).all()


def test_what_is_made_from_images_is_never_meant(study: Path, dicom_series: Series) -> None:
    (seg, *_) = dicom_series(
        study / "S5", planes(5), uid="1.5", number=1002, modality="SEG", description="T1 MPRAGE"
    )
    dicom_series(study / "S6", planes(6), uid="1.6", number=1004, modality="SR")
    assert (read_image(study, modality="CT").array == 4).all()
    assert (read_image(study, series="mprage").array == 2).all()
    with pytest.raises(BadInput) as caught:
        read_image(study)
    assert "SEG" not in caught.value.message
    with pytest.raises(BadInput, match=r"no DICOM series of images, only SEG") as caught:
        read_image(study / "S5")
    assert caught.value.code == "no-dicom"
    with pytest.raises(BadInput, match=r"is a DICOM SEG, no image") as caught:
        read_image(seg)
    assert caught.value.code == "no-dicom"


def test_another_modality_than_the_models_is_told(tmp_path: Path, dicom_series: Series) -> None:
    path = dicom_series(tmp_path / "scan", planes(1))[0]
    for given, name in ((path, path.name), (path.parent, "scan")):
        warning = ("other-modality", f"{name} is CT, but the model was made for MR.")
        assert read_image(given, modality="mr").warnings == (warning,)
        assert not read_image(given, modality="CT").warnings
        assert not read_image(given).warnings
