"""Parameters and multiply-adds of an E2ENet, dense and live, counted from shapes alone.

One multiply-add is counted for every kernel tap at every output voxel, taps that fall on padding
included: `C_in * C_out * 9` an output voxel for a (1, 3, 3) convolution, `C_in * C_out` for a head.
In a transposed convolution whose kernel is its stride each output voxel sees one tap, which gives
`C_in * C_out * kernel` for an input voxel. Live multiply-adds count only live kernels. Biases,
instance norm, leaky ReLU, max pooling and depth-shift cost a few operations a voxel and map, well
below one per cent, and are left out, as papers do; their parameters are counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from e2enet.networks import Lattice, Layer

_PARTS = {"up": "upward convolutions", "head": "heads"}


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer; a convolution carries the parameters of the norm behind it.

    Attributes:
        name: Module path.
        kind: "backbone", "fusion", "up" or "head"; in other networks the part it belongs to.
        stage: Fusion stage, 0 for the backbone; a head has that of the node it reads.
        level: Resolution level of the output, 0 is full.
        size: Output (D, H, W).
        parameters, live_parameters: Numbers of weights.
        multiply_adds, live_multiply_adds: For one sample.
    """

    name: str
    kind: str
    stage: int
    level: int
    size: tuple[int, int, int]
    parameters: int
    live_parameters: int
    multiply_adds: int
    live_multiply_adds: int


@dataclass(frozen=True)
class PartCost:
    """Sum over a part of the network."""

    name: str
    parameters: int
    live_parameters: int
    multiply_adds: int
    live_multiply_adds: int

    @classmethod
    def of(cls, name: str, layers: Sequence[LayerCost]) -> PartCost:
        """The sum over the layers of a part."""
        return cls(
            name,
            sum(layer.parameters for layer in layers),
            sum(layer.live_parameters for layer in layers),
            sum(layer.multiply_adds for layer in layers),
            sum(layer.live_multiply_adds for layer in layers),
        )


@dataclass(frozen=True)
class Complexity:
    """What a network costs for one patch.

    Attributes:
        patch: Input (D, H, W).
        layers: Every layer with weights.
        connections, live_connections: Of all sparse layers.
    """

    patch: tuple[int, int, int]
    layers: tuple[LayerCost, ...]
    connections: int
    live_connections: int

    @property
    def total(self) -> PartCost:
        """The sum over the parts."""
        return PartCost.of("total", self.layers)

    @property
    def parts(self) -> list[PartCost]:
        """Backbone or encoder, each fusion stage, upward transposed convolutions, heads …"""
        groups: dict[str, list[LayerCost]] = {}
        for layer in self.layers:
            name = _PARTS.get(layer.kind, layer.kind)
            if layer.kind == "fusion":
                name = f"fusion stage {layer.stage}"
            groups.setdefault(name, []).append(layer)
        ups, heads = (groups.pop(_PARTS[kind], None) for kind in ("up", "head"))
        parts = [PartCost.of(name, layers) for name, layers in groups.items()]
        for kind, last in (("up", ups), ("head", heads)):
            if last:
                parts.append(PartCost.of(_PARTS[kind], last))
        return parts

    def to_dict(self) -> dict[str, Any]:
        """Numbers by part, in total and by layer, for JSON."""
        return {
            "patch": list(self.patch),
            "connections": self.connections,
            "live_connections": self.live_connections,
            "total": asdict(self.total),
            "parts": [asdict(part) for part in self.parts],
            "layers": [asdict(layer) for layer in self.layers],
        }


def complexity(
    lattice: Lattice, patch: Sequence[int], live: Mapping[str, int] | None = None
) -> Complexity:
    """Count parameters and multiply-adds without running anything.

    Args:
        lattice: The network's graph.
        patch: Input (D, H, W), each axis a multiple of `lattice.divisor`.
        live: Live connections of each sparse layer, as `Connections.live_by_layer` and
            `planned_live` give them; all of them by default.

    Raises:
        ValueError: The patch does not divide; names the next one that does.

    Example:
        >>> counted = complexity(Lattice(1, 2, [(2, 2, 2)], base_channels=4), (2, 4, 4))
        >>> counted.total.parameters, counted.total.multiply_adds
        (1836, 24320)
    """
    sizes = lattice.sizes(patch)
    sparse = lattice.sparse_layers
    counted = {name: layer.connections for name, layer in sparse.items()}
    alive = counted if live is None else {name: live[name] for name in counted}

    def cost(layer: Layer) -> LayerCost:
        kernel = math.prod(layer.shape[2:])
        kept = alive.get(layer.name, layer.connections)
        # The taps of a transposed convolution are counted at its input voxels.
        voxels = math.prod(sizes[layer.level + (layer.kind == "up")])
        beside = sum(map(math.prod, layer.parameters.values())) - math.prod(layer.shape)
        return LayerCost(
            name=layer.name,
            kind=layer.kind,
            stage=layer.stage,
            level=layer.level,
            size=sizes[layer.level],
            parameters=layer.connections * kernel + beside,
            live_parameters=kept * kernel + beside,
            multiply_adds=layer.connections * kernel * voxels,
            live_multiply_adds=kept * kernel * voxels,
        )

    layers = tuple(map(cost, lattice.layers))
    return Complexity(sizes[0], layers, sum(counted.values()), sum(alive.values()))
