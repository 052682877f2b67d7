"""Voxels of maps in memory, float32 or float16: in registers they are float32.

An empty array says which of them a kernel reads and writes, so that it is compiled for either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

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


def _narrowed(builder: Any, value: Any, to: Any) -> Any:
    return value if value.type == to else builder.fptrunc(value, to)


def _widened(builder: Any, value: Any, to: Any) -> Any:
    return value if value.type == to else builder.fpext(value, to)


@intrinsic
def size_of(context, kind):
    """Bytes of a voxel of maps."""
    size = 4 if _voxel(kind) == _FLOAT else 2

    def codegen(context, builder, signature, values):
        return ir.Constant(ir.IntType(64), size)

    return types.int64(kind), codegen


@intrinsic
def read(context, kind, address):
    """Sixteen voxels of maps from an address."""
    stored = ir.VectorType(_voxel(kind), LANES)

    def codegen(context, builder, signature, values):
        value = builder.load(pointer_at(builder, values[1], stored), align=2)
        return _widened(builder, value, REGISTER)

    return VECTOR(kind, types.int64), codegen


@intrinsic
def read_one(context, kind, address):
    """One voxel of maps from an address."""

    def codegen(context, builder, signature, values):
        value = builder.load(pointer_at(builder, values[1], _voxel(kind)), align=2)
        return _widened(builder, value, _FLOAT)

    return types.float32(kind, types.int64), codegen


@intrinsic
def write(context, kind, address, vector):
    """Sixteen voxels of maps to an address."""
    stored = ir.VectorType(_voxel(kind), LANES)

    def codegen(context, builder, signature, values):
        value = _narrowed(builder, values[2], stored)
        builder.store(value, pointer_at(builder, values[1], stored), align=2)
        return context.get_dummy_value()

    return types.void(kind, types.int64, VECTOR), codegen


@intrinsic
def write_one(context, kind, address, number):
    """One voxel of maps to an address."""

    def codegen(context, builder, signature, values):
        value = _narrowed(builder, values[2], _voxel(kind))
        builder.store(value, pointer_at(builder, values[1], _voxel(kind)), align=2)
        return context.get_dummy_value()

    return types.void(kind, types.int64, types.float32), codegen


@intrinsic
def _write_first(context, kind, address, vector, count):
    """Write the first 8, 4, 2 or 1 voxels (a constant size a branch) and move the others down."""

    def codegen(context, builder, signature, values):
        _emit_first(builder, _voxel(kind), *values[1:])
        return context.get_dummy_value()

    return types.void(kind, types.int64, VECTOR, types.int64), codegen


def _emit_first(builder: Any, voxel: Any, address: Any, vector: Any, count: Any) -> None:
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
            further = builder.add(
                address, ir.Constant(address.type, width * (4 if voxel == _FLOAT else 2))
            )
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
def write_some(kind, address, vector, count):
    """The first so many lanes to an address, all of them from 16 on, and not one voxel more."""
    if count >= LANES:
        write(kind, address, vector)
    elif count > 0:
        _write_first(kind, address, vector, count)


@part
def store_some(address, vector, count):
    """The first so many floats to an address, all of them from 16 on, and not one more."""
    write_some(FLOAT, address, vector, count)
