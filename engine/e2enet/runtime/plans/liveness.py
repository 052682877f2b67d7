"""Which maps of a network somebody reads, found from the finest head back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from e2enet.networks import Lattice


def live_connections(lattice: Lattice, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Layer name -> which of its kernels are not all zeros, over the first two axes of its weight.

    Args:
        lattice: Names the layers.
        weights: Parameter name -> array.
    """
    return {
        layer.name: np.any(weights[layer.weight].reshape(*layer.shape[:2], -1), axis=2)
        for layer in lattice.layers
    }


def maps_read(lattice: Lattice, live: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The output maps of each layer that the finest logits depend on.

    Args:
        lattice: The graph.
        live: As `live_connections` gives them.

    Returns:
        Layer name -> (output maps,) bool; heads other than the finest are read by nobody.
    """
    node_maps = {node.id: np.zeros(lattice.channels[node.level], bool) for node in lattice.nodes}
    reads: dict[str, np.ndarray] = {}
    for head in lattice.heads:
        reads[head.name] = np.full(head.out_channels, head.level == 0)
    finest = lattice.heads[0]
    node_maps[finest.stage, finest.level] |= live[finest.name].any(axis=0)
    for node in reversed(lattice.nodes):
        needed = node_maps[node.id]
        for layer in reversed(node.blocks):
            reads[layer.name] = needed
            needed = np.any(live[layer.name][needed], axis=0)
        for flow in node.flows:
            inputs = needed[slice(*flow.channels)]
            if flow.up:
                reads[flow.up.name] = inputs
                inputs = np.any(live[flow.up.name][:, inputs], axis=1)
            if flow.source is not None:
                node_maps[flow.source] |= inputs
    return reads
