"""Triples of one value an axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

Value = TypeVar("Value")
Triple = tuple[int, int, int]


def three(values: Iterable[Value]) -> tuple[Value, Value, Value]:
    """Exactly three values as a tuple."""
    first, second, third = values
    return first, second, third


def times(values: Sequence[float]) -> str:
    """Sizes for a person: "64×128×128"."""
    return "×".join(f"{v:g}" for v in values)
