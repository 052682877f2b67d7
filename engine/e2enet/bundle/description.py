"""model.json: what a bundle says about itself, checked as it is read. Standard library only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2enet.events import BadInput

SCHEMA_VERSION = 1
MODEL, WEIGHTS, EVOLUTION, README = (
    "model.json",
    "weights.safetensors",
    "evolution.json",
    "README.md",
)


@dataclass(frozen=True)
class Label:
    """One structure a model segments.

    Attributes:
        value: Number in the label map, from 1 up; of a region, the one that is written where no
            later region lies.
        name: What a person reads.
        color: Red, green, blue from 0 to 255.
        terminology: DICOM codes {"category": {"scheme", "code", "meaning"}, "type": …}, or empty.
        usual_ml: Smallest and largest volume among the training cases, in mL; None if unknown.
        values: Of a region, all numbers in the label map that belong to it; empty for a label that
            excludes the others.
        one_piece: The structure is connected, so only the largest part of it is kept.
    """

    value: int
    name: str
    color: tuple[int, int, int]
    terminology: dict[str, Any]
    usual_ml: tuple[float, float] | None = None
    values: tuple[int, ...] = ()
    one_piece: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "value": self.value,
            "name": self.name,
            **({"values": list(self.values)} if self.values else {}),
            "color": list(self.color),
            "terminology": self.terminology,
        }


def read_model(path: Path) -> dict[str, Any]:
    """The content of a model.json. Raises BadInput for a damaged one or another version."""
    model = read_json(path)
    version = model.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BadInput(
            f"{path} has schema version {version!r}; this program reads {SCHEMA_VERSION}.",
            help="Install a newer version of E2ENet." if isinstance(version, int) else "",
            code="model-version",
        )
    for key, kind in (
        ("name", str),
        ("network", dict),
        ("plan", dict),
        ("labels", list),
        ("channels", list),
    ):
        if not isinstance(model.get(key), kind):
            raise damaged_model(path, f'lacks "{key}"')
    drop_connection_group(path, model)
    for entry in model["labels"]:
        try:
            read_label(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise damaged_model(path, f"holds a label that cannot be read: {entry!r}") from error
    if len({bool(entry.get("values")) for entry in model["labels"]}) > 1:
        raise damaged_model(path, "holds regions beside labels that exclude each other")
    if any(not isinstance(channel, dict) or "name" not in channel for channel in model["channels"]):
        raise damaged_model(path, "holds a channel without a name")
    return model


def drop_connection_group(path: Path, record: dict[str, Any]) -> None:
    """Take out what files from before the first release say of shared connections.

    Raises:
        BadInput: Output maps share their inputs.
    """
    group = record.pop("connection_group", 1)
    if group != 1:
        raise BadInput(
            f"{path} has connection_group {group!r}; shared connections were removed before the "
            "first release.",
            help="Write 1 there: what is computed stays the same, and from now on connections "
            "evolve one by one.",
            code="model-version",
        )


def read_label(entry: Mapping[str, Any]) -> Label:
    """A label of model.json. Raises KeyError, TypeError or ValueError for a damaged one."""
    red, green, blue = (int(value) for value in entry["color"])
    usual = entry.get("usual_ml")
    if usual is not None:
        low, high = (float(value) for value in usual)
        usual = (low, high)
    return Label(
        int(entry["value"]),
        str(entry["name"]),
        (red, green, blue),
        dict(entry.get("terminology") or {}),
        usual,
        tuple(int(value) for value in entry.get("values") or ()),
        _flag(entry.get("one_piece", False)),
    )


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a bundle. Raises BadInput for a damaged one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise damaged_model(path, "is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged_model(path, f"is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise damaged_model(path, "holds no JSON object")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object for a person to read."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    # A triple such as a colour or a patch size reads better on one line.
    number = r"\s*(-?[\d.eE+-]+)"
    text = re.sub(rf"\[{number},{number},{number}\s*\]", r"[\1, \2, \3]", text)
    path.write_text(text + "\n", encoding="utf-8")


def damaged_model(path: Path, what: str) -> BadInput:
    """What every fault in a bundle is answered with; `what` goes on after the file's path."""
    return BadInput(
        f"{path} {what}.",
        help="The model is damaged; import or download it again.",
        code="damaged-model",
    )
