"""Where in an image the network looks: everywhere, in a given region, or in a locator's boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from e2enet.bundle import Bundle, Label
from e2enet.data.images.volume import Grid, Volume
from e2enet.data.planning.plan import Plan
from e2enet.data.preprocessing.cases import Geometry, prepare
from e2enet.data.preprocessing.resampling import coarse_axis
from e2enet.events import BadInput, Reporter
from e2enet.inference.case.axes import Axis
from e2enet.inference.localisation.locator import Box, Locator, locate
from e2enet.inference.localisation.roi import Roi

Slices = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Region:
    """A part of an image in canonical orientation, and what its labels become.

    Attributes:
        name: Of the locator's box, or "".
        inside: Voxels (z, y, x) of the canonical grid.
        labels: What each foreground class becomes in the label map.
        cropped: The model was trained on such crops: prepare the crop as if it were the image.
            Otherwise the whole image is prepared and only windows round the region are run.
        mirror: Flip the crop left-right on its way in and out.
        one_piece: Keep only the largest connected part of what is found.
    """

    name: str
    inside: Slices
    labels: tuple[Label, ...]
    cropped: bool = False
    mirror: bool = False
    one_piece: bool = False

    def distance(self, at: Sequence[int]) -> float:
        """Squared distance of a voxel (z, y, x) from the region's middle, in its half sizes."""
        return sum(
            ((2 * k - part.start - part.stop + 1) / (part.stop - part.start)) ** 2
            for k, part in zip(at, self.inside, strict=True)
        )

    def to_dict(self, grid: Grid) -> dict[str, Any]:
        """For the manifest: name and extent in voxels of the input in canonical orientation."""
        first = [int(part.start) for part in reversed(self.inside)]
        size = [int(part.stop - part.start) for part in reversed(self.inside)]
        matrix = np.reshape(grid.direction, (3, 3)) * np.asarray(grid.spacing_xyz)
        center = matrix @ (np.add(first, np.subtract(size, 1) / 2)) + np.asarray(grid.origin_xyz)
        return {
            "name": self.name,
            "center_mm_lps": [round(float(v), 3) for v in center],
            "size_mm": [
                round(n * s, 3) for n, s in zip(size, grid.spacing_xyz, strict=True)
            ],
        }  # fmt: skip


def find_regions(
    volumes: Sequence[Volume], bundle: Bundle, rois: Sequence[Roi], reporter: Reporter
) -> list[Region]:
    """The regions of a case (volumes in canonical orientation) for a model.

    A region of interest wins over the locator. With a locator and an image that is larger than a
    crop, the boxes are searched for in the first channel.

    Raises:
        BadInput: A region outside the image, several without names, or nothing was located.
    """
    grid = volumes[0].grid
    labels = tuple(bundle.labels)
    locator = Locator.from_dict(bundle.locator, bundle.path) if bundle.locator else None
    if rois:
        if len(rois) > 1 and len({roi.name for roi in rois} - {None}) < len(rois):
            raise BadInput(
                "Several regions of interest need different names of the model's regions.",
                help="Write NAME:REGION, "
                + (f"with {' or '.join(_names(bundle))}." if locator else "for a locator model."),
                code="bad-roi",
            )
        chosen = {roi.name: roi for roi in rois}
        if None in chosen or locator is None:
            return [Region("", rois[0].slices(grid), labels, cropped=locator is not None)]
        return [
            _boxed(box, chosen[box.name].slices(grid), number, labels)
            for number, box in enumerate(locator.boxes)
            if box.name in chosen
        ]
    whole = tuple(slice(0, n) for n in grid.shape)
    if locator is None or locator.is_crop(grid):
        return [Region("", whole, labels, cropped=locator is not None)]  # type: ignore[arg-type]
    boxes = locate(volumes[0], locator, reporter=reporter)
    return [_boxed(box, box.slices(grid), k, labels) for k, box in enumerate(boxes)]


def result_labels(regions: Sequence[Region]) -> list[Label]:
    """All labels that the regions' label map may hold; what was not looked at has none."""
    return [label for region in regions for label in region.labels]


def _names(bundle: Bundle) -> list[str]:
    return [str(box["name"]) for box in (bundle.locator or {}).get("boxes", [])]


def _boxed(box: Box, inside: Slices, number: int, labels: tuple[Label, ...]) -> Region:
    values = {label.value: number * len(labels) + place for place, label in enumerate(labels, 1)}
    named = tuple(
        replace(
            label,
            value=values[label.value],
            values=tuple(values[value] for value in label.values),
            name=f"{box.name} {label.name}",
            color=_tint(label.color, number),
            terminology=_with_side(label.terminology, box.name),
        )
        for label in labels
    )
    return Region(box.name, inside, named, cropped=True, mirror=box.mirror, one_piece=box.one_piece)


def _tint(color: tuple[int, int, int], number: int) -> tuple[int, int, int]:
    """The colour, a little lighter with every box, so that sides can be told apart."""
    share = 0.35 * number / (1 + 0.35 * number)
    red, green, blue = (round(c + (255 - c) * share) for c in color)
    return red, green, blue


_SIDES = {
    "left": {"scheme": "SCT", "code": "7771000", "meaning": "Left"},
    "right": {"scheme": "SCT", "code": "24028007", "meaning": "Right"},
}


def _with_side(terminology: dict[str, Any], name: str) -> dict[str, Any]:
    """The codes with a laterality modifier (SNOMED CT), for boxes called Left and Right."""
    side = _SIDES.get(name.lower())
    if not terminology or side is None:
        return terminology
    return {**terminology, "modifier": side}


