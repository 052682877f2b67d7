"""The nodes of a network with the layers that the kernels run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from e2enet.networks.lattice import Flow, Lattice, Node
from e2enet.runtime.kernels.layers import ConvLayer, PointLayer, point_layer
from e2enet.runtime.plans.convolutions import conv_layer
from e2enet.runtime.plans.liveness import live_connections, maps_read
from e2enet.runtime.plans.slabs import Looks


@dataclass(frozen=True)
class NodeLayers:
    """A node of the graph with the layers that the kernels run."""

    graph: Node
    blocks: tuple[ConvLayer, ...]
    up: PointLayer | None

    def reads(self, kind: str) -> np.ndarray:
        """The channels of a flow that its first block reads."""
        start, stop = self._channels(kind)
        read = self.blocks[0].read
        return read[(read >= start) & (read < stop)] - start

    @property
    def looks(self) -> Looks:
        """Slices before its own and behind them that it reads of upward maps."""
        (start, stop), layer = self._channels("upward"), self.blocks[0]
        shifts = layer.shifts[(layer.read >= start) & (layer.read < stop)]
        return int(shifts.max(initial=0)), int(-shifts.min(initial=0))

    def _channels(self, kind: str) -> tuple[int, int]:
        return next(flow.channels for flow in self.graph.flows if flow.kind == kind)


def node_layers(
    lattice: Lattice, weights: Mapping[str, np.ndarray], *, paired: bool
) -> tuple[list[NodeLayers], PointLayer]:
    """The nodes in the order in which they are computed, and the finest head.

    Each layer computes only what somebody reads. Finest nodes come first, so that each overwrites
    the maps that it reads; whoever reads these through pooling gets them pooled before.

    Args:
        lattice: The network's graph.
        weights: Parameter name -> array, zero where a connection is dead.
        paired: For products of pairs of bfloat16.
    """
    live = live_connections(lattice, weights)
    read = maps_read(lattice, live)

    def up(flow: Flow | None) -> PointLayer | None:
        if flow is None or flow.up is None:
            return None
        weight, needed = weights[flow.up.weight], read[flow.up.name]
        return point_layer(weight, flow.up.stride, needed, paired=paired)

    nodes = [
        NodeLayers(
            node,
            tuple(
                conv_layer(layer, weights, live[layer.name], read[layer.name], paired)
                for layer in node.blocks
            ),
            up(node.flow("upward")),
        )
        for node in sorted(lattice.nodes, key=lambda node: node.id)
    ]
    finest = lattice.heads[0]
    head = weights[finest.weight].reshape(finest.out_channels, -1).T[..., None]
    return nodes, point_layer(head, (1, 1, 1), read[finest.name], paired=paired)
