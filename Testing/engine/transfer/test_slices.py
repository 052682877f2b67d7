"""A network of slices as a network of volumes: exact until statistics and shift are switched."""

from __future__ import annotations

import pytest
import torch
from e2enet.dsff import Connections
from e2enet.events import BadInput
from e2enet.networks import E2ENet
from e2enet.runtime.plans.gathered import GatheredPlan
from e2enet.runtime.plans.sparse import SparsePlan
from e2enet.runtime.plans.weights import arrays_of
from e2enet.transfer.slices import volume_network
from hypothesis import given, settings
from hypothesis import strategies as st

STRIDES = [(1, 2, 2), (1, 1, 2)]


def trained(seed: int = 0, channels: int = 1, **more: object) -> tuple[E2ENet, Connections]:
    """With biases and norms that are not the neutral ones they start from."""
    torch.manual_seed(seed)
    network = E2ENet(channels, 3, STRIDES, base_channels=4, shift_groups=1, **more)  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".norm." in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    connections = Connections.random(network, 0.6, seed=seed)
    connections.apply()
    network.deep_supervision = False
    return network.eval(), connections


@given(depth=st.integers(1, 5), channels=st.integers(1, 2), batch=st.integers(1, 2))
@settings(max_examples=6, deadline=None)
@torch.no_grad()
def test_a_volume_gives_what_its_slices_gave(depth: int, channels: int, batch: int) -> None:
    flat, connections = trained(channels=channels)
    deep, masks = volume_network(flat, connections, norm_axes="slice", shift_groups=1)
    deep.deep_supervision = False
    volume = torch.randn(batch, channels, depth, 8, 16)
    # On a slice, statistics over the volume are those over H and W.
    expected = torch.cat([flat(volume[:, :, d : d + 1]) for d in range(depth)], dim=2)
    torch.testing.assert_close(deep(volume), expected, atol=1e-5, rtol=0)
    assert masks.live == connections.live
    for name, mask in connections.masks.items():
        assert torch.equal(masks.masks[name], mask)
    sparse = SparsePlan(deep.lattice, arrays_of(deep), 1)(volume.numpy())
    torch.testing.assert_close(torch.from_numpy(sparse), expected, atol=1e-4, rtol=0)
    gathered = GatheredPlan(deep, torch.device("cpu"), None)(volume)
    torch.testing.assert_close(gathered, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_statistics_are_those_of_a_slice() -> None:
    """Against PyTorch's own instance norm of images, block by block."""
    deep, _ = volume_network(*trained(), norm_axes="slice", shift_groups=1)
    block = deep.blocks(0, 0)[0]
    seen: list[torch.Tensor] = []
    block.register_forward_hook(lambda *args: seen.append(args[2]))
    volume = torch.randn(1, 1, 4, 8, 16)
    deep(volume)
    for d in range(4):
        y = torch.nn.functional.conv2d(volume[:, :, d], block.conv.weight[:, :, 0], padding=1)
        y = torch.nn.functional.instance_norm(y, None, None, block.norm.weight, block.norm.bias)
        y = torch.nn.functional.leaky_relu(y, 0.01)
        torch.testing.assert_close(seen[0][d, :, 0], y[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_switch_is_what_changes_the_logits() -> None:
    flat, connections = trained()
    volume = torch.randn(1, 1, 4, 8, 16)
    exact, _ = volume_network(flat, connections, norm_axes="slice", shift_groups=1)
    switched, _ = volume_network(flat, connections)
    assert switched.arguments["shift_groups"] == 3
    assert "norm_axes" not in switched.arguments
    for name, tensor in flat.state_dict().items():
        assert torch.equal(switched.state_dict()[name], tensor)
    for y, z in zip(exact(volume), switched(volume), strict=True):
        assert not torch.allclose(y, z, atol=1e-2)


def test_deep_supervision_of_slices() -> None:
    flat, connections = trained(norm_axes="slice")
    flat.deep_supervision = True
    found = flat(torch.randn(2, 1, 3, 8, 16))
    assert [tuple(y.shape) for y in found] == [(2, 3, 3, 8, 16)]
    sum(y.sum() for y in found).backward()
    assert connections.total


def test_what_is_no_network_of_slices() -> None:
    deep = E2ENet(1, 2, [(2, 2, 2)], base_channels=4, shift_groups=1)
    with pytest.raises(BadInput, match="trained on slices"):
        volume_network(deep, Connections.dense(deep))
    flat, connections = trained()
    with pytest.raises(BadInput, match="shift_groups 1"):
        volume_network(flat, connections, norm_axes="slice", shift_groups=3)
    with pytest.raises(ValueError, match="norm_axes"):
        E2ENet(1, 2, STRIDES, norm_axes="batch")
