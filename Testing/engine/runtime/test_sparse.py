"""The sparse plan computes what the network computes."""

from __future__ import annotations


import pytest
import torch
from e2enet.networks import E2ENet
from e2enet.runtime.sparse import SparsePlan
from hypothesis import given, settings
from hypothesis import strategies as st

from .made import Setup, difference, exact, made_image, made_network, setups

S122, S222 = (1, 2, 2), (2, 2, 2)


@settings(max_examples=60, deadline=None)
@given(setup=setups(), threads=st.integers(1, 3))
def test_equals_the_network(setup: Setup, threads: int) -> None:
    network = setup.network()
    image = setup.image(network)
    kept = image.clone()
    found = SparsePlan(network, threads)(image)
    assert found.dtype == torch.float32
    assert difference(found, exact(network, image)) < 1e-3
    assert torch.equal(image, kept)


def kill(network: E2ENet, *names: str) -> None:
    with torch.no_grad():
        for name in names:
            network.get_parameter(name).zero_()


@pytest.mark.parametrize(
    "dead",
    [
        ["nodes.1_1.0.conv.weight"],
        ["nodes.2_0.0.conv.weight"],
        ["nodes.2_0.1.conv.weight"],
        ["ups.1_0.weight"],
        ["ups.2_0.weight", "ups.1_1.weight"],
        ["nodes.1_0.0.conv.weight", "ups.2_0.weight"],
        ["heads.0.weight"],
        ["backbone.0.0.conv.weight"],
        ["backbone.2.1.conv.weight"],
    ],
)
def test_layers_without_any_live_connection(dead: list[str]) -> None:
    network = made_network([S122, S222], sparsity=0.5, base=5)
    kill(network, *dead)
    image = made_image(network, (2, 2, 3))
    assert difference(SparsePlan(network, 2)(image), exact(network, image)) < 1e-3


@pytest.mark.parametrize("flow", ["forward", "upward", "downward"])
def test_a_node_that_loses_an_input(flow: str) -> None:
    network = made_network([S122, S222], sparsity=0.0, base=5)
    with torch.no_grad():
        for layer in network.sparse_layers().values():
            if flow in layer.flows and layer.kind == "fusion":
                first, last = layer.flows[flow]
                layer.weight[:, first:last] = 0
    image = made_image(network, (2, 2, 3))
    assert difference(SparsePlan(network, 2)(image), exact(network, image)) < 1e-3


def test_a_channel_of_the_image_that_nobody_reads() -> None:
    network = made_network([S222], inputs=3)
    with torch.no_grad():
        network.get_parameter("backbone.0.0.conv.weight")[:, 1] = 0
    image = made_image(network, (2, 2, 3))
    assert difference(SparsePlan(network, 1)(image), exact(network, image)) < 1e-3
