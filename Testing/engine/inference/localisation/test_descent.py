"""Tops of functions that are known."""

from __future__ import annotations

import math

import numpy as np
from e2enet.inference.localisation.descent import climb


def rosenbrock(at: np.ndarray) -> tuple[float, np.ndarray]:
    """Its top, 0, is at (1, 1), at the end of a bent ridge."""
    x, y = at
    slope = np.array([2 * (1 - x) + 400 * x * (y - x * x), -200 * (y - x * x)])
    return -((1 - x) ** 2) - 100 * (y - x * x) ** 2, slope


def test_follows_a_bent_ridge_to_its_top() -> None:
    value, place = climb(
        rosenbrock, np.array([-1.2, 1.0]), step=0.5, tolerance=1e-9, iterations=200
    )
    assert np.allclose(place, 1, atol=1e-4)
    assert -1e-6 < value <= 0


def test_does_not_step_into_nothing() -> None:
    """Beyond 1 there is nothing, and before it it rises."""

    def cliff(at: np.ndarray) -> tuple[float, np.ndarray]:
        return (float(at[0]) if at[0] < 1 else -math.inf), np.ones(1)

    value, place = climb(cliff, np.zeros(1), step=0.3, tolerance=1e-6, iterations=50)
    assert 0.9 < value == place[0] < 1


def test_stays_where_there_is_nothing_or_nothing_to_gain() -> None:
    start = np.ones(2)
    nothing = climb(lambda at: (-math.inf, at), start, step=1, tolerance=0.1, iterations=9)
    flat = climb(lambda at: (3.0, 0 * at), start, step=1, tolerance=0.1, iterations=9)
    assert nothing[0] == -math.inf
    assert flat[0] == 3.0
    assert all(np.array_equal(found[1], start) for found in (nothing, flat))
