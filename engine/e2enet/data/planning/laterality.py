"""Which axes may be mirrored, judged from the labels' names.

A mirrored patient is a plausible patient as long as "left kidney" and "right kidney" change
places. Names are read conservatively: where a side has no partner, or where the two sides are not
mirror images of each other (ventricles of the heart), left-right mirroring is off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SIDES = {"left": "left", "right": "right", "lh": "left", "rh": "right"}
# Only as the first or last part of a name: "kidney_l", "L Parotid".
_SHORT_SIDES = {"l": "left", "r": "right", "lt": "left", "rt": "right"}
# Two structures that share a name but are not mirror images of each other.
_UNLIKE = {
    "atrium", "atrial", "auricle", "ventricle", "ventricular", "heart", "cardiac", "coronary",
    "lobe", "colon", "liver", "hepatic", "bronchus", "lung",
}  # fmt: skip
_TWINS_AFTER_ALL = {"lateral", "brain", "frontal", "temporal", "parietal", "occipital"}
# Pairs of names that tell two places along one canonical array axis (z, y, x) apart.
_PLACES = (
    (0, "superior", "inferior"),
    (0, "upper", "lower"),
    (1, "anterior", "posterior"),
    (1, "ventral", "dorsal"),
)


def mirroring(labels: Mapping[str, int]) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Axes that may be mirrored, and the labels that left-right mirroring swaps.

    Args:
        labels: {name: value}, background included or not.

    Returns:
        (axes, pairs): canonical array axes (0 = z, 1 = y, 2 = x, left-right) in ascending order;
        pairs (left value, right value). Axis 2 is missing where a side has no partner. Axes 0
        and 1 are missing where two labels differ in nothing but superior/inferior or
        anterior/posterior: there the place along the axis is what tells them apart.
    """
    parts = {name: _parts(name) for name, value in labels.items() if value != 0}
    axes = {0, 1, 2}
    for axis, one, other in _PLACES:
        if any(
            one in words and tuple(other if w == one else w for w in words) in parts.values()
            for words in parts.values()
        ):
            axes.discard(axis)

    sides: dict[tuple[str, ...], dict[str, int]] = {}
    possible = True
    for name, words in parts.items():
        found = _side(words)
        if found is None:
            continue
        side, rest = found
        unlike = set(rest) & _UNLIKE and not set(rest) & _TWINS_AFTER_ALL
        if unlike or side == "both" or side in sides.setdefault(rest, {}):
            possible = False
        else:
            sides[rest][side] = labels[name]
    if not possible or any(len(pair) != 2 for pair in sides.values()):
        axes.discard(2)
        return tuple(sorted(axes)), ()
    pairs = sorted((pair["left"], pair["right"]) for pair in sides.values())
    return tuple(sorted(axes)), tuple(pairs)


def unpaired(labels: Mapping[str, int]) -> list[str]:
    """Names of one side whose other side has no label."""
    sides: dict[tuple[str, ...], dict[str, str]] = {}
    for name, value in labels.items():
        if value and (found := _side(_parts(name))):
            side, rest = found
            sides.setdefault(rest, {})[side] = name
    return [
        next(iter(pair.values())) for pair in sides.values() if set(pair) in ({"left"}, {"right"})
    ]


def _parts(name: str) -> tuple[str, ...]:
    """Lower-case words of a name: "LeftParotid", "left_parotid" -> ("left", "parotid")."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return tuple(re.findall(r"[a-z]+|[0-9]+", spaced.lower()))


def _side(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]] | None:
    """("left" | "right" | "both", the other words), or None for a name without a side."""
    found = [(i, _SIDES[word]) for i, word in enumerate(words) if word in _SIDES]
    if not found and len(words) > 1:
        ends = (0, len(words) - 1)
        found = [(i, _SHORT_SIDES[words[i]]) for i in ends if words[i] in _SHORT_SIDES]
    if not found:
        return None
    if len(found) > 1:
        return "both", words
    at, side = found[0]
    return side, words[:at] + words[at + 1 :]
