"""The template, moved, rotated, scaled, with other contrasts and inside a skull, is found again."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.data.images.volume import Grid, Volume, read_image
from e2enet.events import BadInput, Reporter
from e2enet.inference.localisation import locator as module
from e2enet.inference.localisation.locator import Box, Locator

REPOSITORY = Path(__file__).resolve().parents[4]
MODEL = REPOSITORY / "Resources" / "Models" / "hippocampus-mr"
RECIPE = REPOSITORY / "engine" / "recipes" / "hippocampus-mr"
ENTRY = json.loads((RECIPE / "metadata.json").read_text(encoding="utf-8"))["locator"]


@pytest.fixture(scope="module")
def locator() -> Locator:
    return Locator.from_dict(ENTRY, MODEL)


@pytest.fixture(scope="module")
def template(locator: Locator) -> sitk.Image:
    return sitk.ReadImage(str(locator.template), sitk.sitkFloat32)


def locate(image: sitk.Image, locator: Locator, **options) -> list[Box]:
    """The boxes in an image of SimpleITK."""
    array = sitk.GetArrayFromImage(image)
    return module.locate(Volume(array, Grid.from_image(image), "scan.nii.gz"), locator, **options)


def similarity(
    degrees: tuple[float, float, float] = (0, 0, 0),
    scale: float = 1.0,
    shift: tuple[float, float, float] = (0, 0, 0),
) -> sitk.Similarity3DTransform:
    """From the template to the image; rotations in degrees about the x, y and z axis."""
    rotation = sitk.Euler3DTransform()
    rotation.SetRotation(*np.deg2rad(degrees))
    transform = sitk.Similarity3DTransform()
    transform.SetCenter((0.0, 18.0, 5.0))
    transform.SetMatrix((np.asarray(rotation.GetMatrix()) * scale).tolist())
    transform.SetTranslation(shift)
    return transform


def moved(
    image: sitk.Image,
    transform: sitk.Transform,
    *,
    spacing: tuple[float, float, float] = (2.0, 2.0, 2.0),
    extent: tuple[float, float, float] = (220, 250, 220),
) -> sitk.Image:
    """The image after a movement, on an axis-aligned grid with another field of view."""
    grid = sitk.Image([round(e / s) for e, s in zip(extent, spacing, strict=True)], sitk.sitkUInt8)
    grid.SetSpacing(spacing)
    grid.SetOrigin((-extent[0] / 2, -extent[1] / 2 + 18, -extent[2] / 2))
    return sitk.Resample(
        image, grid, transform.GetInverse(), sitk.sitkLinear, 0.0, sitk.sitkFloat32
    )


def changed(image: sitk.Image, function) -> sitk.Image:
    array = function(sitk.GetArrayFromImage(image).astype(np.float32))
    result = sitk.GetImageFromArray(array.astype(np.float32))
    result.CopyInformation(image)
    return result


def noisy(array: np.ndarray, share: float = 0.04) -> np.ndarray:
    noise = np.random.default_rng(7).normal(0, share * array.max(), array.shape)
    return array + noise


def inverted(array: np.ndarray) -> np.ndarray:
    """As in T2: what was bright is dark; the air stays dark."""
    return noisy(np.where(array > 5, 260 - array, array)) * 13


def biased(array: np.ndarray) -> np.ndarray:
    """Gamma, and a coil that sees one corner twice as well as the other."""
    z, y, x = np.indices(array.shape) / np.reshape(array.shape, (3, 1, 1, 1))
    return noisy((array / 255) ** 2 * (0.7 + 0.5 * x * y + 0.3 * z))


def with_skull(template: sitk.Image, fat: float = 230) -> sitk.Image:
    """Cerebrospinal fluid, bone and a bright scalp round the brain, a face and a neck below it."""
    padded = sitk.ConstantPad(template, (12, 12, 26), (12, 12, 10))
    brain = sitk.BinaryMorphologicalClosing(padded > 20, [3] * 3)
    distance = sitk.SignedMaurerDistanceMap(brain, squaredDistance=False, useImageSpacing=True)
    d = sitk.GetArrayFromImage(distance)
    z, y, x = np.indices(d.shape)
    left, back, up = padded.GetOrigin()  # the template's axes run to the right, front and top
    x, y, z = left - 2.0 * x, back - 2.0 * y, up + 2.0 * z
    random = np.random.default_rng(3)
    tissue = 130 + 50 * np.sin(x / 8) * np.cos(z / 9)
    neck = (z < -55) & ((x / 60) ** 2 + ((y - 25) / 65) ** 2 < 1) & (d > 5)
    face = (z < -20) & (z > -110) & (y < 0) & (y > -85) & (abs(x) < 50) & (d > 16)

    def build(array: np.ndarray) -> np.ndarray:
        array[(d > 0) & (d < 3)] = 60
        array[(d >= 3) & (d < 9)] = 25
        scalp = (d >= 9) & (d < 16)
        array[scalp] = random.normal(fat, 25, int(scalp.sum()))
        array[neck | face] = tissue[neck | face]
        return noisy(array, 0.02)

    return changed(padded, build)


def errors(boxes: list[Box], locator: Locator, transform: sitk.Transform) -> list[float]:
    """Distances in mm of the boxes' centres from where they belong."""
    return [
        float(np.linalg.norm(np.subtract(found.center_mm, transform.TransformPoint(box.center_mm))))
        for found, box in zip(boxes, locator.boxes, strict=True)
    ]


