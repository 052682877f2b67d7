from __future__ import annotations

import pytest
import torch
from e2enet.dsff import Connections, planned_live
from e2enet.networks import E2ENet
from hypothesis import given, settings
from hypothesis import strategies as st

from .tiny import Tiny, recipe, train_step


def network() -> E2ENet:
    torch.manual_seed(0)
    return E2ENet(1, 2, [(1, 2, 2), (2, 2, 2)], base_channels=4)


@settings(max_examples=40, deadline=None)
@given(
    sparsity=st.floats(0, 0.99),
    level0=st.none() | st.floats(0.01, 1),
    seed=st.integers(0, 2**31),
)
def test_each_layer_keeps_its_share(sparsity: float, level0: float | None, seed: int) -> None:
    net = network()
    connections = Connections.random(net, sparsity, level0_density=level0, seed=seed)
    for name, layer in connections.layers.items():
        special = level0 is not None and layer.level == 0 and layer.kind == "fusion"
        mask = connections.masks[name]
        assert int(mask.sum()) == round((level0 if special else 1 - sparsity) * mask.numel())
        assert mask.shape == layer.weight.shape[:2]
    assert connections.live_by_layer == planned_live(
        net.sparse_layers(), sparsity, level0_density=level0
    )
    assert connections.live == sum(connections.live_by_layer.values())
    assert connections.density == connections.live / connections.total


def test_the_seed_decides_and_nothing_else() -> None:
    before = torch.get_rng_state()
    first, same, other = (Connections.random(network(), 0.8, seed=s).masks for s in (1, 1, 2))
    assert all(torch.equal(mask, same[name]) for name, mask in first.items())
    assert any(not torch.equal(mask, other[name]) for name, mask in first.items())
    torch.manual_seed(0)
    network()
    wanted = torch.get_rng_state()
    torch.set_rng_state(before)
    Connections.random(network(), 0.8, seed=1)
    assert torch.equal(torch.get_rng_state(), wanted)  # drawing took nothing from the global state


def test_dense_keeps_everything() -> None:
    connections = Connections.dense(network())
    assert connections.live == connections.total
    assert connections.density == 1


@pytest.mark.parametrize("wrong", [-0.1, 1.0, 2.0, float("nan")])
def test_impossible_sparsities_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="sparsity"):
        Connections.random(network(), wrong)
    with pytest.raises(ValueError, match="level0_density"):
        Connections.random(network(), 0.5, level0_density=wrong if wrong != 1 else 0)


def test_apply_zeroes_whole_kernels_and_their_momentum_and_leaves_gradients() -> None:
    torch.manual_seed(0)
    net = Tiny()
    optimizer = recipe(net)
    connections = Connections.random(net, 0.6, seed=1)
    connections.apply(optimizer)  # no momentum yet
    for _ in range(2):
        train_step(net, optimizer, torch.randn(1, 12, 2, 6, 6), torch.randn(1, 4, 4, 12, 12))
    gradients = {name: p.grad.clone() for name, p in net.named_parameters()}
    untouched = net.first.bias.detach().clone()
    connections.apply(optimizer)
    for name, layer in connections.layers.items():
        live = connections.masks[name]
        momentum = optimizer.state[layer.weight]["momentum_buffer"]
        for tensor in (layer.weight, momentum):
            assert tensor[~live].count_nonzero() == 0
            assert tensor[live].flatten(1).ne(0).any(1).all()
        assert torch.equal(layer.weight.grad, gradients[f"{name}.weight"])
        assert layer.weight.grad[~live].count_nonzero() > 0
    assert torch.equal(net.first.bias, untouched)


def test_the_masks_are_found_again_in_the_weights() -> None:
    net = network()
    connections = Connections.random(net, 0.8, seed=4)
    connections.apply()
    again = Connections.from_weights(net)
    assert all(torch.equal(mask, again.masks[name]) for name, mask in connections.masks.items())
    assert connections.live_parameters == sum(
        int(layer.weight.count_nonzero()) for layer in connections.layers.values()
    )


def test_kernel_l1() -> None:
    net = network()
    connections = Connections.dense(net)
    for name, layer in connections.layers.items():
        wanted = layer.weight.detach().abs().sum((2, 3, 4))
        assert torch.allclose(connections.kernel_l1(name), wanted)


def test_shares_count_by_flow_and_node() -> None:
    net = network()
    connections = Connections.random(net, 0.7, seed=5)
    connections.apply()
    shares = {(node["stage"], node["level"]): node for node in connections.shares()}
    assert set(shares) == {node.id for node in net.lattice.fused}
    node, mask = shares[1, 1], connections.masks["nodes.1_1.0.conv"]
    assert node["connections"] == {
        "forward": int(mask[:, :8].sum()),
        "upward": int(mask[:, 8:16].sum()),
        "downward": int(mask[:, 16:].sum()),
    }
    assert node["possible"] == {"forward": 64, "upward": 64, "downward": 32}
    mass = net.get_parameter("nodes.1_1.0.conv.weight").detach().abs()
    assert node["l1"]["downward"] == pytest.approx(float(mass[:, 16:].sum()), rel=1e-4)
    assert node["up_connections"] == int(connections.masks["ups.1_1"].sum())
    assert node["up_possible"] == 16 * 8
    assert node["up_l1"] == pytest.approx(
        float(net.get_parameter("ups.1_1.weight").detach().abs().sum()), rel=1e-4
    )
    assert set(shares[2, 0]["connections"]) == {"forward", "upward"}


def test_state_round_trip_in_place() -> None:
    net = network()
    saved = Connections.random(net, 0.8, seed=6).state_dict()
    connections = Connections.random(net, 0.8, seed=7)
    held = connections.masks["ups.1_0"]
    connections.load_state_dict(saved)
    assert all(torch.equal(mask, saved[name]) for name, mask in connections.masks.items())
    assert connections.masks["ups.1_0"] is held
    held.fill_(False)
    assert saved["ups.1_0"].any()  # what was saved does not change with the connections


def test_masks_that_do_not_fit_are_refused() -> None:
    net = network()
    state = Connections.dense(net).state_dict()
    wrong = {**state, "ups.1_0": torch.ones(2, 2, dtype=torch.bool)}
    missing = {name: mask for name, mask in state.items() if name != "ups.1_0"}
    for masks in (wrong, missing):
        with pytest.raises(ValueError, match=r"ups\.1_0"):
            Connections(net, masks)
        with pytest.raises(ValueError, match=r"ups\.1_0"):
            Connections.dense(net).load_state_dict(masks)
