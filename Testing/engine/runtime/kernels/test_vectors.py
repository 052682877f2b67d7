"""Each instruction on its own."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import torch
from e2enet.runtime.kernels import pairs as instructions
from e2enet.runtime.kernels.pairs import dot, pack, pairs, store_pairs
from e2enet.runtime.kernels.traced import Memory, Whole, traced
from e2enet.runtime.kernels.vectors import (
    LANES,
    deal2,
    deal4,
    fma,
    keep,
    keep_four,
    load,
    load_at,
    maximum,
    peek,
    poke,
    slide,
    slide_up,
    splat,
    store,
    store_at,
    total,
    weave2,
    weave4,
    where_positive,
)
from e2enet.runtime.kernels.voxels import (
    FLOAT,
    HALF,
    read_activated,
    read_activated_one,
    read_four,
    store_some,
    write_four,
    write_one,
    write_some,
)

FLOATS = np.random.default_rng(0).normal(size=(4, LANES)).astype(np.float32)


@numba.njit
def everything(flat, out, address, number):
    a, b, c, d = load(flat, 0), load(flat, 16), load(flat, 32), load_at(address + 192)
    store(out, 0, a + b)
    store(out, 16, a - b)
    store(out, 32, a * b)
    store(out, 48, fma(a, b, c))
    store(out, 64, maximum(a, b))
    store(out, 80, where_positive(a, b, c))
    store(out, 96, slide(a, number))
    store(out, 112, slide_up(number, a))
    store(out, 128, splat(number))
    e, f = deal2(a, b)
    store(out, 144, e)
    store(out, 160, f)
    e, f = weave2(e, f)
    store(out, 176, e)
    store(out, 192, f)
    e, f, g, h = deal4(a, b, c, d)
    store(out, 208, e)
    store(out, 224, f)
    store(out, 240, g)
    store(out, 256, h)
    e, f, g, h = weave4(e, f, g, h)
    store(out, 272, e)
    store(out, 288, f)
    store(out, 304, g)
    store(out, 320, h)
    return total(a), peek(address + 4)


def test_arithmetic_and_order() -> None:
    flat = FLOATS.reshape(-1).copy()
    a, b, c, _ = FLOATS
    out = np.full(336, np.nan, np.float32)
    added, second = everything(flat, out, flat.ctypes.data, np.float32(7))
    rows = out.reshape(-1, LANES)
    np.testing.assert_array_equal(rows[0], a + b)
    np.testing.assert_array_equal(rows[1], a - b)
    np.testing.assert_array_equal(rows[2], a * b)
    once = (a.astype(float) * b + c).astype(np.float32)
    np.testing.assert_allclose(rows[3], once, rtol=1e-7)
    np.testing.assert_array_equal(rows[4], np.maximum(a, b))
    np.testing.assert_array_equal(rows[5], np.where(a > 0, b, c))
    np.testing.assert_array_equal(rows[6], [*a[1:], 7])
    np.testing.assert_array_equal(rows[7], [7, *a[:-1]])
    np.testing.assert_array_equal(rows[8], np.full(LANES, 7))
    np.testing.assert_array_equal(rows[9:11].T.reshape(-1), flat[:32])
    np.testing.assert_array_equal(rows[11:13].reshape(-1), flat[:32])
    np.testing.assert_array_equal(rows[13:17].T.reshape(-1), flat)
    np.testing.assert_array_equal(rows[17:21].reshape(-1), flat)
    assert added == pytest.approx(float(a.sum()), abs=1e-5)
    assert second == a[1]


@numba.njit
def edges(flat, out, address, count):
    store(out, 0, keep(load(flat, 0), count))
    store_some(address, load(flat, 0), count)


@pytest.mark.parametrize("count", [-5, *range(19), 64])
def test_a_part_of_a_vector(count: int) -> None:
    """Lanes of garbage vanish, and nothing behind the part is written."""
    first = min(max(count, 0), LANES)
    flat, out = FLOATS[0].copy(), np.zeros(LANES, np.float32)
    flat[first:] = np.nan
    target = np.full(3 * LANES, 5, np.float32)
    edges(flat, out, target[LANES:].ctypes.data, count)
    np.testing.assert_array_equal(out, [*flat[:first], *np.zeros(LANES - first)])
    np.testing.assert_array_equal(target[LANES : LANES + first], flat[:first])
    target[LANES : LANES + first] = 5
    np.testing.assert_array_equal(target, np.full(3 * LANES, 5))


@numba.njit
def written(address, flat):
    poke(address, flat[3])
    store_at(address + 4, load(flat, 0))


def test_writing_to_an_address() -> None:
    target = np.zeros(LANES + 3, np.float32)
    written(target.ctypes.data + 4, FLOATS[1])
    np.testing.assert_array_equal(target, [0, FLOATS[1, 3], *FLOATS[1], 0])


@numba.njit
def of_no_number(flat, out):
    store(out, 0, maximum(load(flat, 0), load(flat, 0) * splat(np.float32(0.01))))


def test_what_is_no_number_passes_the_leaky_relu() -> None:
    out = np.zeros(LANES, np.float32)
    of_no_number(np.full(LANES, np.nan, np.float32), out)
    assert np.isnan(out).all()


@numba.njit
def halves(source, target, flat, count):
    one, nothing = np.float32(1), np.float32(0)
    store(flat, 0, read_activated(HALF, source, splat(one), splat(nothing), splat(one)))
    write_some(HALF, target, load(flat, 0), count)
    second = read_activated_one(HALF, source + 2, one, nothing, one)
    write_one(HALF, target + 2 * LANES, second)


@pytest.mark.parametrize("count", [0, 1, 7, 13, 16, 40])
def test_float16_in_memory(count: int) -> None:
    source = FLOATS[0].astype(np.float16)
    target, flat = np.full(LANES + 2, 5, np.float16), np.zeros(LANES, np.float32)
    halves(source.ctypes.data, target.ctypes.data, flat, count)
    np.testing.assert_array_equal(flat, source.astype(np.float32))
    first = min(count, LANES)
    rest = np.full(LANES - first, 5, np.float16)
    np.testing.assert_array_equal(target, [*source[:first], *rest, source[1], 5])


@numba.njit
def of_four(source, target, flat, count, affine):
    scale, shift, slope = splat(affine[0]), splat(affine[1]), splat(affine[2])
    four = read_four(FLOAT, source, scale, shift, slope)
    store(flat, 0, read_activated(FLOAT, source, scale, shift, slope))
    flat[0] = read_activated_one(FLOAT, source, affine[0], affine[1], affine[2])
    y0, y1, y2, y3 = four
    write_four(FLOAT, target, y0, y1, y2, y3, count)
    for n, y in enumerate(keep_four(y0, y1, y2, y3, count)):
        store(flat, LANES * (n + 1), y)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 33, 63, 64, 70])
def test_four_registers_of_voxels(count: int) -> None:
    affine = np.array([2, 0.5, 0.25], np.float32)
    target, flat = np.full(5 * LANES, 5, np.float32), np.zeros(5 * LANES, np.float32)
    of_four(FLOATS.ctypes.data, target.ctypes.data, flat, count, affine)
    wanted = 2 * FLOATS.reshape(-1) + np.float32(0.5)
    wanted = np.maximum(wanted, wanted / 4)
    first = min(count, 64)
    np.testing.assert_allclose(flat[:LANES], wanted[:LANES], atol=1e-6)
    np.testing.assert_allclose(target[:first], wanted[:first], atol=1e-6)
    np.testing.assert_array_equal(target[first:], 5)
    np.testing.assert_array_equal(flat[LANES:], [*target[:first], *np.zeros(64 - first)])


@traced(0)
def multiplied(flat: Memory, out: Memory, weights: Memory, second: Whole) -> None:
    a, b, c, d = (flat.load(second + (LANES * n - 1)) for n in range(4))
    weight = weights[second]
    for n, (pair, added) in enumerate(zip(pairs(pack(a, b), pack(c, d)), (a, b), strict=True)):
        out.store(second + (LANES * n - 1), dot(pair, weight, added))


def products(flat, out, weights):
    store_pairs(weights, 0, load(flat, 0))
    multiplied(flat, out, weights, 1)


@pytest.mark.parametrize("here", [True, False])
def test_pairs_of_bfloat16(here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the instruction, where the CPU has it, and by what takes its place."""
    if not here:
        monkeypatch.setattr(instructions, "has_pairs", lambda: False)
    out, weights = np.zeros(2 * LANES, np.float32), np.zeros(2 * LANES, np.float32)
    numba.njit(products)(FLOATS.reshape(-1), out, weights)
    rounded = torch.from_numpy(FLOATS).to(torch.bfloat16).double().numpy()
    first, second = rounded[:2].reshape(-1), rounded[2:].reshape(-1)
    wanted = FLOATS[:2].reshape(-1) + first * rounded[0, 2] + second * rounded[0, 3]
    np.testing.assert_allclose(out, wanted, atol=1e-5)