CASES = {
    "moved and turned": (similarity((20, -10, 15), 1.0, (15, -20, 10)), None),
    "small, inverted contrast": (similarity((-25, 0, 10), 0.85, (0, 10, 0)), inverted),
    "large, gamma and bias field": (similarity((0, 25, 0), 1.15), biased),
}


@pytest.mark.parametrize("name", CASES)
def test_finds_the_boxes_again(name: str, locator: Locator, template: sitk.Image) -> None:
    transform, contrast = CASES[name]
    image = moved(template, transform)
    if contrast is not None:
        image = changed(image, contrast)
    boxes = locate(image, locator)
    assert [box.name for box in boxes] == ["Left", "Right"]
    assert [box.mirror for box in boxes] == [False, True]
    assert max(errors(boxes, locator, transform)) < 3.0


@pytest.mark.parametrize("fat", [230, 1500], ids=["", "fat far brighter than the brain"])
def test_a_skull_and_a_neck_do_not_stretch_the_template(locator, template, fat) -> None:
    transform = similarity((10, 5, -10), 0.92)
    image = moved(with_skull(template, fat), transform, extent=(240, 280, 300))
    boxes = locate(image, locator)
    assert max(errors(boxes, locator, transform)) < 3.0
    assert np.allclose(boxes[0].size_mm, 0.92 * np.array(locator.boxes[0].size_mm), rtol=0.1)


def test_storage_of_the_axes_does_not_matter_and_the_result_repeats(locator, template) -> None:
    """Thick slices, stored sagittally and left-handed; the boxes' edges follow the image's axes."""
    transform = similarity((0, 0, 15), 0.95, (5, 0, 0))
    image = moved(template, transform, spacing=(1.5, 1.5, 4.0))
    stored = sitk.PermuteAxes(image, (2, 0, 1))[::-1, :, :]
    assert np.linalg.det(np.reshape(stored.GetDirection(), (3, 3))) < 0
    boxes = locate(stored, locator)
    assert max(errors(boxes, locator, transform)) < 3.0
    # Turned by 15 degrees: the ellipsoid in the box is a little wider and a little shorter.
    turn = np.abs(np.reshape(transform.GetMatrix(), (3, 3)))
    upright = np.sqrt((turn**2 @ np.square(locator.boxes[0].size_mm)[:, None])[:, 0])
    assert np.allclose(boxes[0].size_mm, upright[[2, 0, 1]], rtol=0.05)
    assert locate(stored, locator) == boxes


