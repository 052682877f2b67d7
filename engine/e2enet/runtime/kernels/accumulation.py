"""Sums over live connections: the inner loops of the runtime.

Both multiply maps, laid out as [input map][PITCH lanes], by numbers, for WIDE lanes at a time, and
keep what they add up in registers.
"""

from __future__ import annotations

import numpy as np

from e2enet.runtime.kernels.vectors import (
    fma,
    load,
    part,
    splat,
    store,
)

WIDE = 32  # lanes a sum covers
PITCH = 64  # floats from one input map to the next
BLOCK = 8  # output maps that `shared` computes together
ZERO = np.float32(0)


@part
def single(maps, first, factors, at, live, inputs, begin, end, sums, to):
    """One output map, for two planes of the transform at once.

    Args:
        maps, first: Plane 0 of input map c begins at `first + PITCH * c`, plane 1 WIDE later.
        factors, at, live: A factor an input from `at` on, and for plane 1 `live` later.
        inputs, begin, end: The input maps; an even number.
        sums, to: WIDE sums of each plane are written from here.
    """
    a0 = splat(ZERO)
    a1, b0, b1, c0, c1, d0, d1 = a0, a0, a0, a0, a0, a0, a0
    for n in range(begin, end, 2):
        i = first + PITCH * inputs[n]
        j = first + PITCH * inputs[n + 1]
        u = splat(factors[at + n])
        v = splat(factors[at + live + n])
        a0 = fma(load(maps, i), u, a0)
        a1 = fma(load(maps, i + 16), u, a1)
        b0 = fma(load(maps, i + 32), v, b0)
        b1 = fma(load(maps, i + 48), v, b1)
        u = splat(factors[at + n + 1])
        v = splat(factors[at + live + n + 1])
        c0 = fma(load(maps, j), u, c0)
        c1 = fma(load(maps, j + 16), u, c1)
        d0 = fma(load(maps, j + 32), v, d0)
        d1 = fma(load(maps, j + 48), v, d1)
    store(sums, to, a0 + c0)
    store(sums, to + 16, a1 + c1)
    store(sums, to + 32, b0 + d0)
    store(sums, to + 48, b1 + d1)


@part
def shared(maps, first, factors, at, inputs, begin, end, sums, to, stride):
    """BLOCK output maps that read the same inputs: each input is loaded once for all of them.

    Args:
        maps, first: Input map c begins at `first + PITCH * c`.
        factors, at: BLOCK factors an input, one for each output map, from `at` on.
        inputs, begin, end: The input maps.
        sums, to, stride: WIDE sums of output map r are written from `to + stride * r` on.
    """
    a0 = splat(ZERO)
    a1, a2, a3, a4, a5, a6, a7 = a0, a0, a0, a0, a0, a0, a0
    b0, b1, b2, b3, b4, b5, b6, b7 = a0, a0, a0, a0, a0, a0, a0, a0
    for n in range(begin, end):
        i = first + PITCH * inputs[n]
        x = load(maps, i)
        y = load(maps, i + 16)
        k = at + BLOCK * n
        u = splat(factors[k])
        a0 = fma(x, u, a0)
        b0 = fma(y, u, b0)
        u = splat(factors[k + 1])
        a1 = fma(x, u, a1)
        b1 = fma(y, u, b1)
        u = splat(factors[k + 2])
        a2 = fma(x, u, a2)
        b2 = fma(y, u, b2)
        u = splat(factors[k + 3])
        a3 = fma(x, u, a3)
        b3 = fma(y, u, b3)
        u = splat(factors[k + 4])
        a4 = fma(x, u, a4)
        b4 = fma(y, u, b4)
        u = splat(factors[k + 5])
        a5 = fma(x, u, a5)
        b5 = fma(y, u, b5)
        u = splat(factors[k + 6])
        a6 = fma(x, u, a6)
        b6 = fma(y, u, b6)
        u = splat(factors[k + 7])
        a7 = fma(x, u, a7)
        b7 = fma(y, u, b7)
    store(sums, to, a0)
    store(sums, to + 16, b0)
    store(sums, to + stride, a1)
    store(sums, to + stride + 16, b1)
    store(sums, to + 2 * stride, a2)
    store(sums, to + 2 * stride + 16, b2)
    store(sums, to + 3 * stride, a3)
    store(sums, to + 3 * stride + 16, b3)
    store(sums, to + 4 * stride, a4)
    store(sums, to + 4 * stride + 16, b4)
    store(sums, to + 5 * stride, a5)
    store(sums, to + 5 * stride + 16, b5)
    store(sums, to + 6 * stride, a6)
    store(sums, to + 6 * stride + 16, b6)
    store(sums, to + 7 * stride, a7)
    store(sums, to + 7 * stride + 16, b7)
