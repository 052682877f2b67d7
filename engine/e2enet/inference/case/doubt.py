"""Reasons to doubt a result that can be seen in it: a model can fail without a word.

Volumes are held against those of the training cases, sides against each other, and what was found
in a located box against the box's faces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from e2enet.bundle import Label
from e2enet.data.images.volume import Grid
from e2enet.inference.localisation.regions import Region

UNUSUAL = 1.5  # times beyond the range of the training cases
SIDES = 2.0  # how many times larger one side may be than the other
FACE_MM2 = 20.0  # of a box's face that a structure may cover

Code = Literal["unusual-volume", "sides-differ", "cut-off"]


@dataclass(frozen=True)
class Doubt:
    """A reason to doubt a result.

    Attributes:
        code: What kind.
        labels: The label values that it concerns.
        message: For a person; a part of a sentence.
    """

    code: Code
    labels: tuple[int, ...]
    message: str


def find_doubts(
    canvas: np.ndarray,
    grid: Grid,
    *,
    labels: Sequence[Label],
    volumes_ml: Mapping[int, float],
    regions: Sequence[Region],
    pairs: Sequence[tuple[int, int]] = (),
) -> list[Doubt]:
    """Everything about a result that cannot be right, or hardly.

    Args:
        canvas: (z, y, x) label map in canonical orientation.
        grid: Of the canvas.
        labels: What it may hold.
        volumes_ml: Of each label value, in mL.
        regions: Where the model looked.
        pairs: Label values (left, right) of structures that come in pairs.
    """
    doubts = [
        *_unusual(labels, volumes_ml),
        *_uneven(labels, volumes_ml, regions, pairs),
    ]
    for region in regions:
        if region.name and (doubt := _cut(canvas, grid, region)):
            doubts.append(doubt)
    return doubts


def sentence(doubts: Sequence[Doubt]) -> str:
    """One sentence for all doubts: the first of each kind, and how many more structures."""
    parts = []
    for code in dict.fromkeys(doubt.code for doubt in doubts):
        first, *others = [doubt for doubt in doubts if doubt.code == code]
        parts.append(first.message + (f" (and {len(others)} more)" if others else ""))
    return f"This result is doubtful, look at it before you use it: {'; '.join(parts)}."


def _unusual(labels: Sequence[Label], volumes_ml: Mapping[int, float]) -> list[Doubt]:
    doubts = []
    for label in labels:
        if label.usual_ml is None:
            continue
        (low, high), found = label.usual_ml, volumes_ml[label.value]
        if not low / UNUSUAL <= found <= high * UNUSUAL:
            words = (
                f"{label.name} measures {found:.2f} mL, and {low:.2f} to {high:.2f} mL in the "
                "training cases"
            )
            doubts.append(Doubt("unusual-volume", (label.value,), words))
    return doubts


def _uneven(
    labels: Sequence[Label],
    volumes_ml: Mapping[int, float],
    regions: Sequence[Region],
    pairs: Sequence[tuple[int, int]],
) -> list[Doubt]:
    """Sides are two boxes called Left and Right, as a whole, or the pairs of one label map."""
    names = {label.value: label.name for label in labels}
    sides = {region.name.lower(): region for region in regions}
    couples: list[tuple[tuple[int, ...], tuple[int, ...], str, str]] = []
    if {"left", "right"} <= set(sides):
        values = [tuple(one.value for one in sides[side].labels) for side in ("left", "right")]
        couples.append((values[0], values[1], "the left side", "the right side"))
    else:
        couples += [((a,), (b,), names[a], names[b]) for a, b in pairs if {a, b} <= set(names)]
    doubts = []
    for left, right, left_name, right_name in couples:
        one = sum(volumes_ml[value] for value in left)
        other = sum(volumes_ml[value] for value in right)
        if max(one, other) > SIDES * min(one, other):
            words = f"{left_name} measures {one:.2f} mL and {right_name} {other:.2f} mL"
            doubts.append(Doubt("sides-differ", (*left, *right), words))
    return doubts


def _cut(canvas: np.ndarray, grid: Grid, region: Region) -> Doubt | None:
    """Whether the structure goes on beyond the box in which it was looked for."""
    part = canvas[region.inside]
    values = [label.value for label in region.labels]
    touched: set[int] = set()
    for axis in range(3):
        first, second = (s for k, s in enumerate(grid.spacing_zyx) if k != axis)
        for index in (0, -1):
            face = part.take(index, axis=axis)
            held = face[np.isin(face, values)]
            if held.size * first * second > FACE_MM2:
                touched.update(int(value) for value in np.unique(held))
    if not touched:
        return None
    words = f"what was found on the {region.name.lower()} side reaches the border of the region"
    if region.name.lower() not in ("left", "right"):
        words = f"what was found in {region.name} reaches the border of that region"
    return Doubt("cut-off", tuple(sorted(touched)), words + " that was looked at")
