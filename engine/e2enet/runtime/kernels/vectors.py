"""Vectors of sixteen float32 lanes for Numba code: one AVX-512 register, two of AVX2, four of NEON.

Numba's own loops leave it to LLVM whether and how they become vector code, and sums that should
stay in registers go through memory. Here a value of type `Vector` *is* an LLVM vector: kernels
written with it read as loops over registers and compile to just that on any CPU that LLVM knows.

Memory is addressed either as (array, index) for scratch arrays, or by absolute address in bytes
(`*_at`) where maps of different arrays are read in one loop. Nothing is checked: a kernel's caller
guarantees that whole vectors may be read there (`SLACK`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

from e2enet.runtime.kernels.caching import KernelCache, kernel_folder

LANES = 16
SLACK = 80  # floats before and after every buffer that vectors may overrun

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
REGISTER = ir.VectorType(_FLOAT, LANES)
UNDEFINED = ir.Constant(REGISTER, ir.Undefined)


# Kernels divide by what is not zero: half of the code would be the error otherwise.
_OPTIONS = {"error_model": "numpy"}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile on first use, without the GIL, into a cache in the user's folder.

    Where that folder can neither be written nor read the kernel is compiled in each process.
    """
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = before or kernel_folder()
    compiled = numba.njit(function, nogil=True, no_cfunc_wrapper=True, **_OPTIONS)
    try:
        compiled._cache = KernelCache(function)
    except (RuntimeError, OSError):
        pass
    finally:
        numba.config.CACHE_DIR = before
    return compiled


def part(function: Callable[..., Any]) -> Any:
    """A part of a kernel: LLVM inlines it there, and neither Python nor C calls it."""
    return numba.njit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)


class Vector(types.Type):
    """Numba's type of a vector."""

    def __init__(self) -> None:
        super().__init__(name="Vector16")


VECTOR = Vector()


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, REGISTER)


def instruction(result: Any, *arguments: Any) -> Callable[..., Any]:
    """Make an intrinsic of these types from a function (builder, values, types) -> value."""

    def decorate(emit: Callable[..., Any]) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            value = emit(context, builder, values)
            return context.get_dummy_value() if value is None else value

        names = [f"a{n}" for n in range(len(arguments))]
        scope: dict[str, Any] = {"codegen": codegen, "signature": result(*arguments)}
        # Numba reads the number of arguments off the function, so it needs a real one.
        exec(f"def typer(context, {', '.join(names)}):\n    return signature, codegen", scope)
        typer = scope["typer"]
        typer.__name__, typer.__doc__ = emit.__name__, emit.__doc__
        return intrinsic(typer)

    return decorate


def shuffle(builder: Any, left: Any, right: Any, lanes: list[int]) -> Any:
    """Chosen lanes of two vectors, numbered through from the left one's first."""
    return builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(_INT, len(lanes)), lanes))


def spread(builder: Any, scalar: Any) -> Any:
    """A register with a number in every lane."""
    first = builder.insert_element(UNDEFINED, scalar, ir.Constant(_INT, 0))
    return shuffle(builder, first, UNDEFINED, [0] * LANES)


def pointer_at(builder: Any, address: Any, kind: Any) -> Any:
    """An address, a whole number, as a pointer to an LLVM type."""
    return builder.inttoptr(address, kind.as_pointer())


def element(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Pointer to the register that begins at an index of an array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), REGISTER.as_pointer())


@intrinsic
def load(context, array, index):
    """array[index : index + 16]."""

    def codegen(context, builder, signature, values):
        pointer = element(context, builder, signature.args[0], values[0], values[1])
        return builder.load(pointer, align=4)

    return VECTOR(array, types.intp), codegen


