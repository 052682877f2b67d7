"""What is needed is what the finest logits have a gradient for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e2enet.dsff import Connections
from e2enet.networks import E2ENet
from e2enet.runtime.plans.liveness import live_connections, maps_read
from e2enet.runtime.plans.weights import arrays_of
from torch import Tensor, nn

from ..made import made_image


@pytest.mark.parametrize("sparsity", [0.0, 0.7, 0.9, 0.97])
def test_equals_the_gradients(sparsity: float) -> None:
    torch.manual_seed(1)
    network = E2ENet(1, 2, [(1, 2, 2), (2, 2, 2)], base_channels=5, deep_supervision=False)
    Connections.random(network, sparsity, seed=3).apply()
    for name, parameter in network.named_parameters():
        if name.endswith("norm.bias"):
            nn.init.normal_(parameter)  # a map without connections is then not zero
    outputs: dict[str, Tensor] = {}

    def remember(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            output.retain_grad()
            outputs[name] = output

        module.register_forward_hook(hook)

    graph = network.lattice
    read = maps_read(graph, live_connections(graph, arrays_of(network)))
    modules = {layer.module: read[layer.name] for layer in graph.layers}
    for name in modules:
        remember(name, network.get_submodule(name))
    logits = network(made_image(network, (2, 3, 4)))
    (logits * torch.randn_like(logits)).sum().backward()
    for name, output in outputs.items():
        wanted = np.zeros(output.shape[1], bool)
        if output.grad is not None:
            wanted = output.grad.ne(0).any(dim=4).any(dim=3).any(dim=2)[0].numpy()
        np.testing.assert_array_equal(modules[name], wanted, err_msg=name)
