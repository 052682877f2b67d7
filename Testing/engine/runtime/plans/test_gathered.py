"""The plan for PyTorch alone computes what the network computes."""

from __future__ import annotations

import pytest
import torch
from e2enet.runtime.plans.gathered import GatheredPlan
from hypothesis import given, settings

from ..made import Setup, assert_same, kill, made_image, made_network, setups

CPU = torch.device("cpu")
S122, S222 = (1, 2, 2), (2, 2, 2)


@settings(max_examples=60, deadline=None)
@given(setup=setups())
def test_equals_the_network(setup: Setup) -> None:
    network = setup.network()
    image = setup.image(network)
    kept = image.clone()
    assert_same(GatheredPlan(network, CPU)(image), network, image)
    assert torch.equal(image, kept)


DEAD = [
    ["nodes.1_1.0.conv.weight"],
    ["nodes.2_0.0.conv.weight"],
    ["nodes.2_0.1.conv.weight"],
    ["ups.2_0.weight", "ups.1_1.weight"],
    ["heads.0.weight"],
    ["backbone.0.0.conv.weight"],
    ["backbone.2.1.conv.weight"],
]


@pytest.mark.parametrize("dead", DEAD)
def test_layers_without_any_live_connection(dead: list[str]) -> None:
    network = made_network([S122, S222], sparsity=0.5, base=5)
    kill(network, *dead)
    image = made_image(network, (2, 2, 3))
    assert_same(GatheredPlan(network, CPU)(image), network, image)
