"""Voxels of maps in memory, float32 or float16: in registers they are float32.

An empty array says which of them a kernel reads and writes, so that it is compiled for either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from e2enet.runtime.kernels.traced import Memory, Register, Whole, traced
from e2enet.runtime.kernels.vectors import (
    LANES,
    REGISTER,
    UNDEFINED,
    VECTOR,
    part,
    pointer_at,
    shuffle,
)

FLOAT = np.empty(0, np.float32)
HALF = np.empty(0, np.uint16)  # the bits of float16, which Numba has no type for on a CPU

_FLOAT, _HALF = ir.FloatType(), ir.HalfType()


def _voxel(kind: Any) -> Any:
    """LLVM's type of a voxel of maps, from Numba's type of the array that says which."""
    return _FLOAT if kind.dtype == types.float32 else _HALF


def _bytes(voxel: Any) -> int:
    return 4 if voxel == _FLOAT else 2


def _narrowed(builder: Any, value: Any, to: Any) -> Any:
    return value if value.type == to else builder.fptrunc(value, to)


def _widened(builder: Any, value: Any, to: Any) -> Any:
    return value if value.type == to else builder.fpext(value, to)


@intrinsic
def size_of(context, kind):
    """Bytes of a voxel of maps."""
    size = _bytes(_voxel(kind))

    def codegen(context, builder, signature, values):
        return ir.Constant(ir.IntType(64), size)

    return types.int64(kind), codegen


def activated(
    kind: Memory, address: Whole, further: int, scale: Register, shift: Register, slope: Register
) -> Register:
    """Sixteen voxels of maps, so many further than an address, after norm and leaky ReLU."""
    builder, voxel = address.builder, _voxel(kind.kind)
    place = pointer_at(
        builder, (address + further * _bytes(voxel)).value, ir.VectorType(voxel, LANES)
    )
    value = Register(builder, _widened(builder, builder.load(place, align=2), REGISTER))
    value = value.fma(scale, shift)
    return Register(builder, _rectified(builder, value.value, slope.value))


@traced(1)
def read_activated(
    kind: Memory, address: Whole, scale: Register, shift: Register, slope: Register
) -> Register:
    """Sixteen voxels of maps from an address, after norm and leaky ReLU."""
    return activated(kind, address, 0, scale, shift, slope)


@traced(4)
def read_four(
    kind: Memory, address: Whole, scale: Register, shift: Register, slope: Register
) -> list[Register]:
    """Sixty-four voxels of maps from an address, after norm and leaky ReLU."""
    return [activated(kind, address, LANES * n, scale, shift, slope) for n in range(4)]


@intrinsic
def read_activated_one(context, kind, address, scale, shift, slope):
    """One voxel of maps from an address, after norm and leaky ReLU."""

    def codegen(context, builder, signature, values):
        value = builder.load(pointer_at(builder, values[1], _voxel(kind)), align=2)
        value = builder.fmul(_widened(builder, value, _FLOAT), values[2])
        return _rectified(builder, builder.fadd(value, values[3]), values[4])

    number = types.float32
    return number(kind, types.int64, number, number, number), codegen


def _rectified(builder: Any, value: Any, slope: Any) -> Any:
    lower = builder.fmul(value, slope)
    return builder.select(builder.fcmp_ordered(">", value, lower), value, lower)


@intrinsic
def write_one(context, kind, address, number):
    """One voxel of maps to an address."""

    def codegen(context, builder, signature, values):
        value = _narrowed(builder, values[2], _voxel(kind))
        builder.store(value, pointer_at(builder, values[1], _voxel(kind)), align=2)
        return context.get_dummy_value()

    return types.void(kind, types.int64, types.float32), codegen


@intrinsic
def write_some(context, kind, address, vector, count):
    """The first so many lanes to an address, all of them from 16 on, and not one voxel more."""

    def codegen(context, builder, signature, values):
        _emit_some(builder, _voxel(kind), *values[1:])
        return context.get_dummy_value()

    return types.void(kind, types.int64, VECTOR, types.int64), codegen


@intrinsic
def write_four(context, kind, address, y0, y1, y2, y3, count):
    """The first so many of 64 neighbours to an address, and not one voxel more."""
    voxel = _voxel(kind)
    further = LANES * _bytes(voxel)

    def codegen(context, builder, signature, values):
        def constant(number: int) -> Any:
            return ir.Constant(values[1].type, number)

        addresses = [builder.add(values[1], constant(n * further)) for n in range(4)]
        whole = builder.icmp_signed(">=", values[6], constant(4 * LANES))
        with builder.if_else(whole) as (all_of_them, some):
            with all_of_them:
                for address, vector in zip(addresses, values[2:6], strict=True):
                    _emit_write(builder, voxel, address, vector)
            with some:
                for n, (address, vector) in enumerate(zip(addresses, values[2:6], strict=True)):
                    left = builder.sub(values[6], constant(LANES * n))
                    _emit_some(builder, voxel, address, vector, left)
        return context.get_dummy_value()

    number = types.int64
    return types.void(kind, number, VECTOR, VECTOR, VECTOR, VECTOR, number), codegen


def _emit_write(builder: Any, voxel: Any, address: Any, vector: Any) -> None:
    stored = ir.VectorType(voxel, LANES)
    value = _narrowed(builder, vector, stored)
    builder.store(value, pointer_at(builder, address, stored), align=2)


def _emit_some(builder: Any, voxel: Any, address: Any, vector: Any, count: Any) -> None:
    whole = builder.icmp_signed(">=", count, ir.Constant(count.type, LANES))
    with builder.if_else(whole) as (all_of_them, some):
        with all_of_them:
            _emit_write(builder, voxel, address, vector)
        with some, builder.if_then(builder.icmp_signed(">", count, ir.Constant(count.type, 0))):
            builder.call(_first_writer(builder.module, voxel), [address, vector, count])


def _first_writer(module: Any, voxel: Any) -> Any:
    """A function that writes less than sixteen voxels; rare enough not to be inlined."""
    number = ir.IntType(64)
    kind = ir.FunctionType(ir.VoidType(), [number, REGISTER, number])
    name = f"e2enet_write_first_{voxel}"
    function = cgutils.get_or_insert_function(module, kind, name)
    if function.is_declaration:
        function.linkage = "linkonce_odr"
        function.attributes.add("noinline")
        builder = ir.IRBuilder(function.append_basic_block())
        _emit_first(builder, voxel, *function.args)
        builder.ret_void()
    return function


def _emit_first(builder: Any, voxel: Any, address: Any, vector: Any, count: Any) -> None:
    """Write the first 8, 4, 2 or 1 voxels (a constant size a branch) and move the others down."""
    for width in (8, 4, 2, 1):
        wanted = builder.icmp_signed(
            "!=", builder.and_(count, ir.Constant(count.type, width)), ir.Constant(count.type, 0)
        )
        before = builder.block
        with builder.if_then(wanted):
            part_of = shuffle(builder, vector, UNDEFINED, list(range(width)))
            stored = ir.VectorType(voxel, width)
            part_of = _narrowed(builder, part_of, stored)
            builder.store(part_of, pointer_at(builder, address, stored), align=2)
            lanes = [*range(width, LANES), *range(width)]
            moved = shuffle(builder, vector, UNDEFINED, lanes)
            further = builder.add(address, ir.Constant(address.type, width * _bytes(voxel)))
            inside = builder.block
        vector, address = (
            _merged(builder, old, before, new, inside)
            for old, new in ((vector, moved), (address, further))
        )


def _merged(builder: Any, old: Any, before: Any, new: Any, inside: Any) -> Any:
    value = builder.phi(old.type)
    value.add_incoming(old, before)
    value.add_incoming(new, inside)
    return value


@part
def store_some(address, vector, count):
    """The first so many floats to an address, all of them from 16 on, and not one more."""
    write_some(FLOAT, address, vector, count)
