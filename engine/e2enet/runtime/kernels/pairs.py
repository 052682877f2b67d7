"""Sums over live connections in bfloat16, two multiplications and additions a lane.

What `accumulation` does in float32. A register holds WIDE lanes of a map, rounded to bfloat16; the
lanes of two maps meet in pairs, and their products with a pair of factors are added up in float32.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from e2enet.runtime.kernels import cpu
from e2enet.runtime.kernels.accumulation import BLOCK, PITCH
from e2enet.runtime.kernels.traced import Memory, Register, Whole, add_up, traced
from e2enet.runtime.kernels.vectors import (
    LANES,
    REGISTER,
    VECTOR,
    call,
    element,
    shuffle,
)


class _BFloat(ir.Type):
    def _to_string(self) -> str:
        return "bfloat"


_SHORTS = ir.VectorType(_BFloat(), LANES)
_PAIRS = ir.VectorType(_BFloat(), 2 * LANES)
# Within each quarter of a register first four of one vector, then four of the other: the order from
# which `pairs` makes pairs in order, by shuffles that stay within the quarters and are cheap.
_QUARTERS = [16 * side + 4 * n + k for n in range(4) for side in (0, 1) for k in range(4)]


def has_pairs() -> bool:
    """Whether the CPU multiplies pairs of bfloat16."""
    return cpu.has("avx512bf16")


def pack(left: Register, right: Register) -> Register:
    """32 numbers rounded to bfloat16 in one register, for `pairs`."""
    builder = left.builder
    first, second = (builder.fptrunc(register.value, _SHORTS) for register in (left, right))
    return Register(builder, builder.bitcast(shuffle(builder, first, second, _QUARTERS), REGISTER))


def pairs(left: Register, right: Register) -> list[Register]:
    """[Number of the first, number of the second] of two registers that `pack` made, lane by lane.

    Pairs of the first sixteen numbers and pairs of the others.
    """
    builder = left.builder
    one, other = (builder.bitcast(register.value, _PAIRS) for register in (left, right))
    halves = []
    for first in (0, 4):
        lanes = [8 * n + first + k for n in range(4) for k in range(4)]
        order = [lane + 32 * side for lane in lanes for side in (0, 1)]
        half = builder.bitcast(shuffle(builder, one, other, order), REGISTER)
        halves.append(Register(builder, half))
    return halves


def dot(left: Register, right: Register, added: Register) -> Register:
    """Lane by lane: product of the first numbers of two pairs, of the second ones, and a sum."""
    builder, total = left.builder, added.value
    if has_pairs():
        pair = [builder.bitcast(register.value, _PAIRS) for register in (left, right)]
        total = call(builder, "llvm.x86.avx512bf16.dpbf16ps.512", [total, *pair])
        return Register(builder, total)
    for high in (False, True):
        numbers = [_half_of(builder, register.value, high) for register in (left, right)]
        total = call(builder, "llvm.fma.v16f32", [*numbers, total])
    return Register(builder, total)


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


@traced(0)
def single_pairs(
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
    """One output map, for four planes of the transform at once.

    Args:
        maps, first: Plane 0 of input map c begins at `first + PITCH * c`, the next 16 later each.
        factors, at, live: A pair of factors a pair of inputs from `at` on, for the next plane
            `live` later each.
        inputs, begin, end: The input maps; an even number.
        sums, to: WIDE sums of each plane are written from here.
    """

    def turn(n: Whole, added: list[Register]) -> list[Register]:
        i, j = first + inputs[n] * PITCH, first + inputs[n + 1] * PITCH
        found = []
        for plane in range(4):
            x, y = pairs(maps.load(i + 16 * plane), maps.load(j + 16 * plane))
            u = factors[at + n // 2 + live * plane]
            found += [dot(x, u, added[2 * plane]), dot(y, u, added[2 * plane + 1])]
        return found

    for k, register in enumerate(add_up(begin, end, 2, 8, turn)):
        sums.store(to + 16 * k, register)


@traced(0)
def shared_pairs(
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
    """BLOCK output maps that read the same inputs: each pair is made once for all of them.

    Args:
        maps, first: Input map c begins at `first + PITCH * c`.
        factors, at: BLOCK pairs of factors a pair of inputs, one for each output map.
        inputs, begin, end: The input maps; an even number.
        sums, to, stride: WIDE sums of output map r are written from `to + stride * r` on.
    """

    def turn(n: Whole, added: list[Register]) -> list[Register]:
        i, j = first + inputs[n] * PITCH, first + inputs[n + 1] * PITCH
        x, y = pairs(maps.load(i), maps.load(j))
        found = []
        for r in range(BLOCK):
            u = factors[at + n * (BLOCK // 2) + r]
            found += [dot(x, u, added[2 * r]), dot(y, u, added[2 * r + 1])]
        return found

    for r, register in enumerate(add_up(begin, end, 2, 2 * BLOCK, turn)):
        sums.store(to + stride * (r // 2) + 16 * (r % 2), register)
