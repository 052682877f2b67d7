"""How many connections a sparsity leaves alive, from shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class _Sparse(Protocol):
    """What is asked of a layer."""

    @property
    def kind(self) -> str: ...
    @property
    def level(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


def planned_live(
    layers: Mapping[str, _Sparse], sparsity: float, *, level0_density: float | None = None
) -> dict[str, int]:
    """Live connections of each layer at a sparsity, as `Connections.random` draws them.

    Args:
        layers: Of `Lattice.sparse_layers` or of a network.
        sparsity, level0_density: As `Connections.random`.

    Raises:
        ValueError: The sparsity or the density lies outside [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"The sparsity is {sparsity}; it must be at least 0 and below 1.")
    if level0_density is not None and not 0 < level0_density <= 1:
        raise ValueError(f"level0_density is {level0_density}; it must be in (0, 1].")
    live = {}
    for name, layer in layers.items():
        density = 1 - sparsity
        if level0_density is not None and layer.level == 0 and layer.kind == "fusion":
            density = level0_density
        live[name] = round(density * layer.shape[0] * layer.shape[1])
    return live
