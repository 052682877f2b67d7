"""Omnia-Net, DS-Net and DX-Net: the paper's counts, shapes, and what each part sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from e2enet.networks.dsnet import DSNet, depth_steps
from e2enet.networks.dxnet import DXNet
from e2enet.networks.omnia import OmniaNet, SliceUNet
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

SMALL = "resnet10"
THICK = [(1, 2, 2)] * 4 + [(2, 2, 2)]


def widths(decoder: Any) -> list[tuple[int, int]]:
    """(input, output) maps of the first convolution of each step."""
    return [(step.conv1[0].in_channels, step.conv1[0].out_channels) for step in decoder.steps]


PAPER = [(320 + 112, 256), (256 + 40, 128), (128 + 24, 64), (64 + 32, 32), (32 + 16, 16)]


def test_omnia_net_has_the_papers_widths() -> None:
    network = OmniaNet(1, 4)
    assert widths(network.unet.decoder) == PAPER
    assert network.encoder.in_channels == 1
    assert network.unet.stem[0].out_channels == 16  # type: ignore[index]
    assert network.divisor == (1, 32, 32)


def test_omnia_net_as_released() -> None:
    """The stem's 16 maps enter the encoder; upsampling repeats; ReLU; two convolutions a step."""
    network = OmniaNet(1, 4, stem_feeds_encoder=True)
    assert network.encoder.in_channels == 16
    assert widths(network.unet.decoder) == PAPER
    step = network.unet.decoder.steps[0]
    assert isinstance(step.up, nn.Upsample)
    assert [type(layer) for layer in step.conv2] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]


def test_dx_net_has_the_papers_widths() -> None:
    network = DXNet(1, 4)
    assert widths(network.decoder) == PAPER
    assert isinstance(network.decoder.steps[0].up, nn.ConvTranspose3d)
    assert network.decoder.steps[0].up.in_channels == 320
    assert network.divisor == (32, 32, 32)
    assert DXNet(1, 4, stem_feeds_encoder=True, encoder=SMALL).encoder.in_channels == 16


def test_ds_net_reads_depth_as_colour() -> None:
    """(B, 4, 3, H, W) is 4 B images of three channels; no stem, the last skip empty."""
    network = DSNet(2, 3, 10, SMALL, (4, 4, 6, 6), deep_supervision=False).eval()
    seen: list[torch.Tensor] = []
    network.unet.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0]))
    network.back.register_forward_hook(lambda _, inputs, out: seen.append(out))
    image = torch.randn(2, 2, 10, 32, 32)
    with torch.no_grad():
        logits = network(image)
        squeezed, skips = network.squeezed(image)
    assert squeezed.shape == (2, 4, 3, 32, 32)
    assert seen[0].shape == seen[1].shape == (8, 3, 32, 32)
    assert torch.equal(seen[0][5, 2], squeezed[1, 1, 2])
    assert logits.shape == (2, 3, 10, 32, 32)
    assert [skip.shape[1] for skip in skips] == [4, 4, 6, 6]
    unet = DSNet(1, 2, 10).unet
    assert unet.stem is None
    assert widths(unet.decoder) == [*PAPER[:-1], (32, 16)]


@given(depth=st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_ds_net_brings_any_depth_near_three(depth: int) -> None:
    size = depth
    for step in depth_steps(depth):
        size = -(-size // step)  # a convolution of 3 with padding 1
    assert min(depth, 2) <= size <= 6


def make(kind: str, channels: int, classes: int) -> Any:
    if kind == "omnia":
        return OmniaNet(channels, classes, SMALL)
    if kind == "ds":
        return DSNet(channels, classes, 6, SMALL, (4, 4, 4, 4))
    return DXNet(channels, classes, THICK, SMALL)


@pytest.mark.parametrize("kind", ["omnia", "ds", "dx"])
def test_networks_share_one_face(kind: str) -> None:
    network = make(kind, 2, 3).eval()
    assert network.sparse_layers() == {}
    assert network.num_heads == 1
    size = tuple(2 * n for n in network.divisor)
    image = torch.randn(1, 2, *size)
    with torch.no_grad():
        (logits,) = network(image)
        again = type(network)(**network.arguments).eval()
        again.load_state_dict(network.state_dict())
        again.deep_supervision = False
        assert torch.equal(again(image), logits)
    assert logits.shape == (1, 3, *size)
    with pytest.raises(ValueError, match="pad it to"):
        network(torch.zeros(1, 2, 2, 33, 64))
    with pytest.raises(ValueError, match="takes"):
        network(torch.zeros(1, 3, *size))
    with pytest.raises(ValueError, match="num_classes"):
        make(kind, 1, 0)


@pytest.mark.parametrize("kind", ["omnia", "ds", "dx"])
def test_every_weight_gets_a_gradient(kind: str) -> None:
    network = make(kind, 1, 2).train()
    depth = 6 if kind == "ds" else network.divisor[0]
    network(torch.randn(2, 1, depth, 64, 64))[0].square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None]
    assert not silent


@torch.no_grad()
def test_omnia_net_sees_slices_alone_or_with_their_neighbours() -> None:
    volume = torch.randn(2, 2, 5, 32, 32)
    alone = OmniaNet(2, 3, SMALL, deep_supervision=False).eval()
    whole = alone(volume)
    for d in range(5):
        assert torch.allclose(alone(volume[:, :, d : d + 1]), whole[:, :, d : d + 1], atol=1e-5)

    three = OmniaNet(2, 3, SMALL, input_slices=3, deep_supervision=False).eval()
    assert three.encoder.in_channels == 6
    whole = three(volume)
    unet: SliceUNet = three.unet
    for d in range(5):
        near = [volume[:, :, min(max(d + k, 0), 4)] for k in (-1, 0, 1)]
        expected = three.heads[0](unet(torch.cat(near, 1)))
        assert torch.allclose(expected, whole[:, :, d], atol=1e-5)
    with pytest.raises(ValueError, match="odd"):
        OmniaNet(1, 2, SMALL, input_slices=2)
