"""Functions that are run once to emit what a kernel does."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from e2enet.runtime.kernels.traced import Memory, Register, Whole, add_up, repeat, traced
from e2enet.runtime.kernels.vectors import LANES, load, smaller, store

FLOATS = np.random.default_rng(0).normal(size=(5, LANES)).astype(np.float32)


@traced(2)
def sum_and_weighted(
    rows: Memory, order: Memory, weights: Memory, begin: Whole, end: Whole
) -> list[Register]:
    def turn(n: Whole, before: list[Register]) -> list[Register]:
        row = rows.load(LANES * order[n])
        return [before[0] + row, row.fma(weights[n], before[1])]

    added, weighted = add_up(begin, end, 2, 2, turn)
    return [added * np.float32(3) - added, weighted]


@numba.njit
def every_second(rows, order, weights, begin, end, out):
    added, weighted = sum_and_weighted(rows, order, weights, begin, end)
    store(out, 0, added)
    store(out, LANES, weighted)


@pytest.mark.parametrize(("begin", "end"), [(0, 5), (1, 5), (0, 4), (3, 3), (4, 2)])
def test_a_loop_adds_up_in_registers(begin: int, end: int) -> None:
    order, weights = np.array([4, 0, 3, 1, 2]), np.arange(5, dtype=np.float32)
    out = np.full(2 * LANES, np.nan, np.float32)
    every_second(FLOATS, order, weights, begin, end, out)
    chosen = range(begin, end, 2)
    added = sum((FLOATS[order[n]] for n in chosen), np.zeros(LANES))
    weighted = sum((weights[n] * FLOATS[order[n]] for n in chosen), np.zeros(LANES))
    np.testing.assert_allclose(out, [*2 * added, *weighted], atol=1e-5)


@traced(1)
def doubled(register: Register) -> Register:
    return register + register


@traced(0)
def put_both(rows: Memory, half: Whole, first: Register, out: Memory) -> None:
    both = (first, doubled.trace(rows.load(half // 2)))
    for n, register in enumerate(both):
        out.store(half.constant(n * LANES), register)


@numba.njit
def put(rows, out):
    put_both(rows, 2 * LANES, doubled(load(rows, 0)), out)
    return smaller(3, len(rows)), smaller(len(rows), 3), smaller(-1, 1)


def test_one_that_is_traced_uses_another() -> None:
    out = np.zeros(2 * LANES, np.float32)
    assert put(FLOATS, out) == (3, 3, -1)
    np.testing.assert_array_equal(out, 2 * FLOATS[:2].reshape(-1))


@traced(0)
def put_turned(rows: Memory, count: Whole, out: Memory) -> None:
    def turn(n: Whole, k: Whole) -> None:
        out.store(LANES * (n + k * count), rows.load(LANES * (n * 2 // 2 % 4)))

    repeat(count, lambda n: repeat(n.constant(2), lambda k: turn(n, k)))


@numba.njit
def put_all(rows, count, out):
    put_turned(rows, count, out)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_loops_in_loops(count: int) -> None:
    out = np.zeros((2 * count + 1, LANES), np.float32)
    put_all(FLOATS, count, out)
    wanted = FLOATS[np.arange(count) % 4]
    np.testing.assert_array_equal(out, [*wanted, *wanted, np.zeros(LANES)])