@intrinsic
def store(context, array, index, vector):
    """array[index : index + 16] = vector."""

    def codegen(context, builder, signature, values):
        pointer = element(context, builder, signature.args[0], values[0], values[1])
        builder.store(values[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, VECTOR), codegen


@instruction(VECTOR, types.int64)
def load_at(context, builder, values):
    """Sixteen floats from an address."""
    return builder.load(pointer_at(builder, values[0], REGISTER), align=4)


@instruction(types.void, types.int64, VECTOR)
def store_at(context, builder, values):
    """Sixteen floats to an address."""
    builder.store(values[1], pointer_at(builder, values[0], REGISTER), align=4)


@instruction(types.float32, types.int64)
def peek(context, builder, values):
    """One float from an address."""
    return builder.load(pointer_at(builder, values[0], _FLOAT), align=4)


@instruction(types.void, types.int64, types.float32)
def poke(context, builder, values):
    """One float to an address."""
    builder.store(values[1], pointer_at(builder, values[0], _FLOAT), align=4)


@instruction(types.int64, types.int64, types.int64)
def smaller(context, builder, values):
    """`min` of two whole numbers, which Numba would compile anew for every kernel."""
    return builder.select(builder.icmp_signed("<", *values), *values)


@instruction(VECTOR, types.float32)
def splat(context, builder, values):
    """The same number in every lane."""
    return spread(builder, values[0])


def call(builder: Any, name: str, arguments: list[Any], result: Any = REGISTER) -> Any:
    """A call of one of LLVM's intrinsic functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


@instruction(VECTOR, VECTOR, VECTOR, VECTOR)
def fma(context, builder, values):
    """a * b + c, rounded once."""
    return call(builder, "llvm.fma.v16f32", list(values))


@instruction(VECTOR, VECTOR, VECTOR)
def maximum(context, builder, values):
    """The larger of each lane."""
    return builder.select(builder.fcmp_ordered(">", *values), *values)


@instruction(VECTOR, VECTOR, VECTOR, VECTOR)
def where_positive(context, builder, values):
    """Lane by lane the second where the first is above zero, else the third."""
    zero = ir.Constant(REGISTER, [0.0] * LANES)
    return builder.select(builder.fcmp_ordered(">", values[0], zero), values[1], values[2])


@instruction(types.float32, VECTOR)
def total(context, builder, values):
    """Sum of the lanes, in pairs."""
    vector = values[0]
    for width in (8, 4, 2, 1):
        lanes = [(lane + width) % LANES for lane in range(LANES)]
        vector = builder.fadd(vector, shuffle(builder, vector, UNDEFINED, lanes))
    return builder.extract_element(vector, ir.Constant(_INT, 0))


@instruction(VECTOR, VECTOR, types.float32)
def slide(context, builder, values):
    """Lanes 1 to 15, then the number."""
    return shuffle(builder, values[0], spread(builder, values[1]), [*range(1, LANES), LANES])


@instruction(VECTOR, types.float32, VECTOR)
def slide_up(context, builder, values):
    """The number, then lanes 0 to 14."""
    number, vector = values
    return shuffle(builder, vector, spread(builder, number), [LANES, *range(LANES - 1)])


@instruction(VECTOR, VECTOR, types.int64)
def keep(context, builder, values):
    """The first so many lanes, zero in the others."""
    return _emit_keep(builder, *values)


def _emit_keep(builder: Any, vector: Any, count: Any) -> Any:
    wide = ir.VectorType(ir.IntType(64), LANES)
    first = builder.insert_element(ir.Constant(wide, ir.Undefined), count, ir.Constant(_INT, 0))
    counts = shuffle(builder, first, ir.Constant(wide, ir.Undefined), [0] * LANES)
    kept = builder.icmp_signed("<", ir.Constant(wide, list(range(LANES))), counts)
    return builder.select(kept, vector, ir.Constant(REGISTER, [0.0] * LANES))


PAIR, FOUR = types.UniTuple(VECTOR, 2), types.UniTuple(VECTOR, 4)


@instruction(FOUR, VECTOR, VECTOR, VECTOR, VECTOR, types.int64)
def keep_four(context, builder, values):
    """The first so many of 64 neighbours, zero for the others."""
    kept = [
        _emit_keep(builder, vector, builder.sub(values[4], ir.Constant(values[4].type, LANES * n)))
        for n, vector in enumerate(values[:4])
    ]
    return tuple_of(context, builder, FOUR, kept)


def _halves(builder: Any, left: Any, right: Any) -> tuple[Any, Any]:
    even = shuffle(builder, left, right, list(range(0, 2 * LANES, 2)))
    return even, shuffle(builder, left, right, list(range(1, 2 * LANES, 2)))


def _zip(builder: Any, even: Any, odd: Any) -> tuple[Any, Any]:
    lanes = [lane + LANES * side for lane in range(LANES) for side in (0, 1)]
    return (
        shuffle(builder, even, odd, lanes[:LANES]),
        shuffle(builder, even, odd, lanes[LANES:]),
    )


def tuple_of(context: Any, builder: Any, kind: Any, parts: Any) -> Any:
    """Values as a Numba tuple of a type."""
    return context.make_tuple(builder, kind, list(parts))


@instruction(PAIR, VECTOR, VECTOR)
def deal2(context, builder, values):
    """The even and the odd ones of 32 neighbours."""
    return tuple_of(context, builder, PAIR, _halves(builder, *values))


@instruction(PAIR, VECTOR, VECTOR)
def weave2(context, builder, values):
    """32 neighbours from the even and the odd ones: the reverse of `deal2`."""
    return tuple_of(context, builder, PAIR, _zip(builder, *values))


@instruction(FOUR, VECTOR, VECTOR, VECTOR, VECTOR)
def deal4(context, builder, values):
    """Every fourth of 64 neighbours, from the first, second, third and fourth on."""
    even_low, odd_low = _halves(builder, values[0], values[1])
    even_high, odd_high = _halves(builder, values[2], values[3])
    first, third = _halves(builder, even_low, even_high)
    second, fourth = _halves(builder, odd_low, odd_high)
    return tuple_of(context, builder, FOUR, (first, second, third, fourth))


@instruction(FOUR, VECTOR, VECTOR, VECTOR, VECTOR)
def weave4(context, builder, values):
    """64 neighbours from four times every fourth: the reverse of `deal4`."""
    even_low, even_high = _zip(builder, values[0], values[2])
    odd_low, odd_high = _zip(builder, values[1], values[3])
    low, high = _zip(builder, even_low, odd_low), _zip(builder, even_high, odd_high)
    return tuple_of(context, builder, FOUR, (*low, *high))


def _binary(operation: Any, name: str) -> None:
    @instruction(VECTOR, VECTOR, VECTOR)
    def emit(context, builder, values):
        return getattr(builder, name)(*values)

    @overload(operation)
    def resolve(left, right):
        if isinstance(left, Vector) and isinstance(right, Vector):
            return lambda left, right: emit(left, right)
        return None


_binary(operator.add, "fadd")
_binary(operator.sub, "fsub")
_binary(operator.mul, "fmul")
