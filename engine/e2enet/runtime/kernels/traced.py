"""Code for registers that is emitted as a whole, by running a Python function once.

Numba takes a second to compile a few hundred statements. A function that is `traced` is not
compiled: it runs while the kernel around it is, on values that stand for those of the kernel, and
what it does to them is what the kernel will do. Loops of Python in it are thereby unrolled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from e2enet.runtime.kernels.vectors import LANES, REGISTER, VECTOR, call, element, spread


class Register:
    """Sixteen float32 lanes; a number of Python is the same in all of them."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Register) -> Register:
        return Register(self.builder, self.builder.fadd(self.value, other.value))

    def __sub__(self, other: Register) -> Register:
        return Register(self.builder, self.builder.fsub(self.value, other.value))

    def __mul__(self, other: Register | np.float32) -> Register:
        return Register(self.builder, self.builder.fmul(self.value, _value(other)))

    def fma(self, factor: Register | np.float32, added: Register) -> Register:
        """self * factor + added, rounded once."""
        values = [self.value, _value(factor), added.value]
        return Register(self.builder, call(self.builder, "llvm.fma.v16f32", values))


class Whole:
    """A whole number."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Whole | int) -> Whole:
        return Whole(self.builder, self.builder.add(self.value, _whole(other)))

    def __mul__(self, other: Whole | int) -> Whole:
        return Whole(self.builder, self.builder.mul(self.value, _whole(other)))

    __radd__, __rmul__ = __add__, __mul__

    def constant(self, number: int) -> Whole:
        """A number that is known beforehand, in the same kernel."""
        return Whole(self.builder, _whole(number))

    def __floordiv__(self, other: int) -> Whole:
        """It is not negative."""
        return Whole(self.builder, self.builder.udiv(self.value, _whole(other)))

    def __mod__(self, other: int) -> Whole:
        """It is not negative."""
        return Whole(self.builder, self.builder.urem(self.value, _whole(other)))


class Memory:
    """An array, by the flat index of its elements.

    Attributes:
        kind: Numba's type of it.
    """

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        self._context, self._builder, self.kind, self._value = context, builder, kind, value

    @property
    def paired(self) -> bool:
        """Whether it holds pairs of bfloat16 (`pairs`)."""
        return bool(self.kind.dtype == types.int32)

    def __getitem__(self, index: Whole) -> Any:
        """An element: of int64 as a whole number, of float32 in every lane of a register."""
        data = self._context.make_array(self.kind)(self._context, self._builder, self._value).data
        value = self._builder.load(self._builder.gep(data, [index.value]))
        if isinstance(self.kind.dtype, types.Integer):
            return Whole(self._builder, value)
        return Register(self._builder, spread(self._builder, value))

    def load(self, index: Whole) -> Register:
        """Sixteen elements from an index on."""
        return Register(self._builder, self._builder.load(self._place(index), align=4))

    def store(self, index: Whole, register: Register) -> None:
        """Sixteen elements from an index on become those of a register."""
        self._builder.store(register.value, self._place(index), align=4)

    def _place(self, index: Whole) -> Any:
        return element(self._context, self._builder, self.kind, self._value, index.value)


def traced(registers: int) -> Callable[[Callable[..., Any]], Any]:
    """Make an intrinsic of a function that returns so many registers: none, one or a tuple.

    It gets a `Memory` for an array, a `Whole` for a whole number, a `Register` for a vector, and a
    list of them for a tuple of vectors.
    """
    result = (types.void, VECTOR)[registers] if registers < 2 else types.UniTuple(VECTOR, registers)

    def decorate(function: Callable[..., Any]) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            arguments = [
                _standing_for(context, builder, kind, value)
                for kind, value in zip(signature.args, values, strict=True)
            ]
            found = function(*arguments)
            if found is None:
                return context.get_dummy_value()
            if isinstance(found, Register):
                return found.value
            return context.make_tuple(builder, result, [register.value for register in found])

        def typed(*kinds: Any) -> Any:
            wide = (types.int64 if isinstance(kind, types.Integer) else kind for kind in kinds)
            return result(*wide), codegen

        names = ", ".join(function.__code__.co_varnames[: function.__code__.co_argcount])
        scope: dict[str, Any] = {"typed": typed}
        # Numba reads the number of arguments off the function, so it needs a real one.
        exec(f"def typer(context, {names}):\n    return typed({names})", scope)
        typer = scope["typer"]
        typer.__name__, typer.__doc__ = function.__name__, function.__doc__
        found = intrinsic(typer)
        found.trace = function  # for another that is traced
        return found

    return decorate


def add_up(
    begin: Whole,
    end: Whole,
    step: int,
    registers: int,
    turn: Callable[[Whole, list[Register]], list[Register]],
) -> list[Register]:
    """A loop of the kernel: what registers, zero before it, are after the last turn.

    Args:
        begin, end, step: As of a range.
        registers: How many.
        turn: Makes them of the number of the turn and what they were.
    """
    builder = begin.builder
    zeros = ir.Constant(REGISTER, [0.0] * LANES)
    places = [cgutils.alloca_once(builder, REGISTER) for _ in range(registers)]
    for place in places:
        builder.store(zeros, place)
    with cgutils.for_range_slice(
        builder, begin.value, end.value, _whole(step), begin.value.type
    ) as (n, _):
        before = [Register(builder, builder.load(place)) for place in places]
        for place, register in zip(places, turn(Whole(builder, n), before), strict=True):
            builder.store(register.value, place)
    return [Register(builder, builder.load(place)) for place in places]


def repeat(count: Whole, turn: Callable[[Whole], None]) -> None:
    """A loop of the kernel: a turn for every number below a count."""
    builder = count.builder
    with cgutils.for_range(builder, count.value) as loop:
        turn(Whole(builder, loop.index))


def _standing_for(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Array):
        return Memory(context, builder, kind, value)
    if isinstance(kind, types.Integer):
        return Whole(builder, value)
    if isinstance(kind, types.UniTuple):
        return [Register(builder, part) for part in cgutils.unpack_tuple(builder, value)]
    return Register(builder, value)


def _value(factor: Register | np.float32) -> Any:
    if isinstance(factor, Register):
        return factor.value
    return ir.Constant(REGISTER, [float(factor)] * LANES)


def _whole(number: Whole | int) -> Any:
    return number.value if isinstance(number, Whole) else ir.Constant(ir.IntType(64), number)
