"""Which labels of a new model are those of the model it starts from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from e2enet.bundle import Label


@dataclass(frozen=True)
class LabelMatch:
    """Labels of a new model and of its base, paired.

    Args:
        matched: {name in the new model: label of the base}.
        new: names that the base does not know.
        dropped: names of the base that the new model has not.
        classes: {output of the new network: output of the base's that is the same structure}, the
            background included; empty where none is.
    """

    matched: dict[str, Label]
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    classes: dict[int, int]

    def sentence(self, base: str) -> str:
        """What a person reads about it, `base` being the name of the base."""
        pairs = [
            name if name == label.name else f"{name} (there {label.name})"
            for name, label in self.matched.items()
        ]
        parts = [
            f"Taken over from {base}: {', '.join(pairs)}"
            if pairs
            else f"No label is one of {base}'s",
            f"new: {', '.join(self.new)}" if self.new else "",
            f"dropped: {', '.join(self.dropped)}" if self.dropped else "",
        ]
        return "; ".join(part for part in parts if part) + "."


def match_labels(
    labels: Mapping[str, int],
    described: Iterable[Mapping[str, Any]],
    base: Sequence[Label],
    *,
    regions: bool = False,
) -> LabelMatch:
    """Pair labels by name, and those without a partner by code.

    Names are equal also where capitals, blanks, hyphens and underscores differ. A code is that of
    the type with its modifier (a left kidney is no right kidney); one that several labels share
    tells nothing.

    Args:
        labels: {name: value} of the new model, in the order of its network's outputs.
        described: entries of a model.json's "labels" that say more about them: value, name,
            terminology.
        base: labels of the base, in the order of its network's outputs.
        regions: whether the new model's outputs are regions. A head of the base is only taken
            over if it is of the same kind: one that competes with others says something else.
    """
    entries = {entry["value"]: entry for entry in described}
    new = {name: value for name, value in labels.items() if value}
    left = dict(enumerate(base, 1))
    found: dict[str, int] = {}

    def pair(keys: Mapping[str, set[Any]], of_base: Mapping[int, Any]) -> None:
        for name, known in keys.items():
            fitting = [number for number, key in of_base.items() if number in left and key in known]
            if name not in found and len(fitting) == 1:
                found[name] = fitting[0]
                del left[fitting[0]]

    names = {
        name: {_plain(name), _plain(str(entries.get(value, {}).get("name", name)))}
        for name, value in new.items()
    }
    pair(names, {number: _plain(label.name) for number, label in left.items()})
    codes = {name: _code(entries.get(v, {}).get("terminology")) for name, v in new.items()}
    once = {n: {c} for n, c in codes.items() if c and list(codes.values()).count(c) == 1}
    pair(once, {number: _code(label.terminology) for number, label in left.items()})
    first = 0 if regions else 1  # before the classes comes the background
    place = {name: number for number, name in enumerate(new, first)}
    classes = {place[name]: number - 1 + first for name, number in found.items()}
    if regions != any(label.values for label in base):
        classes = {}
    elif classes and not regions:
        classes[0] = 0
    return LabelMatch(
        {name: base[number - 1] for name, number in found.items()},
        tuple(name for name in new if name not in found),
        tuple(label.name for label in left.values()),
        classes,
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _code(terminology: Any) -> tuple[str, ...] | None:
    """Scheme and code of type and modifier; None where there is no type."""
    if not isinstance(terminology, Mapping) or not isinstance(terminology.get("type"), Mapping):
        return None
    parts = [terminology["type"], terminology.get("modifier") or {}]
    code = tuple(str(part.get(key, "")) for part in parts for key in ("scheme", "code"))
    return code if code[1] else None
