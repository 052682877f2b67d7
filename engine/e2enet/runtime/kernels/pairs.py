"""Sums over live connections in bfloat16, two multiplications and additions a lane.

What `accumulation` does in float32. A register holds WIDE lanes of a map, rounded to bfloat16; the
lanes of two maps meet in pairs, and their products with a pair of factors are added up in float32.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from e2enet.runtime.kernels.accumulation import BLOCK, PITCH, ZERO
from e2enet.runtime.kernels.vectors import (
    LANES,
    PAIR,
    REGISTER,
    VECTOR,
    call,
    element,
    instruction,
    load,
    part,
    shuffle,
    splat,
    store,
    tuple_of,
)


class _BFloat(ir.Type):
    def _to_string(self) -> str:
        return "bfloat"


_SHORTS = ir.VectorType(_BFloat(), LANES)
_PAIRS = ir.VectorType(_BFloat(), 2 * LANES)
# Within each quarter of a register first four of one vector, then four of the other: the order from
# which `pairs` makes pairs in order, by shuffles that stay within the quarters and are cheap.
_QUARTERS = [16 * side + 4 * n + k for n in range(4) for side in (0, 1) for k in range(4)]


@functools.cache
def has_pairs() -> bool:
    """Whether the CPU multiplies pairs of bfloat16."""
    return bool(binding.get_host_cpu_features().get("avx512bf16", False))


@instruction(VECTOR, VECTOR, VECTOR)
def pack(context, builder, values):
    """32 numbers rounded to bfloat16 in one register, for `pairs`."""
    left, right = (builder.fptrunc(value, _SHORTS) for value in values)
    return builder.bitcast(shuffle(builder, left, right, _QUARTERS), REGISTER)


@instruction(PAIR, VECTOR, VECTOR)
def pairs(context, builder, values):
    """(Number of the first, number of the second) of two registers that `pack` made, lane by lane.

    Pairs of the first sixteen numbers and pairs of the others.
    """
    left, right = (builder.bitcast(value, _PAIRS) for value in values)
    halves = []
    for first in (0, 4):
        lanes = [8 * n + first + k for n in range(4) for k in range(4)]
        order = [lane + 32 * side for lane in lanes for side in (0, 1)]
        halves.append(builder.bitcast(shuffle(builder, left, right, order), REGISTER))
    return tuple_of(context, builder, PAIR, halves)


@instruction(VECTOR, VECTOR, VECTOR, VECTOR)
def dot(context, builder, values):
    """Lane by lane: product of the first numbers of two pairs, of the second ones, and a sum."""
    left, right, added = values
    if has_pairs():
        pair = [builder.bitcast(value, _PAIRS) for value in (left, right)]
        return call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", [added, *pair])
    for high in (False, True):
        numbers = [_half_of(builder, value, high) for value in (left, right)]
        added = call(builder, "llvm.fma.v16f32", [*numbers, added])
    return added


def _half_of(builder: Any, value: Any, high: bool) -> Any:
    """The first or the second number of every pair, as float32."""
    wide = ir.VectorType(ir.IntType(32), LANES)
    bits = builder.bitcast(value, wide)
    if high:
        bits = builder.and_(bits, ir.Constant(wide, [0xFFFF0000] * LANES))
    else:
        bits = builder.shl(bits, ir.Constant(wide, [16] * LANES))
    return builder.bitcast(bits, REGISTER)


@intrinsic
def store_pairs(context, array, index, vector):
    """array[index : index + 8] = sixteen numbers rounded to bfloat16, two an element."""

    def codegen(context, builder, signature, values):
        pointer = element(context, builder, signature.args[0], values[0], values[1])
        pointer = builder.bitcast(pointer, _SHORTS.as_pointer())
        builder.store(builder.fptrunc(values[2], _SHORTS), pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, VECTOR), codegen


@part
def single_pairs(maps, first, factors, at, live, inputs, begin, end, sums, to):
    """One output map, for four planes of the transform at once.

    Args:
        maps, first: Plane 0 of input map c begins at `first + PITCH * c`, the next 16 later each.
        factors, at, live: A pair of factors a pair of inputs from `at` on, for the next plane
            `live` later each.
        inputs, begin, end: The input maps; an even number.
        sums, to: WIDE sums of each plane are written from here.
    """
    a0 = splat(ZERO)
    a1, b0, b1, c0, c1, d0, d1 = a0, a0, a0, a0, a0, a0, a0
    for n in range(begin, end, 2):
        i = first + PITCH * inputs[n]
        j = first + PITCH * inputs[n + 1]
        k = at + n // 2
        x, y = pairs(load(maps, i), load(maps, j))
        u = splat(factors[k])
        a0 = dot(x, u, a0)
        a1 = dot(y, u, a1)
        x, y = pairs(load(maps, i + 16), load(maps, j + 16))
        u = splat(factors[k + live])
        b0 = dot(x, u, b0)
        b1 = dot(y, u, b1)
        x, y = pairs(load(maps, i + 32), load(maps, j + 32))
        u = splat(factors[k + 2 * live])
        c0 = dot(x, u, c0)
        c1 = dot(y, u, c1)
        x, y = pairs(load(maps, i + 48), load(maps, j + 48))
        u = splat(factors[k + 3 * live])
        d0 = dot(x, u, d0)
        d1 = dot(y, u, d1)
    store(sums, to, a0)
    store(sums, to + 16, a1)
    store(sums, to + 32, b0)
    store(sums, to + 48, b1)
    store(sums, to + 64, c0)
    store(sums, to + 80, c1)
    store(sums, to + 96, d0)
    store(sums, to + 112, d1)


@part
def shared_pairs(maps, first, factors, at, inputs, begin, end, sums, to, stride):
    """BLOCK output maps that read the same inputs: each pair is made once for all of them.

    Args:
        maps, first: Input map c begins at `first + PITCH * c`.
        factors, at: BLOCK pairs of factors a pair of inputs, one for each output map.
        inputs, begin, end: The input maps; an even number.
        sums, to, stride: WIDE sums of output map r are written from `to + stride * r` on.
    """
    a0 = splat(ZERO)
    a1, a2, a3, a4, a5, a6, a7 = a0, a0, a0, a0, a0, a0, a0
    b0, b1, b2, b3, b4, b5, b6, b7 = a0, a0, a0, a0, a0, a0, a0, a0
    for n in range(begin, end, 2):
        i = first + PITCH * inputs[n]
        j = first + PITCH * inputs[n + 1]
        x, y = pairs(load(maps, i), load(maps, j))
        k = at + BLOCK // 2 * n
        u = splat(factors[k])
        a0 = dot(x, u, a0)
        b0 = dot(y, u, b0)
        u = splat(factors[k + 1])
        a1 = dot(x, u, a1)
        b1 = dot(y, u, b1)
        u = splat(factors[k + 2])
        a2 = dot(x, u, a2)
        b2 = dot(y, u, b2)
        u = splat(factors[k + 3])
        a3 = dot(x, u, a3)
        b3 = dot(y, u, b3)
        u = splat(factors[k + 4])
        a4 = dot(x, u, a4)
        b4 = dot(y, u, b4)
        u = splat(factors[k + 5])
        a5 = dot(x, u, a5)
        b5 = dot(y, u, b5)
        u = splat(factors[k + 6])
        a6 = dot(x, u, a6)
        b6 = dot(y, u, b6)
        u = splat(factors[k + 7])
        a7 = dot(x, u, a7)
        b7 = dot(y, u, b7)
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
