"""Locator models: each box is cropped, prepared as an image of its own, and put back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.events import BadInput, Reporter
from e2enet.inference import segment
from e2enet.inference.localisation import regions as regions_file
from e2enet.inference.localisation.locator import Box

ORIGIN = np.array((-20.0, 3.0, 50.0))
SHAPE = (16, 22, 40)  # z, y, x
LEFT = (slice(3, 13), slice(4, 18), slice(22, 38))
RIGHT = (slice(2, 12), slice(5, 19), slice(2, 18))


def head() -> np.ndarray:
    random = np.random.default_rng(3)
    coarse = random.normal(size=(4, 6, 10))
    smooth = np.kron(coarse, np.ones((4, 4, 4)))[tuple(slice(n) for n in SHAPE)]
    return (100 + 20 * smooth + random.normal(size=SHAPE)).astype(np.float32)


def write(path: Path, array: np.ndarray, origin=ORIGIN) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetOrigin(tuple(float(v) for v in origin))
    sitk.WriteImage(image, os.fspath(path))
    return path


def box(name: str, part: tuple[slice, ...], mirror: bool = False) -> Box:
    first = np.array([one.start for one in reversed(part)], float)
    size = np.array([one.stop - one.start for one in reversed(part)], float)
    center = ORIGIN + first + (size - 1) / 2
    return Box(name, tuple(center), tuple(size - 0.5), mirror)


def roi(part: tuple[slice, ...]) -> str:
    first = ORIGIN + [one.start for one in reversed(part)]
    last = ORIGIN + [one.stop - 1 for one in reversed(part)]
    return ",".join(str(v) for v in (*(first - 0.4), *(last + 0.4)))


@pytest.fixture
def bundle(make_bundle, tmp_path) -> Path:
    template = write(tmp_path / "template.nii.gz", head())
    return make_bundle(
        locator={
            "kind": "affine-template",
            "template": "locator/template.nii.gz",
            "coordinates": "LPS",
            "boxes": [
                {"name": "Left", "center_mm": [0, 0, 0], "size_mm": [16, 14, 10]},
                {"name": "Right", "center_mm": [9, 0, 0], "size_mm": [16, 14, 10], "mirror": True},
            ],
            "crop_max_mm": [20, 20, 20],
        },
        extra={"locator/template.nii.gz": template},
    )


@pytest.fixture
def located(monkeypatch):
    """Stands for the registration, which has its own tests."""
    boxes = [box("Left", LEFT), box("Right", RIGHT, mirror=True)]
    asked = []

    def locate(image, locator, *, reporter=None):
        asked.append(image.grid)
        return boxes

    monkeypatch.setattr(regions_file, "locate", locate)
    return asked


def test_boxes_become_one_label_map(bundle, located, tmp_path):
    path = write(tmp_path / "head.nii.gz", head())
    result = segment(path, bundle)
    assert [(label.value, label.name) for label in result.labels] == [
        (1, "Left sphere"),
        (2, "Left cube"),
        (3, "Right sphere"),
        (4, "Right cube"),
    ]
    assert result.labels[0].terminology["modifier"]["meaning"] == "Left"
    assert result.labels[2].color != result.labels[0].color
    assert [region["name"] for region in result.manifest["regions"]] == ["Left", "Right"]
    left, right = result.label[LEFT], result.label[RIGHT]
    assert set(np.unique(left)) <= {0, 1, 2}
    assert set(np.unique(right)) <= {0, 3, 4}
    # Each is what the crop gives as an image of its own; the right one mirrored.
    crop = segment(write(tmp_path / "left.nii.gz", head()[LEFT]), bundle)
    np.testing.assert_array_equal(left, crop.label)
    assert [label.name for label in crop.labels] == ["sphere", "cube"]
    turned = segment(write(tmp_path / "right.nii.gz", head()[RIGHT][..., ::-1]), bundle)
    mirrored = turned.label[..., ::-1]
    np.testing.assert_array_equal(right, np.where(mirrored > 0, mirrored + 2, 0))
    outside = result.label.copy()
    outside[LEFT] = outside[RIGHT] = 0
    assert not outside.any()


def test_how_the_head_is_stored_does_not_matter(bundle, located, tmp_path):
    path = write(tmp_path / "head.nii.gz", head())
    expected = segment(path, bundle).label
    turned = sitk.Flip(
        sitk.PermuteAxes(sitk.ReadImage(os.fspath(path)), (2, 0, 1)), (True, False, True)
    )
    other = tmp_path / "turned.nrrd"
    sitk.WriteImage(turned, os.fspath(other))
    back = sitk.GetImageFromArray(segment(other, bundle).label)
    back.CopyInformation(turned)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.DICOMOrient(back, "LPS")), expected)
    assert located[0] == located[1]


def test_probabilities_lie_in_their_boxes(bundle, located, tmp_path):
    path = write(tmp_path / "head.nii.gz", head())
    result = segment(path, bundle, save_probabilities=True)
    for value, part in ((1, LEFT), (4, RIGHT)):
        probability = result.probability(value)
        inside = probability[part].sum()
        assert inside > 0
        assert probability.sum() == pytest.approx(inside)


def test_a_crop_is_not_searched(bundle, located, tmp_path):
    segment(write(tmp_path / "crop.nii.gz", head()[LEFT]), bundle)
    assert not located


def test_named_regions_replace_the_search(bundle, located, tmp_path):
    path = write(tmp_path / "head.nii.gz", head())
    expected = segment(path, bundle).label
    located.clear()
    both = segment(path, bundle, roi=[f"Right:{roi(RIGHT)}", f"Left:{roi(LEFT)}"])
    np.testing.assert_array_equal(both.label, expected)
    only = segment(path, bundle, roi=f"right:{roi(RIGHT)}")
    np.testing.assert_array_equal(only.label, np.where(expected > 2, expected, 0))
    # What was not looked at is not reported: 0 mL on the left would be a statement.
    assert [(one.value, one.name) for one in only.labels] == [
        (3, "Right sphere"), (4, "Right cube")
    ]  # fmt: skip
    assert [one["name"] for one in only.manifest["labels"]] == ["Right sphere", "Right cube"]
    assert not [w for w in only.manifest["warnings"] if "Left" in w["message"]]
    assert not located


def test_a_region_without_a_name_has_the_plain_labels(bundle, located, tmp_path):
    path = write(tmp_path / "head.nii.gz", head())
    expected = segment(path, bundle).label
    result = segment(path, bundle, roi=roi(LEFT))
    np.testing.assert_array_equal(result.label, np.where(expected < 3, expected, 0))
    assert [label.name for label in result.labels] == ["sphere", "cube"]
    with pytest.raises(BadInput, match="different names") as caught:
        segment(path, bundle, roi=[roi(LEFT), roi(RIGHT)])
    assert "Left or Right" in caught.value.help


def test_where_boxes_overlap_the_nearer_one_wins(bundle, monkeypatch, tmp_path):
    wide = (RIGHT[0], RIGHT[1], slice(2, 30))
    boxes = [box("Left", LEFT), box("Right", wide)]
    monkeypatch.setattr(regions_file, "locate", lambda *_args, **_kwargs: boxes)
    path = write(tmp_path / "head.nii.gz", head())
    both = segment(path, bundle).label
    left = segment(path, bundle, roi=f"Left:{roi(LEFT)}").label
    shared = (slice(3, 12), slice(5, 18), slice(22, 30))
    claimed = left[shared] > 0
    assert claimed.any()
    # Close to the left box's middle its label stays.
    z, y, x = np.indices(both.shape)
    middle = [(part.start + part.stop - 1) / 2 for part in LEFT]
    near = (abs(z - middle[0]) < 2) & (abs(y - middle[1]) < 3) & (x == 29)
    np.testing.assert_array_equal(both[near & (left > 0)], left[near & (left > 0)])
    assert set(np.unique(both)) <= {0, 1, 2, 3, 4}


def test_nothing_found_is_a_warning(bundle, located, tmp_path, monkeypatch):
    class Heard(Reporter):
        codes: list[str] = []  # noqa: RUF012

        def warning(self, code, message):
            self.codes.append(code)

    monkeypatch.setattr(
        "e2enet.inference.case.restoring.LabelWriter._write",
        lambda self, plane: setattr(self, "_done", self._done + 1),
    )
    heard = Heard()
    path = write(tmp_path / "head.nii.gz", head())
    result = segment(path, bundle, reporter=heard)
    assert heard.codes == ["nothing-found"]
    assert result.manifest["warnings"][0]["code"] == "nothing-found"
