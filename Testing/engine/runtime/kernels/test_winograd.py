"""The transform of kernels, against the products it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from e2enet.runtime.kernels.vectors import LANES
from e2enet.runtime.kernels.winograd import (
    SIZE,
    TAPS,
    TILE,
    A,
    B,
    kernel_matrix,
    plane_matrix,
    transform_kernels,
)

POINTS = (0.0, A, -A, B, -B)


def test_products_at_the_points_are_a_convolution() -> None:
    """Polynomials that agree at five points and in the highest power are the same ones."""
    random = np.random.default_rng(0)
    taps, tile = random.normal(size=TAPS), random.normal(size=TILE)
    # A^T and G are evaluations; what is applied to the input is the transpose of interpolation.
    evaluate = np.array([[p**n for n in range(TILE)] for p in POINTS] + [[0, 0, 0, 1]])
    norms = [np.prod([p - q for q in POINTS if q != p]) for p in POINTS] + [1]
    at_points = (kernel_matrix() @ taps) * norms * (evaluate @ tile)
    power = np.array([[p**n for n in range(SIZE)] for p in POINTS] + [[0] * 5 + [1]])
    np.testing.assert_allclose(np.linalg.solve(power, at_points), np.convolve(taps, tile))


@pytest.mark.parametrize(("first", "last"), [(0, 3), (1, 2), (2, 2)])
def test_kernels_of_some_columns(first: int, last: int) -> None:
    kernels = np.random.default_rng(1).normal(size=(9, 3 * LANES)).astype(np.float32)
    room = np.full(36 * 3 * LANES + 32, 77, np.float32)
    factors = room[16:-16]
    transform_kernels((first, last), plane_matrix(), kernels, factors)
    matrix = kernel_matrix()
    wanted = np.full((36, 3 * LANES), 77.0)
    for column in range(first * LANES, last * LANES):
        taps = kernels[:, column].astype(float).reshape(3, 3)
        wanted[:, column] = (matrix @ taps @ matrix.T).reshape(-1)
    np.testing.assert_allclose(factors.reshape(36, -1), wanted, atol=1e-5)
    np.testing.assert_array_equal(room[:16], 77)
    np.testing.assert_array_equal(room[-16:], 77)
