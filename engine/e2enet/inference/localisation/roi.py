"""A region of interest that a person gives: six numbers, or a markups file of 3D Slicer.

Coordinates are LPS in mm, as in DICOM, SimpleITK and Slicer's own files. (Slicer's panels show RAS:
there the first two numbers have the opposite sign.)
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from e2enet.data.images.volume import Grid
from e2enet.events import BadInput

_HELP = "Give x0,y0,z0,x1,y1,z1 in mm (LPS), or a markups ROI saved by 3D Slicer (.mrk.json)."


@dataclass(frozen=True)
class Roi:
    """A box in the patient, possibly rotated.

    Attributes:
        text: As the person gave it.
        corners: (8, 3) mm, LPS.
        name: Of the model's locator box that it stands for, or None.
        file: The markups file that it was read from, or None.
    """

    text: str
    corners: np.ndarray
    name: str | None = None
    file: Path | None = None

    def slices(self, grid: Grid) -> tuple[slice, slice, slice]:
        """The voxels (z, y, x) that the smallest box around it along a grid's axes touches.

        Raises:
            BadInput: It lies outside the grid.
        """
        matrix = np.reshape(grid.direction, (3, 3)) * np.asarray(grid.spacing_xyz)
        index = np.linalg.solve(matrix, (self.corners - np.asarray(grid.origin_xyz)).T).T
        # A voxel reaches half its size to both sides of its centre. Headers hold single precision,
        # so a thousandth of a voxel is no touch.
        low = np.floor(np.round(index.min(axis=0) + 0.5, 3)).astype(int)
        high = np.ceil(np.round(index.max(axis=0) + 0.5, 3)).astype(int)
        low, high = np.maximum(low, 0), np.minimum(high, grid.size_xyz)
        if (low >= high).any():
            corners = grid.corners()
            extent = " to ".join(
                "(" + ", ".join(f"{v:.0f}" for v in limit) + ")"
                for limit in (corners.min(axis=0), corners.max(axis=0))
            )
            raise BadInput(
                f"The region of interest {self.text} lies outside the image.",
                help=f"The image reaches from {extent} mm (LPS).",
                code="roi-outside",
            )
        depth, height, width = (
            slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True)
        )
        return depth, height, width


def parse_roi(text: str | os.PathLike[str] | Sequence[float], names: Sequence[str] = ()) -> Roi:
    """Read a region of interest.

    Args:
        text: `x0,y0,z0,x1,y1,z1` (two opposite corners, in any order), a path of a `.mrk.json`
            file, or either after `NAME:`; from Python also six numbers.
        names: Boxes of the model's locator that may be named.

    Raises:
        BadInput: Neither, an unknown name, or a box without extent.
    """
    if not isinstance(text, (str, os.PathLike)):
        text = ",".join(str(float(v)) for v in text)
    whole = text = os.fspath(text)
    name = None
    head, colon, rest = text.partition(":")
    known = {one.lower(): one for one in names}
    if colon and head.strip().lower() in known:
        name, text = known[head.strip().lower()], rest.strip()
    elif colon and len(head.strip()) > 1 and not Path(text).exists():
        # One letter is a drive of Windows.
        choice = f"it has {', '.join(names)}" if names else "it has no named regions"
        raise BadInput(
            f"The model has no region {head.strip()!r} ({choice}).", help=_HELP, code="bad-roi"
        )
    if text.lower().endswith(".json"):
        return Roi(whole, _markups_corners(Path(text)), name, Path(text))
    try:
        numbers = [float(v) for v in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 6 or not all(math.isfinite(v) for v in numbers):
        raise BadInput(f"{whole!r} is no region of interest.", help=_HELP, code="bad-roi")
    if any(a == b for a, b in zip(numbers[:3], numbers[3:], strict=True)):
        raise BadInput(f"The region of interest {whole} is empty.", help=_HELP, code="bad-roi")
    corners = itertools.product(*zip(numbers[:3], numbers[3:], strict=True))
    return Roi(whole, np.array(list(corners)), name)


def _markups_corners(path: Path) -> np.ndarray:
    def wrong(what: str) -> BadInput:
        return BadInput(f"{path.name} {what}.", help=_HELP, code="bad-roi")

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        found = [m for m in content["markups"] if m.get("type") == "ROI"]
    except FileNotFoundError:
        raise wrong("does not exist") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise wrong("cannot be read as a markups file") from None
    if len(found) != 1:
        raise wrong(f"holds {len(found)} regions of interest; one is needed")
    markup = found[0]
    center = _numbers(markup.get("center"), 3)
    size = _numbers(markup.get("size"), 3)
    axes = _numbers(markup.get("orientation", [1, 0, 0, 0, 1, 0, 0, 0, 1]), 9)
    # Files of early versions have 0 for RAS and 1 for LPS.
    system = {"0": "RAS", "1": "LPS"}.get(
        str(markup.get("coordinateSystem", "LPS")), markup.get("coordinateSystem", "LPS")
    )
    if center is None or size is None or axes is None or system not in ("LPS", "RAS"):
        raise wrong("holds a region of interest without a usable centre, size and orientation")
    if markup.get("coordinateUnits", "mm") != "mm":
        raise wrong(f"is in {markup['coordinateUnits']}, not in mm")
    if min(size) <= 0:
        raise wrong("holds a region of interest without extent")
    halves = np.array(list(itertools.product((-0.5, 0.5), repeat=3))) * size
    corners = np.asarray(center) + halves @ np.reshape(axes, (3, 3)).T
    return corners * (-1, -1, 1) if system == "RAS" else corners


def _numbers(values: Any, count: int) -> list[float] | None:
    try:
        numbers = [float(v) for v in values]
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(math.isfinite(v) for v in numbers) else None
