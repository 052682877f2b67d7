"""Climbs a smooth function of a few numbers: the method of Broyden, Fletcher, Goldfarb, Shanno.

Nocedal and Wright, Numerical Optimization (2006), chapter 6, with steps of limited length and
backtracking. SciPy has the same, but takes a quarter of a second to import.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

_ENOUGH = 1e-4  # of the rise that the slope promises
_TRIES = 5  # halvings of a step


def climb(
    function: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    *,
    step: float,
    tolerance: float,
    iterations: int,
) -> tuple[float, np.ndarray]:
    """Look for a local maximum.

    Args:
        function: Value and gradient at a place; -inf where there is nothing.
        start: Where to begin.
        step: Length of the first step, and half of the longest.
        tolerance: Steps shorter than this end the climb.
        iterations: At most.

    Returns:
        The highest value and its place; -inf and the start where there is nothing at the start.
    """
    place = start
    value, slope = function(place)
    if not math.isfinite(value):
        return -math.inf, start
    inverse = None
    for _ in range(iterations):
        steepness = float(np.linalg.norm(slope))
        if steepness == 0:
            break
        if inverse is None:
            inverse = np.eye(start.size) * (step / steepness)
        direction = inverse @ slope
        rise = float(direction @ slope)
        length = float(np.linalg.norm(direction))
        if rise <= 0:
            inverse = None
            continue
        share = min(1.0, 2 * step / length)
        for _ in range(_TRIES):
            there = place + share * direction
            higher, slope_there = function(there)
            if higher >= value + _ENOUGH * share * rise:
                break
            share /= 2
        else:
            break
        moved, turned = there - place, slope - slope_there
        place, value, slope = there, higher, slope_there
        if share * length < tolerance:
            break
        curvature = float(moved @ turned)
        if curvature > 1e-12:
            left = np.eye(start.size) - np.outer(moved, turned) / curvature
            inverse = left @ inverse @ left.T + np.outer(moved, moved) / curvature
    return value, place
