"""The minimal-filtering transforms F(4 x 4, 3 x 3): 36 multiplications where 144 would be needed.

A 3 x 3 convolution of a 4 x 4 output tile becomes an elementwise product of the transformed
6 x 6 input tile and the transformed 6 x 6 kernel (S. Winograd 1980; A. Lavin, S. Gray, arXiv
1509.09308). The transforms are linear and act on each map by itself, so a dead connection stays
dead: the sum over input maps between them runs over live connections only. An input map is
transformed once for all output maps that read it.

The interpolation points are 0, +-A, +-B and infinity. These A and B are exact in float32 and keep
its rounding within three times that of the direct sum (measured; A = 1, B = 2: seven times).
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from e2enet.runtime.kernels.pairs import store_pairs
from e2enet.runtime.kernels.vectors import (
    LANES,
    fma,
    kernel,
    load,
    splat,
    store,
)

TILE, TAPS, SIZE = 4, 3, 6  # output, kernel and input edge
A, B = 0.75, 1.5


def kernel_matrix() -> np.ndarray:
    """G (6, 3): a transformed kernel is G w G^T."""
    points = [0.0, A, -A, B, -B]
    rows = []
    for point in points:
        norm = np.prod([point - other for other in points if other != point])
        rows.append([1 / norm, point / norm, point * point / norm])
    return np.array([*rows, [0.0, 0.0, 1.0]])


def plane_matrix() -> np.ndarray:
    """(36, 9) float32: its product with a flat kernel is the flat transformed kernel."""
    matrix = kernel_matrix()
    return np.kron(matrix, matrix).astype(np.float32)


def _put(factors, at, value):
    """Store sixteen factors from the `at`-th on, as float32 or as pairs of bfloat16."""


@overload(_put)
def _put_as(factors, at, value):
    if factors.dtype == types.int32:
        return lambda factors, at, value: store_pairs(factors, at // 2, value)
    return lambda factors, at, value: store(factors, at, value)


@kernel
def transform_kernels(
    columns,  # (first, last) of this thread, in vectors
    matrix,  # plane_matrix()
    kernels,  # (9, padded to vectors)
    factors,  # (36, as kernels) float32, or int32: half as many pairs of bfloat16
):
    """Transform kernels, one a column."""
    size = kernels.shape[1]
    for column in range(columns[0] * LANES, columns[1] * LANES, LANES):
        for plane in range(len(matrix)):
            value = splat(np.float32(0))
            for tap in range(matrix.shape[1]):
                value = fma(load(kernels, tap * size + column), splat(matrix[plane, tap]), value)
            _put(factors, plane * size + column, value)
