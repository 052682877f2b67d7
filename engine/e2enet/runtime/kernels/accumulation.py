"""Sums over live connections: the inner loops of the runtime.

Both multiply maps, laid out as [input map][PITCH lanes], by numbers, for WIDE lanes at a time, and
keep what they add up in registers.
"""

from __future__ import annotations

import numpy as np

from e2enet.runtime.kernels.traced import Memory, Register, Whole, add_up, traced

WIDE = 32  # lanes a sum covers
PITCH = 64  # floats from one input map to the next
BLOCK = 8  # output maps that `shared` computes together
ZERO = np.float32(0)


@traced(0)
def single(
    maps: Memory,
    first: Whole,
    factors: Memory,
    at: Whole,
    live: Whole,
    inputs: Memory,
    begin: Whole,
    end: Whole,
    sums: Memory,
    to: Whole,
) -> None:
    """One output map, for two planes of the transform at once.

    Args:
        maps, first: Plane 0 of input map c begins at `first + PITCH * c`, plane 1 WIDE later.
        factors, at, live: A factor an input from `at` on, and for plane 1 `live` later.
        inputs, begin, end: The input maps; an even number.
        sums, to: WIDE sums of each plane are written from here.
    """

    def turn(n: Whole, added: list[Register]) -> list[Register]:
        found = []
        for m, before in ((n, added[:4]), (n + 1, added[4:])):
            i = first + inputs[m] * PITCH
            u, v = factors[at + m], factors[at + live + m]
            found += [
                maps.load(i + 16 * k).fma(factor, before[k])
                for k, factor in enumerate((u, u, v, v))
            ]
        return found

    added = add_up(begin, end, 2, 8, turn)
    for k in range(4):
        sums.store(to + 16 * k, added[k] + added[k + 4])


@traced(0)
def shared(
    maps: Memory,
    first: Whole,
    factors: Memory,
    at: Whole,
    inputs: Memory,
    begin: Whole,
    end: Whole,
    sums: Memory,
    to: Whole,
    stride: Whole,
) -> None:
    """BLOCK output maps that read the same inputs: each input is loaded once for all of them.

    Args:
        maps, first: Input map c begins at `first + PITCH * c`.
        factors, at: BLOCK factors an input, one for each output map, from `at` on.
        inputs, begin, end: The input maps.
        sums, to, stride: WIDE sums of output map r are written from `to + stride * r` on.
    """

    def turn(n: Whole, added: list[Register]) -> list[Register]:
        i = first + inputs[n] * PITCH
        x, y = maps.load(i), maps.load(i + 16)
        found = []
        for r in range(BLOCK):
            u = factors[at + n * BLOCK + r]
            found += [x.fma(u, added[2 * r]), y.fma(u, added[2 * r + 1])]
        return found

    for r, register in enumerate(add_up(begin, end, 1, 2 * BLOCK, turn)):
        sums.store(to + stride * (r // 2) + 16 * (r % 2), register)
