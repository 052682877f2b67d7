"""Weights of a network without a lattice come back as they were, counters included."""

from __future__ import annotations

from pathlib import Path

import torch
from e2enet.bundle.weights import load_weights, save_weights
from e2enet.dsff import Connections
from e2enet.networks import build_network


def test_batch_statistics_and_their_counters(tmp_path: Path) -> None:
    arguments = {"in_channels": 1, "num_classes": 2, "encoder": "resnet10"}
    network = build_network("OmniaNet", arguments)
    network.train()(torch.randn(2, 1, 1, 64, 64))
    connections = Connections.dense(network)  # type: ignore[arg-type]
    assert (connections.total, connections.density) == (0, 1.0)
    save_weights(tmp_path / "weights.safetensors", network, connections)
    stored = load_weights(tmp_path / "weights.safetensors", "OmniaNet", arguments)
    assert stored.density == 1.0
    found = stored.module().state_dict()
    assert found.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(found[name], tensor), name
    assert int(found["unet.stem.1.num_batches_tracked"]) == 1
