"""Finds where the boxes of a small template lie in a whole image, by affine registration.

A model trained on crops needs its crop. The template and the boxes travel in the bundle; the
template is laid over the image by mutual information, so that the contrast need not agree, and the
boxes are carried along (`registration.py`). Everything happens in physical coordinates: how a file
stores its axes does not matter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from e2enet.data.axes import three
from e2enet.data.images.volume import Grid, Volume, read_image
from e2enet.events import BadInput, Reporter
from e2enet.inference.localisation.information import Affine
from e2enet.inference.localisation.registration import Registration, Template

Vector = tuple[float, float, float]

_SCALES = (0.6, 1.6)  # what a person's head can differ from the template by
_SMALLEST_SHARE = 0.9  # of a box that has to lie inside the image
_ROI_HELP = "Give the region yourself with --roi, or an image that shows the whole structure."


@dataclass(frozen=True)
class Box:
    """A named region, its edges along the axes of a grid.

    Args:
        name: What the box shows, such as "Left".
        center_mm: Centre in physical coordinates (LPS, mm).
        size_mm: Edge lengths along the grid's x, y and z axis, in mm. In a template: along L, P, S.
        mirror: The model knows the mirror image of what is in the box: flip the crop left-right
            (in canonical orientation) before it goes in, and the result back.
        one_piece: The structure is connected: islands beside it are dropped.
    """

    name: str
    center_mm: Vector
    size_mm: Vector
    mirror: bool = False
    one_piece: bool = False

    def region(self, grid: Grid) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """First voxel and number of voxels (x, y, z) of the box on a grid, cut at its borders.

        A box that misses the grid has a size of 0 along some axis.
        """
        matrix = np.reshape(grid.direction, (3, 3)) * np.asarray(grid.spacing_xyz)
        middle = np.linalg.solve(matrix, np.subtract(self.center_mm, grid.origin_xyz))
        voxels = np.asarray(self.size_mm) / np.asarray(grid.spacing_xyz)
        first = np.ceil(middle - voxels / 2 - 1e-6).astype(int)
        last = np.floor(middle + voxels / 2 + 1e-6).astype(int)
        first = np.maximum(first, 0)
        last = np.minimum(last, np.asarray(grid.size_xyz) - 1)
        size = np.maximum(last - first + 1, 0)
        return three(int(v) for v in first), three(int(v) for v in size)

    def slices(self, grid: Grid) -> tuple[slice, slice, slice]:
        """Slices (z, y, x) that cut the box out of a numpy array on a grid."""
        first, size = self.region(grid)
        return three(slice(f, f + n) for f, n in zip(first[::-1], size[::-1], strict=True))

    def share_inside(self, grid: Grid) -> float:
        """How much of the box lies inside a grid's voxels, 0 to 1."""
        matrix = np.reshape(grid.direction, (3, 3)) * np.asarray(grid.spacing_xyz)
        middle = np.linalg.solve(matrix, np.subtract(self.center_mm, grid.origin_xyz))
        voxels = np.asarray(self.size_mm) / np.asarray(grid.spacing_xyz)
        low = np.maximum(middle - voxels / 2, -0.5)
        high = np.minimum(middle + voxels / 2, np.asarray(grid.size_xyz) - 0.5)
        return min(1.0, float(np.prod(np.maximum(high - low, 0) / voxels)))


