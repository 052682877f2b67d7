"""Settings that belong together, by name."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any


class Preset(str, Enum):
    """Names of the presets."""

    paper = "paper"


# E2ENet, arXiv 2312.04727, section 4.1 and its released code. S = 0.7 and 0.9 are published too.
_PAPER = {
    "base_channels": 48,
    "levels": 6,
    "sparsity": 0.8,
    "level0_density": 0.2,
    "shift_groups": 3,
    "evolve_every": 1200,
    "epochs": 1000,
    "iterations_per_epoch": 250,
    "lr": 0.01,
}


def with_preset(given: Mapping[str, Any], preset: Preset | None) -> dict[str, Any]:
    """What is given (None means not given), with the preset's values for the rest.

    The released code keeps 20 % of level 0 at any S but 0, where every connection lives.

    Example:
        >>> with_preset({"sparsity": 0.9, "levels": None}, Preset.paper)["levels"]
        6
    """
    if preset is None:
        return dict(given)
    values = {**_PAPER, **{name: value for name, value in given.items() if value is not None}}
    if values["sparsity"] == 0 and given.get("level0_density") is None:
        del values["level0_density"]
    return values
