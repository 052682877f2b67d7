"""The plan for PyTorch alone computes what the network computes."""

from __future__ import annotations

import pytest
import torch
from e2enet.runtime.plans import grouped
from e2enet.runtime.plans.grouped import GroupedPlan
from hypothesis import given, settings
from hypothesis import strategies as st

from ..made import Setup, assert_same, kill, made_image, made_network, setups

CPU = torch.device("cpu")
S122, S222 = (1, 2, 2), (2, 2, 2)


@settings(max_examples=60, deadline=None)
@given(
    setup=setups(),
    grouped_here=st.booleans(),
    least=st.sampled_from([1, 8]),
    gain=st.sampled_from([0, 2]),
)
def test_equals_the_network(setup: Setup, grouped_here: bool, least: int, gain: int) -> None:
    """Also in groups that would not pay."""
    ungrouped = () if grouped_here else ("cpu",)
    network = setup.network()
    image = setup.image(network)
    kept = image.clone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouped, "_UNGROUPED", ungrouped)
        patch.setattr(grouped, "_LEAST_GROUP", least)
        patch.setattr(grouped, "_GAIN", gain)
        found = GroupedPlan(network, CPU)(image)
    assert_same(found, network, image)
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
    assert_same(GroupedPlan(network, CPU)(image), network, image)


def test_maps_that_share_their_inputs_are_made_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped, "_UNGROUPED", ())
    network = made_network([S222], base=48, most=48, sparsity=0.9, group=8)
    image = made_image(network, (2, 4, 4), batch=2)
    plan = GroupedPlan(network, CPU)
    assert any(block._groups > 1 for node in plan.nodes for block in node.blocks)
    assert_same(plan(image), network, image)