@dataclass(frozen=True)
class Job:
    """A region, ready for the predictor.

    Attributes:
        region: What it is.
        image: (C, D, H, W) float32 that the windows run over.
        axes: From the image's voxels to the output's, along D, H, W.
        transpose: D, H, W as canonical axes.
        target: Output voxels (z, y, x) in canonical orientation; empty where the region holds
            nothing but background.
    """

    region: Region
    image: np.ndarray
    axes: tuple[Axis, Axis, Axis]
    transpose: tuple[int, int, int]
    target: Slices

    @property
    def empty(self) -> bool:
        """Whether nothing of it lies in the image."""
        return any(part.stop <= part.start for part in self.target)

    def view(self, array: np.ndarray) -> np.ndarray:
        """The voxels of the job in a canonical array (..., z, y, x), as (..., D, H, W)."""
        inside: Any = (..., *self.target)
        return self.turned(array[inside])

    def overlap(self, box: Slices) -> tuple[Slices, Slices] | None:
        """What the job and a box (z, y, x) of the canonical grid share.

        Returns:
            Its voxels (z, y, x) in the box and (D, H, W) in the job, or None where there are none.
        """
        low = [max(t.start, b.start) for t, b in zip(self.target, box, strict=True)]
        high = [min(t.stop, b.stop) for t, b in zip(self.target, box, strict=True)]
        if any(h <= first for first, h in zip(low, high, strict=True)):
            return None
        theirs = [slice(a - b.start, z - b.start) for a, z, b in zip(low, high, box, strict=True)]
        own = [
            slice(a - t.start, z - t.start) for a, z, t in zip(low, high, self.target, strict=True)
        ]
        if self.region.mirror:
            width = self.target[2].stop - self.target[2].start
            own[2] = slice(width - own[2].stop, width - own[2].start)
        depth, height, columns = (own[axis] for axis in self.transpose)
        return (theirs[0], theirs[1], theirs[2]), (depth, height, columns)

    def turned(self, part: np.ndarray) -> np.ndarray:
        """An array (..., z, y, x) of the job's own voxels as (..., D, H, W)."""
        if self.region.mirror:
            part = part[..., ::-1]
        first = part.ndim - 3
        return part.transpose([*range(first), *(first + axis for axis in self.transpose)])


def prepare_region(volumes: Sequence[Volume], region: Region, plan: Plan) -> Job:
    """Prepare a region of a case (volumes in canonical orientation) for the network.

    Raises:
        BadInput: The channels do not fit the plan, or there is nothing to see.
    """
    offset = (0, 0, 0)
    if region.cropped:
        offset = tuple(part.start for part in region.inside)  # type: ignore[assignment]
        volumes = [_crop(volume, region) for volume in volumes]
    prepared = prepare(volumes, plan)
    geometry = prepared.geometry
    nearest = coarse_axis(geometry.source_spacing, plan.spacing)
    axes = [
        Axis.between(n_in, n_out, nearest=axis == nearest)
        for axis, (n_in, n_out) in enumerate(
            zip(geometry.shape, geometry.source_shape, strict=True)
        )
    ]
    if region.cropped:
        crop = list(geometry.crop)
        if region.mirror:
            width = geometry.canonical_shape[2]
            crop[2] = (width - crop[2][1], width - crop[2][0])
        target = tuple(
            slice(o + low, o + high) for o, (low, high) in zip(offset, crop, strict=True)
        )
        return Job(region, prepared.array, tuple(axes), geometry.transpose, target)  # type: ignore[arg-type]
    return _part(region, prepared.array, axes, geometry, plan)


def _part(
    region: Region, image: np.ndarray, axes: Sequence[Axis], geometry: Geometry, plan: Plan
) -> Job:
    """Only the part of a prepared image round the region: at least a patch, for context."""
    target = tuple(
        slice(max(part.start, low), min(part.stop, high))
        for part, (low, high) in zip(region.inside, geometry.crop, strict=True)
    )
    chosen, cuts = [], []
    for axis, canonical in enumerate(geometry.transpose):
        low = geometry.crop[canonical][0]
        part = target[canonical]
        if part.stop <= part.start:
            return Job(region, image, tuple(axes), geometry.transpose, target)  # type: ignore[arg-type]
        inner = axes[axis].part(part.start - low, part.stop - low)
        first, last = _widened(inner.span, plan.patch[axis], image.shape[1 + axis])
        chosen.append(inner.moved(first))
        cuts.append(slice(first, last))
    inside: Any = (slice(None), *cuts)
    return Job(region, image[inside], tuple(chosen), geometry.transpose, target)  # type: ignore[arg-type]


def _widened(span: tuple[int, int], patch: int, size: int) -> tuple[int, int]:
    """A quarter patch of context on both sides and at least a patch, inside 0 … size."""
    margin = max(patch // 4, -(-(patch - (span[1] - span[0])) // 2))
    first, last = max(0, span[0] - margin), min(size, span[1] + margin)
    if last - first < patch:  # at a border: more on the other side
        first = max(0, min(first, size - patch))
        last = min(size, max(last, patch))
    return first, last


def _crop(volume: Volume, region: Region) -> Volume:
    array = volume.array[region.inside]
    if region.mirror:
        array = array[..., ::-1]
    return Volume(array, volume.grid.part(region.inside), volume.name, volume.warnings)
