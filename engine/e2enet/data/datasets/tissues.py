"""Datasets of label maps alone: labels.json says what each value is made of.

`{"values": [{"value": 17, "tissue": 27, "label": 17, "name": "left hippocampus"}, …]}`: values of
one tissue share an intensity distribution, `label` is the structure to segment (0: none of them).
The images are synthesised while training (`e2enet.data.patches.synthesis`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from e2enet.data.planning.laterality import unpaired
from e2enet.events import BadInput

TABLE = "labels.json"


@dataclass(frozen=True)
class Tissues:
    """What the values of label maps mean.

    Args:
        tissue: {value in the maps: tissue class}.
        structure: {value in the maps: label 0 … n of the dataset}.
        labels: {name: label}, "background": 0 included.
    """

    tissue: dict[int, int]
    structure: dict[int, int]
    labels: dict[str, int]

    def table(self, meaning: Mapping[int, int]) -> np.ndarray:
        """A look-up table of `tissue` or `structure`: entry v is what value v means."""
        table = np.zeros(max(meaning) + 1, np.int64)
        for value, target in meaning.items():
            table[value] = target
        return table

    def check(self, values: np.ndarray, name: str) -> None:
        """Refuse a map that the table does not cover, or that shows one thing only.

        Args:
            values: whole numbers, any shape.
            name: of the map, for a message.

        Raises:
            BadInput: naming the map and the value.
        """
        found = np.flatnonzero(np.bincount(values.ravel()))
        missing = [int(value) for value in found if int(value) not in self.tissue]
        if missing:
            raise BadInput(
                f"{name} holds the value {missing[0]}, which {TABLE} does not name.",
                help="Add it to the table of tissues, with its tissue and label.",
                code="unknown-label",
            )
        if len(found) == 1:
            raise BadInput(
                f"{name} holds the value {int(found[0])} and nothing else: no image can be made "
                "of it.",
                help="Check the label map, or take it out of the folder.",
                code="one-label",
            )


def read_tissues(path: Path) -> Tissues:
    """Read the table.

    Raises:
        BadInput: it cannot be read, lacks a field, names a structure in two ways, or a structure
            of one side has no partner on the other.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))["values"]
        rows = [
            (int(entry["value"]), int(entry["tissue"]), int(entry["label"]), str(entry["name"]))
            for entry in entries
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} cannot be read as a table of tissues: {error!r}.",
            help='It needs "values": a list of objects with value, tissue, label and name.',
            code="bad-tissues",
        ) from error
    names: dict[int, str] = {}
    for value, tissue, number, name in rows:
        if min(value, tissue, number) < 0:
            raise BadInput(f"{path} holds a number below 0 for {name}.", code="bad-tissues")
        if number and names.setdefault(number, name) != name:
            raise BadInput(
                f"{path} calls the label {number} both {names[number]} and {name}.",
                code="bad-tissues",
            )
    if not names or len({row[0] for row in rows}) < len(rows):
        what = "names a value twice" if names else "names no structure to segment"
        raise BadInput(f"{path} {what}.", code="bad-tissues")
    places = {number: place for place, number in enumerate(sorted(names), 1)}
    labels = {"background": 0, **{names[number]: place for number, place in places.items()}}
    if len(labels) <= len(names):
        raise BadInput(f"{path} gives two labels the same name.", code="bad-tissues")
    if alone := unpaired(labels):
        raise BadInput(
            f"{path} names {alone[0]}, but not the same structure of the other side.",
            help="Name both sides, or neither: left and right are swapped when a map is flipped.",
            code="bad-tissues",
        )
    return Tissues(
        {row[0]: row[1] for row in rows},
        {row[0]: places.get(row[2], 0) for row in rows},
        labels,
    )


def find_maps(folder: Path) -> list[Path]:
    """The label maps in a folder, or in its labelsTr, sorted by name."""
    place = folder / "labelsTr" if (folder / "labelsTr").is_dir() else folder
    return sorted(p for p in place.glob("*.nii.gz") if not p.name.startswith("."))
