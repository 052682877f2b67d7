"""From files to a label map: geometry, volumes, manifest, regions, and what goes wrong."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import SimpleITK as sitk
import torch
from e2enet.bundle import Bundle
from e2enet.data.images.volume import Grid, Volume
from e2enet.data.planning.plan import Plan
from e2enet.data.preprocessing.cases import prepare
from e2enet.events import BadInput, Reporter
from e2enet.inference import Result, segment
from e2enet.inference.case.result import Outputs
from e2enet.inference.sliding_window.predictor import Predictor

TURN = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
LEFT_HANDED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
SWAPPED = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def made_image(shape=(14, 20, 17), seed=0) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.normal(size=[-(-n // 4) for n in shape])
    image = np.kron(coarse, np.ones((4, 4, 4)))[tuple(slice(n) for n in shape)]
    return (100 + 30 * image + random.normal(size=shape)).astype(np.float32)


def write(path: Path, array: np.ndarray, *, spacing=(1.0, 1.0, 1.0), direction=None) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-12.0, 7.0, 31.5))
    if direction:
        image.SetDirection(direction)
    sitk.WriteImage(image, os.fspath(path))
    return path


@pytest.fixture
def image(tmp_path) -> Path:
    return write(tmp_path / "case.nii.gz", made_image())


def test_the_result_is_the_windows_argmax(image, tiny_bundle):
    """Against the pieces put together by hand, on an image that needs no resampling."""
    result = segment(image, tiny_bundle)
    bundle = Bundle.open(tiny_bundle)
    plan = Plan.from_dict(bundle.plan)
    grid = Grid((17, 20, 14), (1.0, 1.0, 1.0), (-12.0, 7.0, 31.5))
    prepared = prepare([Volume(made_image(), grid)], plan)
    predictor = Predictor(bundle.load_network()[0], patch=plan.patch, classes=3)
    labels = [block.argmax(axis=1) for block in predictor.stream(prepared.array)]
    np.testing.assert_array_equal(result.label, np.concatenate(labels))
    assert result.label.dtype == np.uint8
    assert len(np.unique(result.label)) > 1


def test_depth_may_be_any_axis_and_coarse(tmp_path, make_bundle):
    """Resampled, depth along x and so coarse that it is not interpolated; put back by hand."""
    bundle = make_bundle(
        plan={"spacing": [4.5, 1.0, 1.2], "transpose": [2, 0, 1], "patch": [8, 16, 16]}
    )
    array = made_image((20, 18, 9))
    array[:, :2] = array[:, :, 8:] = 0  # background is cut off
    path = write(tmp_path / "in.nrrd", array, spacing=(5.0, 0.9, 1.3))
    result = segment(path, bundle)
    opened = Bundle.open(bundle)
    plan = Plan.from_dict(opened.plan)
    grid = Grid((9, 18, 20), (5.0, 0.9, 1.3), (-12.0, 7.0, 31.5))
    prepared = prepare([Volume(array, grid)], plan)
    geometry = prepared.geometry
    predictor = Predictor(opened.load_network()[0], patch=plan.patch, classes=3)
    blocks = [torch.tensor(block) for block in predictor.stream(prepared.array)]
    whole = torch.cat(blocks).transpose(0, 1)[None]
    depth = geometry.source_shape[0]
    at = (torch.arange(depth) + 0.5) * (whole.shape[2] / depth) - 0.5
    whole = whole[:, :, at.round().long().clamp(0, whole.shape[2] - 1)]
    shape = geometry.source_shape
    back = torch.nn.functional.interpolate(whole, shape, mode="trilinear", align_corners=False)
    expected = geometry.place(back[0].argmax(dim=0).numpy())
    assert (expected == result.label).mean() > 0.999
    assert len(np.unique(expected)) > 1
    assert not result.label[:, :2].any()


def test_a_model_at_odds_with_itself(image, make_bundle):
    with pytest.raises(BadInput, match="do not fit its network") as caught:
        segment(image, make_bundle(classes=4))
    assert caught.value.code == "damaged-model"


def test_a_real_dicom_crop(shared, tmp_path, tiny_bundle):
    folder = shared / "data" / "dicom_hippocampus_crop"
    result = segment(folder, tiny_bundle, output=tmp_path / "out.nii.gz")
    written = sitk.ReadImage(os.fspath(tmp_path / "out.nii.gz"))
    assert written.GetSize() == result.grid.size_xyz
    assert result.manifest["inputs"][0]["files"] == written.GetSize()[2]


@pytest.mark.parametrize(
    ("direction", "ending"),
    [(None, ".mha"), (TURN, ".nii.gz"), (LEFT_HANDED, ".nii.gz"), (SWAPPED, ".nrrd")],
)
def test_the_label_map_lies_on_the_inputs_grid(tmp_path, tiny_bundle, direction, ending):
    path = write(
        tmp_path / f"in{ending}", made_image(), spacing=(1.1, 0.9, 2.0), direction=direction
    )
    output = tmp_path / "new" / f"out{ending}"
    result = segment(path, tiny_bundle, output=output)
    before, after = sitk.ReadImage(os.fspath(path)), sitk.ReadImage(os.fspath(output))
    assert after.GetSize() == before.GetSize()
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(after, name)(), getattr(before, name)(), atol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after), result.label)


@pytest.mark.parametrize(
    ("order", "flip"),
    [((2, 0, 1), (False, False, True)), ((1, 0, 2), (True, True, False))],
)
def test_how_a_file_stores_its_axes_does_not_matter(tmp_path, tiny_bundle, order, flip):
    first = write(tmp_path / "a.nrrd", made_image(), spacing=(1.3, 0.8, 1.7), direction=TURN)
    turned = sitk.PermuteAxes(sitk.ReadImage(os.fspath(first)), order)
    turned = sitk.Flip(turned, flip)
    second = tmp_path / "b.nrrd"
    sitk.WriteImage(turned, os.fspath(second))
    one = segment(first, tiny_bundle)
    other = segment(second, tiny_bundle)
    label = sitk.GetImageFromArray(one.label)
    expected = sitk.GetArrayFromImage(sitk.Flip(sitk.PermuteAxes(label, order), flip))
    np.testing.assert_array_equal(other.label, expected)
    assert len(np.unique(one.label)) > 1


def test_volumes_labels_and_manifest(image, tmp_path, tiny_bundle):
    output = tmp_path / "out.nii.gz"
    result = segment(image, tiny_bundle, output=output, device="cpu", tta=True)
    rows = list(csv.DictReader((tmp_path / "out.volumes.csv").open(encoding="utf-8")))
    assert [row["name"] for row in rows] == ["sphere", "cube"]
    for row, label in zip(rows, result.labels, strict=True):
        voxels = int((result.label == label.value).sum())
        assert int(row["voxels"]) == label.voxels == voxels
        assert float(row["volume_ml"]) == pytest.approx(voxels / 1000, abs=1e-4)
    manifest = json.loads((tmp_path / "out.manifest.json").read_text(encoding="utf-8"))
    assert manifest["inputs"][0]["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert manifest["model"]["name"] == "tiny"
    assert manifest["model"]["weights_sha256"] == Bundle.open(tiny_bundle).weights_sha256()
    assert manifest["device"]["used"] == "cpu"
    assert manifest["device"]["threads"] >= 1
    assert manifest["options"]["tta"] is True
    assert {"read", "inference"} <= set(manifest["stages_s"])
    assert {"e2enet", "SimpleITK"} <= set(manifest["versions"])
    assert manifest["labels"][1]["color"] == [128, 174, 128]
    assert manifest["labels"][0]["terminology"]["type"]["scheme"] == "SCT"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "case.nii.gz",
        "out.manifest.json",
        "out.nii.gz",
        "out.volumes.csv",
    ]


def test_a_volume_far_from_the_training_cases_is_doubted(image, tiny_bundle, tmp_path):
    """The found volume itself is usual; a thousand times as much would have been."""
    found = segment(image, tiny_bundle)
    measured = next(label for label in found.labels if label.voxels)

    def result(low: float, high: float) -> Result:
        bundle = Bundle.open(tiny_bundle)
        entry = next(e for e in bundle.model["labels"] if e["value"] == measured.value)
        entry["usual_ml"] = [low * measured.volume_ml, high * measured.volume_ml]
        return segment(image, bundle, output=tmp_path / "out.nii.gz")

    usual = result(0.9, 1.1)
    assert usual.manifest["doubtful"] is False
    assert not usual.manifest["doubts"]
    assert not usual.manifest["warnings"]
    doubted = result(900, 1100)
    (warning,) = doubted.manifest["warnings"]
    assert warning["code"] == "doubtful-result"
    assert measured.name in warning["message"]
    assert doubted.manifest["doubtful"] is True
    assert doubted.manifest["doubts"][0]["labels"] == (measured.value,)
    event = doubted.describe(Outputs.of(tmp_path / "out.nii.gz"))
    assert event["doubtful"] is True
    marked = [label["value"] for label in event["labels"] if label["doubtful"]]
    assert marked == [measured.value]


def test_probabilities_are_those_behind_the_labels(tmp_path, tiny_bundle):
    path = write(tmp_path / "in.nrrd", made_image(), spacing=(1.2, 1.0, 1.6), direction=LEFT_HANDED)
    result = segment(path, tiny_bundle, output=tmp_path / "out.nii.gz", save_probabilities=True)
    files = sorted((tmp_path / "out_probabilities").iterdir())
    assert [file.name for file in files] == ["1_sphere.nii.gz", "2_cube.nii.gz"]
    foreground = [sitk.GetArrayFromImage(sitk.ReadImage(os.fspath(file))) for file in files]
    every = np.stack([1 - sum(foreground), *foreground])
    best = np.sort(every, axis=0)
    clear = best[-1] - best[-2] > 5e-3  # stored in half precision
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(every.argmax(axis=0)[clear], result.label[clear])


def test_mirroring_changes_little_and_something(image, tiny_bundle):
    plain = segment(image, tiny_bundle, save_probabilities=True)
    mirrored = segment(image, tiny_bundle, save_probabilities=True, tta=True)
    assert np.abs(plain.probability(1) - mirrored.probability(1)).max() > 1e-3


def test_of_a_structure_in_one_piece_the_largest_part_is_kept(image, tiny_bundle, tmp_path):
    """The other label keeps its parts; found against scipy's components."""
    before = segment(image, tiny_bundle)
    bundle = tmp_path / "whole"
    shutil.copytree(tiny_bundle, bundle)
    model = json.loads((bundle / "model.json").read_text(encoding="utf-8"))
    model["labels"][1]["one_piece"] = True
    (bundle / "model.json").write_text(json.dumps(model), encoding="utf-8")
    after = segment(image, bundle)
    parts, count = scipy.ndimage.label(before.label == 2, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    assert count > 1
    np.testing.assert_array_equal(after.label == 2, parts == 1 + sizes.argmax())
    np.testing.assert_array_equal(after.label == 1, before.label == 1)
    assert after.labels[1].voxels == sizes.max()
    assert after.manifest["options"]["one_piece"] == [after.labels[1].name]
    assert "one_piece" not in before.manifest["options"]


def test_a_region_of_interest(image, tiny_bundle):
    whole = segment(image, tiny_bundle)
    # x: voxels 2 to 9, y: 4 to 12, z: 3 to 10 of an image that begins at (-12, 7, 31.5).
    result = segment(image, tiny_bundle, roi="-10.2,10.9,34.3,-2.8,19.2,41.7")
    inside = (slice(3, 11), slice(4, 13), slice(2, 10))
    outside = np.ones(result.label.shape, bool)
    outside[inside] = False
    assert not result.label[outside].any()
    # Windows lie elsewhere, so that only most voxels agree.
    assert (result.label[inside] == whole.label[inside]).mean() > 0.5
    assert result.manifest["regions"][0]["size_mm"] == [8, 9, 8]


def test_a_region_of_everything_changes_nothing(image, tiny_bundle):
    whole = segment(image, tiny_bundle)
    result = segment(image, tiny_bundle, roi=(-100, -100, -100, 100, 100, 100))
    np.testing.assert_array_equal(result.label, whole.label)


def test_several_channels_in_order(tmp_path, make_bundle):
    bundle = make_bundle(channels=("T1", "T2"))
    first = write(tmp_path / "case_0000.nii.gz", made_image(seed=1))
    second = write(tmp_path / "case_0001.nii.gz", made_image(seed=2))
    one = segment([first, second], bundle)
    other = segment([second, first], bundle)
    assert one.manifest["case"] == "case"
    assert len(one.manifest["inputs"]) == 2
    assert (one.label != other.label).any()
    with pytest.raises(BadInput, match=r"2 channels \(T1, T2\), but 1 was given") as caught:
        segment(first, bundle)
    assert caught.value.code == "channel-count"
    moved = tmp_path / "moved.nii.gz"
    write(moved, made_image((14, 20, 18)))
    with pytest.raises(BadInput, match="different grids"):
        segment([first, moved], bundle)


def test_a_dicom_folder(tmp_path, tiny_bundle):
    folder = tmp_path / "series"
    folder.mkdir()
    pixels = made_image((6, 18, 16)).astype(np.int16)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, plane in enumerate(pixels):
        one = sitk.GetImageFromArray(plane[None])
        one.SetSpacing((1.0, 1.0, 2.0))
        for key, value in {
            "0008|0060": "MR",
            "0020|000e": "1.2.3.4",
            "0020|000d": "1.2.3",
            "0008|0018": f"1.2.3.4.{number + 1}",
            "0020|0032": f"0\\0\\{2 * number}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(number + 1),
        }.items():
            one.SetMetaData(key, value)
        writer.SetFileName(os.fspath(folder / f"{5 - number}.dcm"))
        writer.Execute(one)
    result = segment(folder, tiny_bundle)
    assert result.label.shape == pixels.shape
    assert result.grid.spacing_xyz == (1.0, 1.0, 2.0)
    assert result.manifest["inputs"][0]["files"] == 6
    assert result.manifest["case"] == "series"


def test_the_output_may_not_be_the_input(image, tiny_bundle):
    before = image.read_bytes()
    with pytest.raises(BadInput, match="is the input itself"):
        segment(image, tiny_bundle, output=image)
    assert image.read_bytes() == before


@pytest.mark.parametrize("name", ["out.png", "out", "out.nii.gz.txt"])
def test_an_output_that_is_no_image_is_refused_before_work(image, tiny_bundle, name):
    with pytest.raises(BadInput, match="no name for a segmentation"):
        segment(image, tiny_bundle, output=image.parent / name)


def test_nothing_is_left_when_writing_fails(image, tmp_path, tiny_bundle, monkeypatch):
    output = tmp_path / "out.nii.gz"
    segment(image, tiny_bundle, output=output)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("e2enet.inference.case.result.Result._write_manifest", full)
    with pytest.raises(BadInput, match="cannot be written") as caught:
        segment(image, tiny_bundle, output=output)
    assert caught.value.code == "output-not-writable"
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(BadInput):
        segment(image, tiny_bundle, output=tmp_path / "new" / "deeper" / "out.nii.gz")
    assert not (tmp_path / "new").exists()


def test_nothing_is_left_after_a_cancel(image, tmp_path, tiny_bundle):
    class Stop(Reporter):
        def progress(self, stage, done, total):
            if stage == "inference" and done:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment(image, tiny_bundle, output=tmp_path / "new" / "out.nii.gz", reporter=Stop())
    assert [path.name for path in tmp_path.iterdir()] == ["case.nii.gz"]


def test_progress_ends_at_its_total(image, tmp_path, tiny_bundle):
    class Heard(Reporter):
        def __init__(self):
            self.last = {}

        def progress(self, stage, done, total):
            self.last[stage] = (done, total)

    heard = Heard()
    segment(image, tiny_bundle, output=tmp_path / "out.nii.gz", reporter=heard)
    assert list(heard.last) == ["read", "inference", "write"]
    assert all(done == total for done, total in heard.last.values())


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda p: p.unlink(), "does not exist"),
        (lambda p: p.write_bytes(b"no image at all"), "cannot be read"),
        (lambda p: p.write_bytes(p.read_bytes()[:300]), "damaged|cannot be read"),
        (lambda p: write(p, np.full((8, 9, 7), 5, np.float32)), "the same value in every voxel"),
        (lambda p: write(p, np.zeros((1, 9, 7), np.float32)), "single slice"),
    ],
)
def test_bad_images_are_named(image, tmp_path, tiny_bundle, spoil, sentence):
    spoil(image)
    with pytest.raises(BadInput, match=sentence) as caught:
        segment(image, tiny_bundle, output=tmp_path / "out.nii.gz")
    assert "case.nii.gz" in caught.value.message
    assert not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "tpu:0"])
def test_no_such_device(image, tiny_bundle, device):
    with pytest.raises(BadInput, match="device") as caught:
        segment(image, tiny_bundle, device=device)
    assert caught.value.code == "no-device"
