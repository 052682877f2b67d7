"""Counting by tracing, against counting from the graph and against PyTorch's own counter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from e2enet.dsff import Connections, complexity
from e2enet.dsff.tracing import traced_complexity
from e2enet.networks import E2ENet, build_network
from torch.utils.flop_counter import FlopCounterMode

SMALL = {"in_channels": 2, "num_classes": 3, "encoder": "resnet10"}
NETWORKS: list[tuple[str, dict[str, Any], tuple[int, int, int]]] = [
    ("OmniaNet", SMALL, (3, 64, 32)),
    ("OmniaNet", {**SMALL, "encoder": "efficientnet-b0", "stem_feeds_encoder": True}, (1, 64, 64)),
    ("DSNet", {**SMALL, "depth": 9, "widths": [4, 4, 6, 6]}, (9, 32, 64)),
    ("DXNet", {**SMALL, "strides": [[1, 2, 2]] * 3 + [[2, 2, 2]] * 2}, (4, 64, 32)),
    ("EncoderE2ENet", {**SMALL, "strides": [[1, 2, 2]] * 5, "base_channels": 4}, (2, 32, 64)),
]


@pytest.mark.parametrize(("kind", "arguments", "patch"), NETWORKS)
def test_counts_are_pytorchs(kind: str, arguments: dict[str, Any], patch: tuple) -> None:
    network = build_network(kind, arguments).eval()
    found = traced_complexity(network, patch)
    assert found.total.parameters == sum(p.numel() for p in network.parameters())
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, 2, *patch))
    assert 2 * found.total.multiply_adds == counter.get_total_flops()
    assert sum(part.parameters for part in found.parts) == found.total.parameters
    assert found.connections == sum(
        layer.weight.shape[0] * layer.weight.shape[1] for layer in network.sparse_layers().values()
    )


def test_counts_of_e2enet_are_those_of_its_graph() -> None:
    network = E2ENet(1, 3, [(1, 2, 2), (2, 2, 2), (2, 2, 2)], base_channels=4)
    live = Connections.random(network, 0.8).live_by_layer
    found, expected = (
        traced_complexity(network, (8, 16, 16), live),
        complexity(network.lattice, (8, 16, 16), live),
    )
    assert found.total == expected.total
    by_name = {layer.name: layer for layer in found.layers}
    for layer in expected.layers:
        same = by_name[layer.name]
        assert (same.size, same.parameters, same.live_parameters) == (
            layer.size,
            layer.parameters,
            layer.live_parameters,
        )
        assert same.live_multiply_adds == layer.live_multiply_adds
    assert (found.connections, found.live_connections) == (
        expected.connections,
        expected.live_connections,
    )


def test_a_patch_that_does_not_divide() -> None:
    with pytest.raises(ValueError, match="pad it to"):
        traced_complexity(build_network("OmniaNet", SMALL), (1, 33, 32))
