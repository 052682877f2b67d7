"""Datasets with one thing wrong each, and one with nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.data.datasets.checking import better_flip, check_dataset
from e2enet.data.datasets.raw import read_dataset
from e2enet.events import BadInput

SHAPE = (10, 16, 20)


def made(seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """A bright block off the middle in every direction, of another size for each seed, in noise."""
    random = np.random.default_rng(seed)
    label = np.zeros(SHAPE, np.uint8)
    z, y, x = (int(n) for n in random.integers(0, 2, 3))
    label[1 + z : 4 + z, 2 + y : 6 + y, 2 + x : 6 + x + seed] = 1
    image = 100 + 80 * label + random.normal(0, 10, SHAPE)
    return [image.astype(np.float32)], label


@pytest.fixture
def folder(raw_dataset: Callable[..., Path]) -> Path:
    return raw_dataset({f"c{number}": made(number) for number in range(6)})


def codes(folder: Path) -> list[tuple[str, str]]:
    return [(one.case, one.code) for one in check_dataset(folder, workers=0).findings]


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], spacing=None) -> None:
    image = sitk.ReadImage(os.fspath(path))
    changed = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(image)))
    changed.CopyInformation(image)
    if spacing:
        changed.SetSpacing(spacing)
    sitk.WriteImage(changed, os.fspath(path))


def test_nothing_is_wrong(folder: Path) -> None:
    found = check_dataset(folder, workers=0)
    assert found.findings == []
    assert [case.name for case in found.cases] == [f"c{number}" for number in range(6)]
    assert found.cases[0].voxels == {1: 48}
    assert found.to_dict()["findings"] == []


@pytest.mark.parametrize(
    ("axis", "name"), [(0, "head to foot"), (1, "front to back"), (2, "left to right")]
)
def test_a_label_map_that_is_mirrored(folder: Path, axis: int, name: str) -> None:
    rewrite(folder / "labelsTr" / "c2.nii.gz", lambda array: np.flip(array, axis).copy())
    (finding,) = check_dataset(folder, workers=0).findings
    assert (finding.case, finding.code) == ("c2", "flipped-label")
    assert name in finding.message


def test_structures_that_look_like_their_surroundings_say_nothing() -> None:
    random = np.random.default_rng(0)
    label = np.zeros(SHAPE, np.uint8)
    label[2:5, 2:6, 2:9] = 1
    assert better_flip(random.normal(0, 1, SHAPE), label) is None
    assert better_flip(np.ones(SHAPE), np.zeros(SHAPE, np.uint8)) is None


def test_what_nobody_drew_is_not_compared(raw_dataset: Callable[..., Path]) -> None:
    """A structure that looks like its surroundings; on the other side, a bright one undrawn."""
    cases = {}
    for number in range(3):
        (image,), bright = made(number)
        cases[f"c{number}"] = ([image], np.flip(bright, 2).copy())
    folder = raw_dataset(cases, labels={"background": 0, "grey": 1, "bright": 2})
    assert ("c0", "flipped-label") in codes(folder)
    record = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    record["missing_labels"] = {name: ["bright"] for name in cases}
    (folder / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    assert codes(folder) == [("dataset", "label-never-used")]


def test_a_case_that_cannot_be_used(folder: Path) -> None:
    rewrite(folder / "labelsTr" / "c1.nii.gz", lambda array: array, spacing=(2.0, 1.0, 1.0))
    rewrite(folder / "labelsTr" / "c3.nii.gz", lambda array: array * 5)
    found = check_dataset(folder, workers=0)
    assert [(one.case, one.code) for one in found.errors] == [
        ("c1", "grid-mismatch"),
        ("c3", "unknown-label"),
    ]
    assert len(found.cases) == 4


def test_a_case_without_label_map_does_not_stop_the_check(folder: Path) -> None:
    (folder / "labelsTr" / "c1.nii.gz").unlink()
    rewrite(folder / "labelsTr" / "c3.nii.gz", lambda array: array * 5)
    found = check_dataset(folder, workers=0)
    assert [(one.case, one.code) for one in found.findings] == [
        ("c1", "missing-label"),
        ("c3", "unknown-label"),
    ]
    assert "case c1 has no label map c1.nii.gz" in found.errors[0].message
    assert len(found.dataset.cases) == 6
    with pytest.raises(BadInput, match=r"case c1 has no label map"):
        read_dataset(folder)


def test_nothing_is_said_of_labels_where_no_case_can_be_read(folder: Path) -> None:
    for path in (folder / "labelsTr").iterdir():
        path.write_bytes(b"nothing")
    found = check_dataset(folder, workers=0)
    assert found.findings == found.errors
    assert len(found.errors) == 6


def test_a_label_map_without_image(folder: Path) -> None:
    (folder / "imagesTr" / "c1_0000.nii.gz").unlink()
    (folder / "labelsTr" / "._c1.nii.gz").write_bytes(b"what a Mac leaves")
    (finding,) = check_dataset(folder, workers=0).findings
    assert (finding.case, finding.code) == ("c1", "label-without-image")
    assert "no c1_0000.nii.gz" in finding.message


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_voxels_that_are_no_numbers(folder: Path, ending: str) -> None:
    """The reading library makes those of NIfTI files 0, those of others are replaced by us."""
    for path in [*folder.glob("*/*.nii.gz")]:
        array = sitk.GetArrayFromImage(sitk.ReadImage(os.fspath(path)))
        if path.name == "c2_0000.nii.gz":
            array[0, 0, :3] = np.nan, np.inf, -np.inf
        path.unlink()
        new = path.with_name(path.name.replace(".nii.gz", ending))
        sitk.WriteImage(sitk.GetImageFromArray(array), os.fspath(new))
    record = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    record["file_ending"] = ending
    (folder / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    found = check_dataset(folder, workers=0)
    (finding,) = found.findings
    assert (finding.case, finding.severity, finding.code) == ("c2", "doubt", "not-finite")
    assert f"c2_0000{ending} holds 3 NaN or infinite voxels" in finding.message
    json.dumps(found.to_dict())


def test_duplicates(folder: Path) -> None:
    for part in ("imagesTr/c0_0000", "labelsTr/c0"):
        data = (folder / f"{part}.nii.gz").read_bytes()
        (folder / f"{part.replace('c0', 'c5')}.nii.gz").write_bytes(data)
    assert codes(folder) == [("c0", "duplicate-image"), ("c0", "duplicate-label-map")]


def test_a_training_image_that_is_a_test_image_too(folder: Path) -> None:
    (folder / "imagesTs").mkdir()
    for source, name in (("c4", "t0"), ("c2", "t1")):
        data = (folder / "imagesTr" / f"{source}_0000.nii.gz").read_bytes()
        (folder / "imagesTs" / f"{name}_0000.nii.gz").write_bytes(data)
    rewrite(folder / "imagesTs" / "t0_0000.nii.gz", lambda array: array + 1)
    (folder / "imagesTs" / "t2_0000.nii.gz").write_bytes(b"nothing")
    found = check_dataset(folder, workers=0)
    assert [(one.case, one.code) for one in found.findings] == [
        ("c2", "duplicate-test-image"),
        ("t2", "unreadable-image"),
    ]
    assert "c2 in imagesTr and t1 in imagesTs" in found.findings[0].message
    assert not found.errors


def test_empty_and_unused_labels(raw_dataset: Callable[..., Path]) -> None:
    images, label = made(0)
    folder = raw_dataset(
        {"a": (images, label), "b": (made(1)[0], np.zeros_like(label))},
        labels={"background": 0, "thing": 1, "other": 2},
    )
    assert codes(folder) == [
        ("b", "empty-label"),
        ("dataset", "label-sometimes-missing"),
        ("dataset", "label-never-used"),
    ]


def test_spacing_far_from_the_others(folder: Path) -> None:
    for path in (folder / "imagesTr" / "c4_0000.nii.gz", folder / "labelsTr" / "c4.nii.gz"):
        rewrite(path, lambda array: array, spacing=(1.0, 1.0, 4.0))
    assert codes(folder) == [("c4", "odd-spacing")]


def test_intensities_far_from_the_others(folder: Path) -> None:
    rewrite(folder / "imagesTr" / "c4_0000.nii.gz", lambda array: array * 1000)
    assert codes(folder) == [("c4", "odd-intensities")]


def test_several_scales_are_one_finding(raw_dataset: Callable[..., Path]) -> None:
    cases = {}
    for number in range(12):
        images, label = made(number)
        cases[f"c{number:02d}"] = ([images[0] * (1000 if number < 4 else 1)], label)
    (finding,) = check_dataset(raw_dataset(cases), workers=0).findings
    assert (finding.case, finding.code) == ("dataset", "several-scales")
    assert "4 of 12 cases" in finding.message


def test_what_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no dataset\.json"):
        check_dataset(tmp_path)
