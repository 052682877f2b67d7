"""Triples of one value an axis."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from e2enet.events import BadInput

Value = TypeVar("Value")
Triple = tuple[int, int, int]


def three(values: Iterable[Value]) -> tuple[Value, Value, Value]:
    """Exactly three values as a tuple."""
    first, second, third = values
    return first, second, third


def times(values: Sequence[float]) -> str:
    """Sizes for a person: "64×128×128"."""
    return "×".join(f"{v:g}" for v in values)


def parse_sizes(text: str, option: str) -> Triple:
    """Sizes (D, H, W) that a person wrote, such as "40,56,40" or "40x56x40".

    Args:
        text: what was written.
        option: the command line's name for it, for the message.

    Raises:
        BadInput: not three whole numbers of 1 or more.

    Example:
        >>> parse_sizes("64x128x128", "--patch")
        (64, 128, 128)
    """
    numbers = re.fullmatch(r"\s*(\d+)\s*[x×,]\s*(\d+)\s*[x×,]\s*(\d+)\s*", text.lower())
    if not numbers or min(int(n) for n in numbers.groups()) < 1:
        raise BadInput(
            f"{option} has {text!r} where three whole numbers are needed.",
            help="Give depth, height and width, such as 40,56,40.",
            code="bad-setting",
        )
    return three(int(n) for n in numbers.groups())