def test_refuses_what_is_no_head(locator: Locator) -> None:
    noise = np.random.default_rng(0).normal(100, 10, (50, 60, 50)).astype(np.float32)
    image = sitk.GetImageFromArray(noise)
    image.SetSpacing((3.0, 3.0, 3.0))
    with pytest.raises(BadInput, match=r"scan\.nii\.gz.*not found") as caught:
        locate(image, locator)
    assert "--roi" in caught.value.help
    assert caught.value.code == "not-located"


def test_says_when_it_is_unsure(locator: Locator, template: sitk.Image) -> None:
    class Listener(Reporter):
        warned: list[str] = []  # noqa: RUF012

        def warning(self, code: str, message: str) -> None:
            self.warned.append(code)

    locate(template, replace(locator, sure_score=99.0), reporter=Listener())
    assert Listener.warned == ["location-unsure"]


def test_a_template_that_becomes_another_is_read_again(
    locator: Locator, template: sitk.Image, tmp_path: Path
) -> None:
    own = replace(locator, template=tmp_path / "template.nii.gz")
    own.template.write_bytes(locator.template.read_bytes())
    boxes = locate(template, own)
    sitk.WriteImage(sitk.Shrink(template, (2, 2, 2)), str(own.template))
    assert locate(template, own) != boxes
    own.template.write_bytes(own.template.read_bytes()[:1000])
    with pytest.raises(BadInput, match=r"template\.nii\.gz.*cannot be read"):
        locate(template, own)
    own.template.unlink()
    with pytest.raises(BadInput, match=r"template\.nii\.gz.*cannot be read"):
        locate(template, own)


def test_refuses_a_constant_image(locator: Locator) -> None:
    with pytest.raises(BadInput, match="not found"):
        locate(sitk.Image(40, 40, 40, sitk.sitkInt16), locator)


def test_refuses_a_head_without_the_region(locator: Locator, template: sitk.Image) -> None:
    """The upper part of a head: the template fits, its boxes lie below."""
    with pytest.raises(BadInput, match=r"does not lie inside|not found"):
        locate(template[:, :, 38:], locator)


def test_reports_progress(locator: Locator, template: sitk.Image) -> None:
    class Listener(Reporter):
        seen: list[tuple[str, int, int]] = []  # noqa: RUF012

        def progress(self, stage: str, done: int, total: int) -> None:
            self.seen.append((stage, done, total))

    listener = Listener()
    boxes = locate(template, locator, reporter=listener)
    assert {stage for stage, _, _ in listener.seen} == {"locate"}
    done = [entry[1] for entry in listener.seen]
    assert done == sorted(done)
    assert listener.seen[-1][1] == listener.seen[-1][2]
    # The template is symmetric, and on itself nothing moves.
    assert max(errors(boxes, locator, sitk.Transform())) < 0.5


def test_two_real_heads(locator: Locator, shared: Path) -> None:
    """They lie roughly as the template does."""
    for path in sorted((shared / "data" / "heads").glob("head_*.nii.gz")):
        volume = read_image(path)
        boxes = module.locate(volume, locator)
        for box, there in zip(boxes, locator.boxes, strict=True):
            assert np.linalg.norm(np.subtract(box.center_mm, there.center_mm)) < 15.0
            assert box.share_inside(volume.grid) == pytest.approx(1.0)
            assert all(25 < size < 60 for size in box.size_mm)


