"""The slices in a DICOM file: itself, or its frames, and where each of them lies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from e2enet.data.images.dicom.elements import (
    MEASURES,
    PER_FRAME,
    PLANE_ORIENTATION,
    PLANE_POSITION,
    SHARED,
    TRANSFORMATION,
    Elements,
    read_elements,
)
from e2enet.data.images.dicom.headers import Header, numbers, spacing_of
from e2enet.events import BadInput

_POSITION, _ORIENTATION, _SPACING = 0x0020_0032, 0x0020_0037, 0x0028_0030
_INTERCEPT, _SLOPE = 0x0028_1052, 0x0028_1053


@dataclass(frozen=True)
class Slice:
    """One slice of a series.

    Attributes:
        path: Its file.
        frame: Its number in the file, from 0.
        name: What messages call it.
        size: Columns and rows.
        spacing: Of columns and rows in mm.
        position: (3,) of the first voxel in mm, LPS.
        rows: (2, 3) directions of the x and the y axis.
        components: Values a voxel.
        scale: Slope and intercept that a frame has of its own; (1, 0) where it has none.
    """

    path: Path
    frame: int
    name: str
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    position: np.ndarray
    rows: np.ndarray
    components: int
    scale: tuple[float, float] = (1.0, 0.0)


def slices_of(header: Header, name: str) -> list[Slice]:
    """The slices in a file.

    Args:
        header: Of the file.
        name: What messages call the series.

    Raises:
        BadInput: The file holds too few pixels, or does not say where its slices lie or how large
            their pixels are.
    """
    elements = read_elements(header.path)
    if elements is not None:
        _check_length(header, elements, name)
    size, components = header.size[:2], header.components
    if header.frames == 1 and header.position is not None and header.rows is not None:
        if header.spacing is None:
            raise _no_spacing(header, name)
        return [
            Slice(
                header.path, 0, header.path.name, size, header.spacing, header.position,
                header.rows, components,
            )
        ]  # fmt: skip
    groups = elements.sequences.get(PER_FRAME, []) if elements else []
    shared = (elements.item(SHARED) if elements else None) or Elements()
    found = []
    for frame, group in enumerate(groups):
        position = numbers(_of(group, shared, PLANE_POSITION).text(_POSITION), 3)
        rows = numbers(_of(group, shared, PLANE_ORIENTATION).text(_ORIENTATION), 6)
        if position is None or rows is None:
            raise _no_position(header, name)
        spacing = spacing_of(_of(group, shared, MEASURES).text(_SPACING))
        if spacing is None:
            raise _no_spacing(header, name)
        called = f"frame {frame + 1} of {header.path.name}"
        scale = _scale(_of(group, shared, TRANSFORMATION))
        found.append(
            Slice(
                header.path, frame, called, size, spacing, position, rows.reshape(2, 3),
                components, scale,
            )
        )  # fmt: skip
    if len(found) != header.frames:
        raise _no_position(header, name)
    return found


def _of(group: Elements, shared: Elements, tag: int) -> Elements:
    """What a frame says, or else all frames together."""
    return group.item(tag) or shared.item(tag) or Elements()


def _scale(transformation: Elements) -> tuple[float, float]:
    slope = numbers(transformation.text(_SLOPE), 1)
    intercept = numbers(transformation.text(_INTERCEPT), 1)
    return (
        1.0 if slope is None else float(slope[0]),
        0.0 if intercept is None else float(intercept[0]),
    )


def _check_length(header: Header, elements: Elements, name: str) -> None:
    """Refuse a file that holds fewer pixels than it says: the library reads zeros instead."""
    needed = math.ceil(math.prod(header.size) * header.bits / 8)
    if header.components == 1 and elements.pixels is not None and elements.pixels < needed:
        raise BadInput(
            f"{header.path.name} in {name} is damaged: it holds {elements.pixels} of the {needed} "
            "bytes of its pixels.",
            help="Copy or export the series again.",
            code="damaged-file",
        )


def _no_position(header: Header, name: str) -> BadInput:
    slices = "its slice lies" if header.frames == 1 else f"its {header.frames} frames lie"
    return BadInput(
        f"{header.path.name} in {name} does not say where {slices} in the patient.",
        help="Export the series again, with its positions.",
        code="dicom-no-position",
    )


def _no_spacing(header: Header, name: str) -> BadInput:
    return BadInput(
        f"{header.path.name} in {name} does not say how large its pixels are: it has no usable "
        "PixelSpacing.",
        help="Export the series again, with its pixel spacing.",
        code="dicom-no-spacing",
    )
