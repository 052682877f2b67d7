"""Reading a plan that a person may have edited: every field is checked, and named when wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from e2enet.data.axes import Triple
from e2enet.data.planning.topology import divisor_of, padded
from e2enet.events import BadInput

NORMALISATIONS = ("zscore", "zscore-masked", "ct", "none")
OPTIONAL = (
    "mirror_axes",
    "left_right_axis",
    "left_right_pairs",
    "robustness",
    "flat",
    "base_channels",
)


def checked(record: Any, *, fields: Sequence[str], channel_fields: Sequence[str]) -> dict[str, Any]:
    """The fields of a plan as tuples and numbers, with each channel as a dictionary.

    Args:
        record: what came from JSON.
        fields: names of all fields of a plan.
        channel_fields: names of all fields of a channel's plan.

    Raises:
        BadInput: naming the first field that is missing, unknown or wrong.
    """
    return _Reader(record, fields, channel_fields).plan()


class _Reader:
    def __init__(self, record: Any, fields: Sequence[str], channel_fields: Sequence[str]) -> None:
        if not isinstance(record, dict):
            raise self.wrong("the plan", "an object with fields")
        for name in record:
            if name not in fields:
                raise BadInput(
                    f'"{name}" is no field of a plan.',
                    help=f"The fields are {', '.join(fields)}.",
                    code="bad-plan",
                )
        for name in fields:
            if name not in record and name not in OPTIONAL:
                raise BadInput(f'The plan lacks the field "{name}".', code="bad-plan")
        self.record = record
        self.channel_fields = channel_fields

    @staticmethod
    def wrong(name: str, wanted: str) -> BadInput:
        return BadInput(f'"{name}" of the plan has to be {wanted}.', code="bad-plan")

    def plan(self) -> dict[str, Any]:
        record = self.record
        spacing = self.triple("spacing", record["spacing"], float)
        transpose = self.triple("transpose", record["transpose"], int)
        if sorted(transpose) != [0, 1, 2]:
            raise self.wrong("transpose", "an order of 0, 1 and 2")
        patch = self.triple("patch", record["patch"], int)
        strides = self.strides()
        fitting = padded(patch, divisor_of(strides))
        if fitting != patch:
            raise self.wrong("patch", f"divisible by the strides, such as {list(fitting)}")
        if not self.is_whole(record["batch_size"], least=1):
            raise self.wrong("batch_size", "a whole number of 1 or more")
        axes = record.get("mirror_axes", [])
        if not self.is_list(axes) or any(not self.is_whole(a) or a > 2 for a in axes):
            raise self.wrong("mirror_axes", "a list of axes 0, 1 or 2")
        axis, pairs = self.left_right(transpose.index(2))
        flat = record.get("flat", False)
        if not isinstance(flat, bool) or (flat and patch[0] > 1):
            raise self.wrong("flat", "true or false, and only true with a patch of one slice")
        robustness = record.get("robustness", 0.0)
        if not self.is_number(robustness) or not 0 <= robustness <= 1:
            raise self.wrong("robustness", "a number from 0 to 1")
        width = record.get("base_channels")
        if width is not None and not self.is_whole(width, least=1):
            raise self.wrong("base_channels", "a whole number of 1 or more")
        return {
            "spacing": spacing,
            "transpose": transpose,
            "patch": patch,
            "strides": strides,
            "batch_size": record["batch_size"],
            "channels": self.channels(),
            "mirror_axes": tuple(sorted(set(axes))),
            "left_right_axis": axis,
            "left_right_pairs": pairs,
            "flat": flat,
            "robustness": float(robustness),
            "base_channels": width,
        }

    def triple(self, name: str, value: Any, kind: type) -> tuple:
        least = 0 if name == "transpose" else 1
        if self.is_list(value) and len(value) == 3:
            if kind is int and all(self.is_whole(n, least=least) for n in value):
                return tuple(value)
            if kind is float and all(self.is_number(v) and v > 0 for v in value):
                return tuple(float(v) for v in value)
        numbers = "whole numbers" if kind is int else "positive numbers (mm)"
        raise self.wrong(name, f"three {numbers}, for D, H and W")

    def strides(self) -> tuple[Triple, ...]:
        value = self.record["strides"]
        if not self.is_list(value) or not value:
            raise self.wrong("strides", "a list of triples such as [[1, 2, 2], [2, 2, 2]]")
        return tuple(self.triple(f"strides[{i}]", one, int) for i, one in enumerate(value))

    def channels(self) -> tuple[dict[str, Any], ...]:
        value = self.record["channels"]
        if not self.is_list(value) or not value:
            raise self.wrong("channels", "a list with an object for each channel")
        return tuple(self.channel(f"channels[{i}]", one) for i, one in enumerate(value))

    def channel(self, name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            raise self.wrong(f"{name}.name", "a text")
        for key in value:
            if key not in self.channel_fields:
                raise BadInput(f'"{name}.{key}" is no field of a plan.', code="bad-plan")
        kind = value.get("normalisation", "zscore")
        if kind not in NORMALISATIONS:
            raise self.wrong(f"{name}.normalisation", f"one of {', '.join(NORMALISATIONS)}")
        numbers = {}
        for key in ("mean", "std", "lower", "upper"):
            number = value.get(key)
            if number is None and kind != "ct":
                continue
            if number is None or not self.is_number(number):
                raise self.wrong(f"{name}.{key}", "a number")
            numbers[key] = float(number)
        if kind == "ct" and numbers["std"] <= 0:
            raise self.wrong(f"{name}.std", "above 0")
        if kind == "ct" and numbers["lower"] >= numbers["upper"]:
            raise self.wrong(f"{name}.lower", "below upper")
        return {"name": value["name"], "normalisation": kind, **numbers}

    def left_right(self, expected: int) -> tuple[int | None, tuple[tuple[int, int], ...]]:
        axis = self.record.get("left_right_axis")
        pairs = self.record.get("left_right_pairs", [])
        if axis is not None and (isinstance(axis, bool) or axis != expected):
            raise self.wrong("left_right_axis", f"{expected} (where x went by transpose) or null")
        wanted = "a list of pairs of label values, each value at most once"
        if not self.is_list(pairs):
            raise self.wrong("left_right_pairs", wanted)
        for pair in pairs:
            if (
                not self.is_list(pair)
                or len(pair) != 2
                or not all(self.is_whole(v, least=1) for v in pair)
            ):
                raise self.wrong("left_right_pairs", wanted)
        flat = [v for pair in pairs for v in pair]
        if len(set(flat)) != len(flat):
            raise self.wrong("left_right_pairs", wanted)
        if pairs and axis is None:
            raise self.wrong("left_right_axis", f"{expected}, because left_right_pairs is given")
        return axis, tuple((int(a), int(b)) for a, b in pairs)

    @staticmethod
    def is_list(value: Any) -> bool:
        return isinstance(value, (list, tuple))

    @staticmethod
    def is_whole(value: Any, *, least: int = 0) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    @staticmethod
    def is_number(value: Any) -> bool:
        return (
            isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        )