class TestBox:
    grid = Grid((20, 30, 40), (2.0, 1.0, 0.5), (-10.0, 5.0, 0.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))

    def test_region_and_slices(self) -> None:
        center = (-10.0 - 2 * 10, 5.0 - 15, 10.0)  # voxel 10, 15, 20
        box = Box("", center, (8.0, 4.0, 3.0))
        assert box.region(self.grid) == ((8, 13, 17), (5, 5, 7))
        array = np.zeros(self.grid.shape)
        assert array[box.slices(self.grid)].shape == (7, 5, 5)
        assert box.share_inside(self.grid) == pytest.approx(1.0)

    def test_is_cut_at_the_border(self) -> None:
        box = Box("", (-10.0, -10.0, 10.0), (8.0, 4.0, 3.0))  # voxel 0, 15, 20
        first, size = box.region(self.grid)
        assert (first[0], size[0]) == (0, 3)
        assert box.share_inside(self.grid) == pytest.approx(2.5 / 4)

    def test_beside_the_image(self) -> None:
        box = Box("", (500.0, -10.0, 10.0), (8.0, 4.0, 3.0))
        assert 0 in box.region(self.grid)[1]
        assert box.share_inside(self.grid) == 0.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "deep"}, "kind"),
        ({"coordinates": "RAS"}, "LPS"),
        ({"boxes": []}, "no boxes"),
        ({"boxes": [{"center_mm": [0, 0, 0], "size_mm": [1, 1, 1]}]}, "no name"),
        ({"boxes": [{**ENTRY["boxes"][0], "size_mm": [1, 0, 1]}]}, "size_mm"),
        ({"boxes": [{**ENTRY["boxes"][0], "center_mm": [1, float("nan"), 1]}]}, "center_mm"),
        ({"boxes": [{**ENTRY["boxes"][0], "mirror": "yes"}]}, "mirror"),
        ({"boxes": [ENTRY["boxes"][0]] * 2}, "same name"),
        ({"crop_max_mm": [70, 80]}, "crop_max_mm"),
        ({"template": "locator/none.nii.gz"}, "missing"),
        ({"template": "../../Samples/MNI152_T1_1mm.nii.gz"}, "outside"),
        ({"template": None}, "template"),
        ({"least_score": "high"}, "least_score"),
    ],
)
def test_a_broken_entry_is_refused(change: dict, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        Locator.from_dict({**ENTRY, **change}, MODEL)
    assert caught.value.code == "bad-locator"


def test_the_shipped_boxes_mirror_each_other(locator: Locator, template: sitk.Image) -> None:
    left, right = locator.boxes
    assert left.center_mm[0] == -right.center_mm[0] > 0  # LPS: left is positive
    assert left.center_mm[1:] == right.center_mm[1:]
    assert left.size_mm == right.size_mm
    array = sitk.GetArrayFromImage(template)
    assert np.array_equal(array, array[:, :, ::-1])
    assert locator.notice is not None
    assert "provided that the above copyright" in locator.notice.read_text(encoding="utf-8")


def test_the_bundle_carries_the_entry() -> None:
    model = MODEL / "model.json"
    assert json.loads(model.read_text(encoding="utf-8"))["locator"] == ENTRY


def test_the_template_is_made_from_the_sample(template: sitk.Image) -> None:
    spec = importlib.util.spec_from_file_location("template", RECIPE / "template.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.make_template(sitk.ReadImage(str(module.HEAD)))
    assert Grid.from_image(made).same_as(Grid.from_image(template))
    difference = sitk.GetArrayFromImage(sitk.Cast(made, sitk.sitkFloat32) - template)
    assert np.abs(difference).max() <= 1  # rounding may differ between processors


def test_a_crop_is_known_by_its_size(locator: Locator) -> None:
    assert locator.is_crop(Grid((35, 51, 36), (1.0, 1.0, 1.0)))
    assert locator.is_crop(Grid((32, 35, 51), (1.0, 1.0, 1.0)))  # axes stored in another order
    assert not locator.is_crop(Grid((35, 51, 36), (3.0, 3.0, 3.0)))
    assert not locator.is_crop(Grid((182, 218, 182), (1.0, 1.0, 1.0)))
