"""Preparing images and datasets."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.data.datasets.raw import read_dataset
from e2enet.data.images.volume import Grid, Volume
from e2enet.data.planning.plan import ChannelPlan, Plan
from e2enet.data.preprocessing.cases import (
    case_folder,
    prepare,
    prepare_label,
    preprocess_dataset,
)
from e2enet.data.preprocessing.store import PreprocessedDataset
from e2enet.events import BadInput, Reporter

PLAN = Plan(
    spacing=(1.0, 1.0, 1.0),
    transpose=(0, 1, 2),
    patch=(16, 16, 16),
    strides=((2, 2, 2),),
    batch_size=2,
    channels=(ChannelPlan("MRI"),),
)
ANGLE = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, -1.0]])  # Oblique and left-handed.


def volume(
    shape: tuple = (10, 12, 14), spacing: tuple = (1, 1, 1), direction: np.ndarray | None = None
) -> Volume:
    array = np.random.default_rng(0).normal(50, 9, shape).astype(np.float32)
    direction = np.eye(3) if direction is None else direction
    grid = Grid(shape[::-1], tuple(map(float, spacing)), (1.0, 2.0, 3.0), tuple(direction.ravel()))
    return Volume(array, grid, "made.nii.gz")


@pytest.mark.parametrize("direction", [np.eye(3), ANGLE, np.eye(3)[[2, 0, 1]], -np.eye(3)])
@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_the_way_back(direction: np.ndarray, transpose: tuple) -> None:
    given = volume(direction=direction)
    given.array[:3] = 0
    given.array[:, :, -2:] = 0
    plan = dataclasses.replace(PLAN, transpose=transpose, channels=(ChannelPlan("MRI", "none"),))
    prepared = prepare([given], plan)
    assert prepared.array.shape == (1, *prepared.geometry.shape)
    assert prepared.geometry.shape == prepared.geometry.source_shape
    assert prepared.array.size == 7 * 12 * 12
    back = prepared.geometry.place(prepared.array)
    np.testing.assert_array_equal(back[0], given.array)
    assert prepared.geometry.grid == given.grid
    with pytest.raises(ValueError, match="expected"):
        prepared.geometry.place(np.zeros((3, 3, 3)))


def test_storage_order_does_not_matter() -> None:
    given = volume(spacing=(0.8, 1.2, 3.0))
    expected = prepare([given], PLAN)
    for order in ("RAS", "PIR", "SLA"):
        image = sitk.DICOMOrient(given.grid.image(given.array), order)
        stored = Volume(sitk.GetArrayFromImage(image), Grid.from_image(image))
        np.testing.assert_array_equal(prepare([stored], PLAN).array, expected.array)


def test_spacing_becomes_the_plans() -> None:
    prepared = prepare([volume((10, 12, 14), (0.5, 1, 2))], PLAN)
    assert prepared.geometry.shape == (20, 12, 7)
    assert prepared.geometry.source_spacing == (2, 1, 0.5)
    turned = prepare(
        [volume((10, 12, 14), (0.5, 1, 2))], dataclasses.replace(PLAN, transpose=(2, 1, 0))
    )
    assert turned.geometry.shape == (7, 12, 20)


def test_zscore_and_ct() -> None:
    array = prepare([volume()], PLAN).array
    assert array.dtype == np.float32
    assert array.mean() == pytest.approx(0, abs=1e-4)
    assert array.std() == pytest.approx(1, abs=1e-4)
    ct = ChannelPlan("CT", "ct", mean=40.0, std=20.0, lower=0.0, upper=60.0)
    given = volume()
    given.array[0, 0, :2] = -1000, 30000
    array = prepare([given], dataclasses.replace(PLAN, channels=(ct,))).array
    assert (array.min(), array.max()) == (-2, 1)
    np.testing.assert_array_equal(given.array[0, 0, :2], (-1000, 30000))


def test_scale_of_intensities_does_not_matter() -> None:
    given = volume()
    large = Volume(given.array * np.float32(1e4), given.grid)
    expected = prepare([given], PLAN).array
    np.testing.assert_allclose(prepare([large], PLAN).array, expected, atol=1e-4)


def test_masked_zscore() -> None:
    given = volume()
    given.array[:, :, 10:] = -5
    given.array[5, 5, 5] = -5  # A hole belongs to the patient.
    given.array[0, 0, 0] = 49
    given.array[0] = -5
    given.array[0, 11, 9] = 50
    plan = dataclasses.replace(PLAN, channels=(ChannelPlan("MRI", "zscore-masked"),))
    # One corner differs, so -5 is not the background but 0 is: nothing is cropped.
    given.array[-1, 0, 0] = -5
    given.array[-1, -1, 0] = -5
    given.array[[0, 0, -1, -1], [0, -1, 0, -1], 0] = -5
    array = prepare([given], plan).array[0]
    assert array.shape == (10, 12, 10)
    assert array[0, 0, 0] == 0
    assert array[5, 5, 5] < -2
    inside = array[array != 0]
    assert inside.mean() == pytest.approx(0, abs=1e-3)
    assert inside.std() == pytest.approx(1, abs=1e-3)


def test_refusals() -> None:
    with pytest.raises(BadInput, match=r"1 channel is needed \(MRI\), but 2 given \(made"):
        prepare([volume(), volume()], PLAN)
    with pytest.raises(BadInput, match="same value"):
        prepare([Volume(np.full((4, 5, 6), 7.0, np.float32), volume((4, 5, 6)).grid)], PLAN)
    with pytest.raises(BadInput, match="spacing of 1×1×900 mm"):
        prepare([volume(spacing=(1, 1, 900))], PLAN)


def test_labels_follow_their_image() -> None:
    given = volume((20, 22, 24), (1.5, 1.5, 3.0), ANGLE)
    classes = (given.array > 50).astype(np.uint8)
    prepared = prepare([given], PLAN)
    label = prepare_label(Volume(classes, given.grid), prepared.geometry, PLAN)
    assert label.shape == prepared.geometry.shape
    assert label.dtype == np.uint8
    inside, outside = prepared.array[0][label == 1], prepared.array[0][label == 0]
    assert inside.mean() > 0.3 > -0.3 > outside.mean()


class Steps(Reporter):
    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def progress(self, stage: str, done: int, total: int) -> None:
        self.seen.append((stage, done, total))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset(tiny_dataset: Path, tmp_path: Path, workers: int) -> None:
    dataset = read_dataset(tiny_dataset)
    steps = Steps()
    made = preprocess_dataset(dataset, PLAN, tmp_path / "p", workers=workers, reporter=steps)
    assert steps.seen == [("preprocessing", i, 6) for i in range(7)]
    assert made.names == dataset.case_names
    assert (made.labels, made.channel_names) == (dataset.labels, ("MRI",))
    for case in made:
        assert case.image.shape == (1, *case.shape)
        assert case.label.shape == case.shape
        assert case.image.dtype == np.float32
        assert case.foreground == {value: int((case.label == value).sum()) for value in (1, 2)}
        points = case.points()
        assert set(points) == {1, 2}
        for value, where in points.items():
            assert (case.label[tuple(where.T)] == value).all()
            assert len(where) == case.foreground[value]
    assert not [name for name in os.listdir(tmp_path / "p") if "part" in name]


def test_only_what_changed_is_done_again(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = read_dataset(tiny_dataset)

    def times() -> dict[str, int]:
        return {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.npy")}

    preprocess_dataset(dataset, PLAN, tmp_path, workers=0)
    first = times()
    # The patch is of no concern here.
    preprocess_dataset(dataset, dataclasses.replace(PLAN, patch=(8, 8, 8)), tmp_path, workers=0)
    assert times() == first

    broken, unfinished = dataset.case_names[:2]
    path = tmp_path / f"{broken}_label.npy"
    path.write_bytes(path.read_bytes()[:-10])
    (tmp_path / f"{unfinished}.json").unlink()
    with pytest.raises(BadInput):
        PreprocessedDataset.open(tmp_path)
    preprocess_dataset(dataset, PLAN, tmp_path, workers=0)
    changed = {name for name, when in times().items() if when != first[name]}
    assert {name.split(".")[0].removesuffix("_label").removesuffix("_points") for name in changed} \
        == {broken, unfinished}  # fmt: skip

    coarser = dataclasses.replace(PLAN, spacing=(2.0, 2.0, 2.0))
    made = preprocess_dataset(dataset, coarser, tmp_path, workers=0)
    assert max(made[broken].shape) < 20


def test_failures_leave_a_sentence(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = read_dataset(tiny_dataset)
    two = dataclasses.replace(PLAN, channels=PLAN.channels * 2)
    with pytest.raises(BadInput, match="2 channels, but Dataset900_Tiny has 1"):
        preprocess_dataset(dataset, two, tmp_path, workers=0)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot be written"):
        preprocess_dataset(dataset, PLAN, tmp_path / "file", workers=0)


def test_a_bad_case_is_named_from_a_worker(
    raw_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    image, label = np.ones((4, 5, 6), np.float32), np.ones((4, 5, 6), np.uint8)
    image[0, 0, 0] = 3
    folder = raw_dataset({"a": ([image], label), "b": ([image], label * 9)})
    with pytest.raises(BadInput, match=r"b\.nii\.gz holds the label 9") as caught:
        preprocess_dataset(read_dataset(folder), PLAN, tmp_path / "p", workers=2)
    assert caught.value.code == "unknown-label"
    assert not (tmp_path / "p" / "dataset.json").exists()


def test_case_folder(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2ENET_CACHE", str(tmp_path))
    dataset = read_dataset(tiny_dataset)
    folder = case_folder(dataset, PLAN)
    assert folder.is_relative_to(tmp_path)
    assert folder == case_folder(dataset, dataclasses.replace(PLAN, batch_size=7))
    assert folder != case_folder(dataset, dataclasses.replace(PLAN, spacing=(1.0, 1.0, 2.0)))


def test_paired_case_spacing_is_kept(tiny_dataset: Path, tmp_path: Path) -> None:
    preprocess_dataset(read_dataset(tiny_dataset), PLAN, tmp_path, workers=0)
    record = json.loads((tmp_path / "tiny_000.json").read_text(encoding="utf-8"))
    assert record["case_spacing"] == [1, 1, 1]


FLAT = dataclasses.replace(PLAN, patch=(1, 16, 16), strides=((1, 2, 2),), flat=True)


def test_a_single_image_keeps_one_slice_whatever_its_header_says() -> None:
    for across in (0.01, 1, 40):
        given = volume((1, 12, 14), (0.5, 0.5, across))
        prepared = prepare([given], FLAT)
        assert prepared.geometry.shape == (1, 6, 7)
        assert prepared.geometry.source_shape == (1, 12, 14)


def test_single_images_and_volumes_are_not_confused() -> None:
    with pytest.raises(BadInput, match="single images are needed") as caught:
        prepare([volume()], FLAT)
    assert caught.value.code == "not-2d"
    for shape in ((1, 12, 14), (10, 1, 14)):
        with pytest.raises(BadInput, match="single slice") as caught:
            prepare([volume(shape)], PLAN)
        assert caught.value.code == "single-slice"
    # A model that was trained on the slices of volumes takes both.
    slices = dataclasses.replace(FLAT, flat=False)
    assert prepare([volume()], slices).geometry.shape == (10, 12, 14)
    assert prepare([volume((1, 12, 14))], slices).geometry.shape == (1, 12, 14)
