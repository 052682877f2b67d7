"""Importance maps of one window against the definition, loop by loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from e2enet.dsff import Connections
from e2enet.explain.importance import FusionMaps, inputs_of, to_grid
from e2enet.explain.nodes import Node, lattice
from e2enet.networks import E2ENet


@pytest.fixture
def model():
    """A small network in eval mode, its connections, and a window (1, 1, 8, 12, 8)."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = E2ENet(1, 3, [(2, 2, 2), (1, 2, 2)], base_channels=4).eval()
        window = torch.randn(1, 1, 8, 12, 8)
    connections = Connections.random(network, 0.5, seed=1)
    connections.apply()
    return network, connections, window


def entering(network: E2ENet, node: Node, window: torch.Tensor) -> np.ndarray:
    """What the node's first block is given, concatenated and shifted here: (C, D, H, W)."""
    kept = []
    block = network.blocks(*node)[0]
    handle = block.register_forward_pre_hook(
        lambda module, args: kept.extend(one.clone() for one in args[0])
    )
    with torch.no_grad():
        network(window)
    handle.remove()
    x = np.concatenate([one[0].numpy() for one in kept])
    shifted = np.zeros_like(x)
    size = -(-len(x) // 3)
    for c in range(len(x)):
        shift = c // size - 1
        for d in range(x.shape[1]):
            if 0 <= d - shift < x.shape[1]:
                shifted[c, d] = x[c, d - shift]
    return shifted


def by_hand(network, connections, node, window) -> dict[str, np.ndarray]:
    """A_d(v) with a loop for every sum, on the node's grid."""
    name = f"nodes.{node.stage}_{node.level}.0.conv"
    weight = dict(network.named_parameters())[f"{name}.weight"].detach().numpy()
    mask = connections.masks[name].numpy()
    x = entering(network, node, window)
    result = {}
    for direction, (start, stop) in connections.layers[name].flows.items():
        total = np.zeros(x.shape[1:])
        for c in range(start, stop):
            factor = 0.0
            for o in range(weight.shape[0]):
                if mask[o, c]:
                    factor += np.abs(weight[o, c]).sum()
            total += factor * np.abs(x[c])
        result[direction] = total
    return result


@pytest.mark.parametrize("grad", [False, True])
def test_importance_is_the_definition(model, grad):
    network, connections, window = model
    nodes = lattice(3)
    expected = {node: by_hand(network, connections, node, window) for node in nodes}
    maps = FusionMaps(network, connections, nodes, classes=[1] if grad else [])
    with torch.inference_mode():
        found = maps(window)
    assert found.shape == (1, len(maps.keys), 8, 12, 8)
    for place, key in enumerate(maps.keys):
        if key.label is not None:
            continue
        direct = torch.from_numpy(expected[key.node][key.direction]).float()[None, None]
        direct = F.interpolate(direct, (8, 12, 8), mode="trilinear", align_corners=False)
        torch.testing.assert_close(found[0, place], direct[0, 0], rtol=1e-4, atol=1e-5)


def test_keys_name_nodes_directions_and_labels(model):
    network, connections, _ = model
    maps = FusionMaps(network, connections, [Node(2, 0), Node(1, 1)], classes=[2])
    found = [(key.node, key.direction, key.label) for key in maps.keys]
    one = [
        ((2, 0), "forward"),
        ((2, 0), "upward"),
        ((1, 1), "forward"),
        ((1, 1), "upward"),
        ((1, 1), "downward"),
    ]
    assert found == [(*each, None) for each in one] + [(*each, 2) for each in one]


def test_dead_connections_count_nothing(model):
    network, connections, window = model
    name = "nodes.1_1.0.conv"
    start, stop = connections.layers[name].flows["upward"]
    connections.masks[name][:, start:stop] = False
    connections.apply()
    maps = FusionMaps(network, connections, [Node(1, 1)], classes=[0])
    found = maps(window)
    for place, key in enumerate(maps.keys):
        assert bool(found[0, place].any()) == (key.direction != "upward")


def test_the_label_form_is_the_gradient_times_the_input(model):
    """The gradient is checked by moving single inputs, in double precision."""
    network, connections, window = model
    network, window = network.double(), window.double()
    node, label = Node(1, 1), 1
    layer = connections.layers["nodes.1_1.0.conv"]
    with torch.no_grad(), inputs_of([layer]) as inputs:
        winner = network(window)[0].argmax(1)
        x = inputs[layer.name].clone()
    assert (winner == label).any()

    def score(moved: torch.Tensor) -> float:
        handle = layer.module.register_forward_pre_hook(lambda module, args: (moved,))
        with torch.no_grad():
            logits = network(window)[0]
        handle.remove()
        return float(logits[:, label][winner == label].sum())

    maps = FusionMaps(network, connections, [node], classes=[label])
    # On the node's own grid, before it is interpolated.
    resized, maps._resized = maps._resized, lambda found, size: found
    found = dict(zip(maps.keys, maps(window), strict=True))
    maps._resized = resized
    random = np.random.default_rng(0)
    for key in maps.keys:
        if key.label is None:
            continue
        start, stop = layer.flows[key.direction]
        place = [int(random.integers(n)) for n in x.shape[2:]]
        expected = 0.0
        for c in range(start, stop):
            at = (0, c, *place)
            up, down = x.clone(), x.clone()
            up[at] += 1e-5
            down[at] -= 1e-5
            gradient = (score(up) - score(down)) / 2e-5
            expected += abs(gradient * float(x[at]))
        expected *= x[0, 0].numel() / window.numel()  # each voxel of the window has its share
        assert float(found[key][(0, 0, *place)]) == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_a_label_that_does_not_win_anywhere_gives_0(model):
    network, connections, window = model
    with torch.no_grad():
        for head in network.heads:
            head.weight[2] = 0
            head.weight[1] = head.weight[0] * 2
        winner = network(window)[0].argmax(1)
    missing = next(k for k in (0, 1, 2) if not (winner == k).any())
    maps = FusionMaps(network, connections, [Node(2, 0)], classes=[missing])
    found = maps(window)
    for place, key in enumerate(maps.keys):
        assert bool(found[0, place].any()) == (key.label is None)


def test_several_windows_at_once_are_each_their_own(model):
    network, connections, window = model
    other = torch.flip(window, [4]) * 2
    maps = FusionMaps(network, connections, lattice(3), classes=[0, 1])
    with torch.inference_mode():
        both = maps(torch.cat([window, other]))
        torch.testing.assert_close(both[0], maps(window)[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(both[1], maps(other)[0], rtol=1e-4, atol=1e-5)


def test_the_network_is_left_as_it_was(model):
    network, connections, window = model
    with torch.no_grad():
        before = network(window)[0].clone()
    FusionMaps(network, connections, lattice(3), classes=[1])(window)
    with torch.no_grad():
        torch.testing.assert_close(network(window)[0], before, rtol=1e-4, atol=1e-5)
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_map_keeps_its_place_and_its_mean():
    maps = torch.zeros(1, 1, 2, 2, 2)
    maps[0, 0, 0, 1, 0] = 8.0
    found = to_grid(maps, (4, 4, 4))[0, 0]
    assert float(found.mean()) == pytest.approx(1.0)
    corner = found[:1, 3:, :1]
    assert float(corner) == float(found.max()) == 8.0