@dataclass(frozen=True)
class Locator:
    """A template and the boxes in it, as a bundle carries them.

    Args:
        template: Path of the template image; 0 is what does not belong to the structure.
        boxes: Boxes in the template's physical coordinates.
        crop_max_mm: An image no larger than this is a crop already; edges in any order.
        notice: Path of the template's licence notice, or None.
        least_score: Mutual information (in nats) below which the registration is not believed.
            Measured with the MNI152 brain: T1 heads 0.35 to 0.65, heads with large tumours and
            other contrasts 0.18 to 0.42, abdomens 0.06 to 0.12, CTs of the head 0.09 to 0.2.
        sure_score: Below it a warning asks to look at the result.
    """

    template: Path
    boxes: tuple[Box, ...]
    crop_max_mm: Vector
    notice: Path | None = None
    least_score: float = 0.175
    sure_score: float = 0.26
    kind: str = field(default="affine-template", init=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path | str) -> Locator:
        """The "locator" entry of a bundle's model.json.

        Args:
            values: `{"kind": "affine-template", "template": "locator/template.nii.gz", "notice":
                "locator/NOTICE", "coordinates": "LPS", "boxes": [{"name", "center_mm", "size_mm",
                "mirror"?, "one_piece"?}], "crop_max_mm": [x, y, z], "least_score"?,
                "sure_score"?}`.
            folder: The bundle's folder; the paths are relative to it and may not leave it.

        Raises:
            BadInput: An entry is missing or of the wrong kind, or a file is missing.
        """
        folder = Path(folder)

        def fail(what: str) -> BadInput:
            return BadInput(
                f"The locator of the model in {folder} cannot be used: {what}.",
                help="Install the model again.",
                code="bad-locator",
            )

        def vector(entry: Mapping[str, Any], key: str, *, positive: bool) -> Vector:
            numbers = entry.get(key)
            if not isinstance(numbers, Sequence) or isinstance(numbers, str) or len(numbers) != 3:
                raise fail(f"{key} is not a list of three numbers")
            if not all(_is_number(v) and (v > 0 or not positive) for v in numbers):
                raise fail(f"{key} holds {list(numbers)}")
            return three(float(v) for v in numbers)

        def inside(key: str) -> Path:
            name = values.get(key)
            if not isinstance(name, str):
                raise fail(f"{key} names no file")
            path = folder / name
            if not path.resolve().is_relative_to(folder.resolve()):
                raise fail(f"{key} lies outside the model's folder")
            if not path.is_file():
                raise fail(f"{name} is missing")
            return path

        if not isinstance(values, Mapping):
            raise fail("it is not a JSON object")
        if values.get("kind") != "affine-template":
            raise fail(f"its kind is {values.get('kind')!r}, and only affine-template is known")
        if values.get("coordinates") != "LPS":
            raise fail("its coordinates are not said to be LPS")
        entries = values.get("boxes")
        if not isinstance(entries, list) or not entries:
            raise fail("it has no boxes")
        boxes = []
        for entry in entries:
            if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
                raise fail("a box has no name")
            for key in ("mirror", "one_piece"):
                if not isinstance(entry.get(key, False), bool):
                    raise fail(f"{key} is neither true nor false")
            boxes.append(
                Box(
                    entry["name"],
                    vector(entry, "center_mm", positive=False),
                    vector(entry, "size_mm", positive=True),
                    entry.get("mirror", False),
                    entry.get("one_piece", False),
                )
            )
        if len({box.name for box in boxes}) != len(boxes):
            raise fail("two boxes have the same name")
        scores = {}
        for key in ("least_score", "sure_score"):
            scores[key] = values.get(key, getattr(cls, key))
            if not _is_number(scores[key]):
                raise fail(f"{key} is not a number")
        return cls(
            template=inside("template"),
            boxes=tuple(boxes),
            crop_max_mm=vector(values, "crop_max_mm", positive=True),
            notice=inside("notice") if values.get("notice") is not None else None,
            **scores,
        )

    def is_crop(self, grid: Grid) -> bool:
        """Whether an image is so small that it must be a crop already."""
        extent = sorted(n * s for n, s in zip(grid.size_xyz, grid.spacing_xyz, strict=True))
        return all(e <= m for e, m in zip(extent, sorted(self.crop_max_mm), strict=True))


def locate(image: Volume, locator: Locator, *, reporter: Reporter | None = None) -> list[Box]:
    """Lay the template over an image and return its boxes there.

    The same image gives the same boxes to the last digit.

    Args:
        image: Of any size, spacing and orientation.
        locator: Template and boxes.
        reporter: Receives the progress of stage "locate" and a warning where it is unsure.

    Returns:
        One box for each of the locator's, in the image's physical coordinates (LPS, mm), edges
        along the image's own axes. A box may reach a little over the image's border.

    Raises:
        BadInput: Nothing like the template is found, or a box lies outside the image.
    """
    reporter, name = reporter or Reporter(), image.name
    template = _template(locator.template)
    try:
        affine, score = Registration(template, image).run(reporter)
    except RuntimeError as error:  # the images do not overlap, or the image is constant
        raise _not_found(name, "the template could not be laid over it") from error
    scales = np.linalg.svd(affine.matrix, compute_uv=False)
    if score < locator.least_score:
        raise _not_found(name, f"nothing in it resembles the template (score {score:.2f})")
    if scales.min() < _SCALES[0] or scales.max() > _SCALES[1]:
        raise _not_found(
            name, f"the template fits only when scaled by {scales.min():.2f} to {scales.max():.2f}"
        )
    boxes = [_carry(box, affine, image.grid) for box in locator.boxes]
    for box in boxes:
        if box.share_inside(image.grid) < _SMALLEST_SHARE:
            raise _not_found(name, f'the region "{box.name}" does not lie inside it')
    if score < locator.sure_score:
        reporter.warning(
            "location-unsure",
            f"The regions in {name} were found with little certainty (score {score:.2f}): look at "
            "the result, or give the region with --roi.",
        )
    return boxes


def _carry(box: Box, affine: Affine, grid: Grid) -> Box:
    """A template's box in the image.

    The edges are those of the bounding box of the ellipsoid that touches the template box's faces:
    the box itself would grow by its corners under every rotation, and the corners hold nothing.
    """
    along = (
        np.reshape(grid.direction, (3, 3)).T @ affine.matrix
    )  # LPS of the template -> image axes
    size = np.sqrt(((along * np.asarray(box.size_mm)) ** 2).sum(axis=1))
    center = three(float(v) for v in affine(np.array(box.center_mm)))
    return replace(box, center_mm=center, size_mm=three(float(v) for v in size))


def _template(path: Path) -> Template:
    try:
        about = path.stat()
        return _read_template(path, about.st_mtime_ns, about.st_size)
    except (BadInput, OSError) as error:
        raise BadInput(
            f"The template {path} of the model cannot be read.",
            help="Install the model again.",
            code="bad-locator",
        ) from error


@functools.lru_cache(maxsize=2)
def _read_template(path: Path, _changed: int, _size: int) -> Template:
    """Once for the cases of a folder, unless the file has become another."""
    return Template(read_image(path))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _not_found(name: str, why: str) -> BadInput:
    return BadInput(
        f"In {name}, the region the model needs was not found: {why}.",
        help=_ROI_HELP,
        code="not-located",
    )
