"""E2ENet on a 2D encoder: the encoder's kernels act slice by slice, DSFF fuses on top."""

from __future__ import annotations

import pytest
import torch
from e2enet.dsff import Connections
from e2enet.networks import build_network
from e2enet.networks.encoder_e2enet import EncoderE2ENet

FLAT, DEEP = [(1, 2, 2)] * 5, [(1, 2, 2)] * 2 + [(2, 2, 2)] * 3


def network(strides: list[tuple[int, int, int]] = FLAT) -> EncoderE2ENet:
    torch.manual_seed(0)
    return EncoderE2ENet(1, 3, strides, "resnet10", base_channels=4, max_channels=16).eval()


@torch.no_grad()
def test_the_encoder_sees_slices() -> None:
    made = network()
    volume = torch.randn(2, 1, 3, 64, 64)
    taps = made._taps(volume)
    for d in range(3):
        for tap, expected in zip(taps, made.encoder(volume[:, :, d]), strict=True):
            torch.testing.assert_close(tap[:, :, d], expected, atol=1e-4, rtol=1e-4)
    assert [y.shape[1] for y in made(volume)] == [3] * 4


@torch.no_grad()
def test_depth_is_pooled_where_a_stride_halves_it() -> None:
    made = network(DEEP)
    taps = made._taps(torch.randn(1, 1, 8, 64, 64))
    assert [tap.shape[2] for tap in taps] == [8, 8, 4, 2, 1]
    assert made.divisor == (8, 32, 32)
    assert made(torch.randn(1, 1, 8, 64, 64))[0].shape == (1, 3, 8, 64, 64)


def test_connections_are_those_of_e2enet_and_every_weight_learns() -> None:
    made = network(DEEP).train()
    connections = Connections.random(made, 0.5, seed=1)
    connections.apply()
    assert set(connections.masks) == set(made.lattice.sparse_layers)
    sum(y.square().mean() for y in made(torch.randn(2, 1, 8, 64, 64))).backward()
    silent = [name for name, p in made.named_parameters() if p.grad is None]
    assert all(name.endswith("conv.bias") for name in silent)  # as in E2ENet: norms take them away


def test_it_is_built_again_from_its_arguments() -> None:
    made = network(DEEP)
    again = build_network("EncoderE2ENet", made.arguments).eval()
    again.load_state_dict(made.state_dict())
    image = torch.randn(1, 1, 8, 32, 32)
    with torch.no_grad():
        for y, z in zip(made(image), again(image), strict=True):
            assert torch.equal(y, z)
    with pytest.raises(ValueError, match="five strides"):
        network([(1, 2, 2)] * 4)
