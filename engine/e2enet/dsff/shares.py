"""What each fused node takes from which flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np


class _Sparse(Protocol):
    """What is asked of a layer."""

    @property
    def kind(self) -> str: ...
    @property
    def stage(self) -> int: ...
    @property
    def level(self) -> int: ...
    @property
    def block(self) -> int: ...
    @property
    def flows(self) -> Mapping[str, tuple[int, int]]: ...


def kernel_l1(weight: np.ndarray) -> np.ndarray:
    """L1 norm of each kernel of a weight, over its first two axes."""
    return np.abs(weight).reshape(*weight.shape[:2], -1).sum(2, dtype=np.float64)


def flow_shares(
    layers: Mapping[str, _Sparse], masks: Mapping[str, np.ndarray], norms: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Live connections and live kernel L1 by block of the concatenation.

    Counted in the first convolution of a node; second blocks are left out, upward transposed
    kernels stand apart.

    Args:
        layers: The sparse layers by name.
        masks: Which connections live, over the first two axes of each weight.
        norms: L1 norm of each kernel, as `kernel_l1` gives it.

    Returns:
        One dict a node: stage, level, connections {flow: live count}, l1 {flow: mass},
        possible {flow: connections, live or dead}, up_connections, up_l1, up_possible.
    """
    nodes: dict[tuple[int, int], dict[str, Any]] = {}
    for name, layer in layers.items():
        if layer.block:
            continue
        node = nodes.setdefault(
            (layer.stage, layer.level), {"stage": layer.stage, "level": layer.level}
        )
        mask = masks[name]
        mass = norms[name].astype(np.float64) * mask
        if layer.kind == "up":
            node["up_connections"] = int(mask.sum())
            node["up_l1"] = round(float(mass.sum()), 6)
            node["up_possible"] = mask.size
            continue
        ranges = layer.flows.items()
        node["connections"] = {f: int(mask[:, a:b].sum()) for f, (a, b) in ranges}
        node["l1"] = {f: round(float(mass[:, a:b].sum()), 6) for f, (a, b) in ranges}
        node["possible"] = {f: mask[:, a:b].size for f, (a, b) in ranges}
    return list(nodes.values())
