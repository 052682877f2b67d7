"""MONAI's classification networks, tapped: counts of the paper, and MONAI's own maps."""

from __future__ import annotations

import pytest
import torch
from e2enet.events import BadInput
from e2enet.networks.encoders import ENCODERS, Encoder
from monai.networks.nets import EfficientNetBNFeatures, ResNetFeatures

B4 = (48, 32, 56, 160, 448)


def shaken(network: torch.nn.Module) -> torch.nn.Module:
    """With batch statistics that are not the neutral ones they start from."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) / 10)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return network.eval()


def test_efficientnet_b0_has_the_papers_skips_and_bottleneck() -> None:
    encoder = Encoder("efficientnet-b0", in_channels=3)
    assert encoder.channels == (32, 24, 40, 112, 320)
    assert Encoder("efficientnet-b4", in_channels=1).channels == B4


@pytest.mark.parametrize("name", ["efficientnet-b0", "resnet18", "resnet50"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_each_tap_halves(name: str, dimensions: int) -> None:
    encoder = Encoder(name, in_channels=2, dimensions=dimensions).eval()
    size = (64, 96) if dimensions == 2 else (32, 32, 64)
    with torch.no_grad():
        maps = encoder(torch.zeros(1, 2, *size))
    for step, (found, channels) in enumerate(zip(maps, encoder.channels, strict=True), start=1):
        assert tuple(found.shape) == (1, channels, *(n // 2**step for n in size))


def test_depth_may_stay() -> None:
    encoder = Encoder("efficientnet-b0", in_channels=1, dimensions=3, depth_strides=(1, 1, 2, 1, 2))
    with torch.no_grad():
        maps = encoder.eval()(torch.zeros(1, 1, 4, 64, 64))
    assert [found.shape[2] for found in maps] == [4, 4, 2, 2, 1]
    with pytest.raises(ValueError, match="five ones or twos"):
        Encoder("efficientnet-b0", in_channels=1, dimensions=3, depth_strides=(3, 1, 1, 1, 1))


@torch.no_grad()
def test_maps_are_those_of_monais_efficientnet() -> None:
    """At 224 pixels, for which MONAI pads as every size is padded here."""
    theirs = shaken(EfficientNetBNFeatures("efficientnet-b0", pretrained=False))
    ours = Encoder("efficientnet-b0", in_channels=3).eval()
    missing, unused = ours.body.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing
    assert {name.split(".")[0] for name in unused} == {"_conv_head", "_bn1", "_fc"}
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    found, expected = ours(image), theirs(image)
    for level in range(1, 5):  # MONAI's first map lies behind the second stage, not ours
        assert torch.equal(found[level], expected[level])


@torch.no_grad()
def test_maps_are_those_of_monais_resnet() -> None:
    theirs = shaken(ResNetFeatures("resnet50", pretrained=False, spatial_dims=2, in_channels=3))
    ours = Encoder("resnet50", in_channels=3).eval()
    ours.body.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    for found, expected in zip(ours(image), theirs(image), strict=True):
        assert torch.equal(found, expected)


def test_a_resnet_has_torchvisions_names() -> None:
    """As in torchvision's resnet18: shortcuts with weights and without a bias."""
    names = set(Encoder("resnet18", in_channels=3).body.state_dict())
    assert {"conv1.weight", "layer2.0.downsample.0.weight", "layer4.1.bn2.running_var"} <= names
    assert not any(name.endswith(("conv1.bias", "downsample.0.bias")) for name in names)
    assert not any(name.startswith(("fc", "layer1.0.downsample")) for name in names)


def test_both_dimensions_have_the_same_names() -> None:
    for name in ("efficientnet-b0", "resnet50"):
        flat, deep = (
            Encoder(name, in_channels=1, dimensions=d).state_dict().keys() for d in (2, 3)
        )
        assert flat == deep


def test_training_is_a_function_of_its_input() -> None:
    """No stochastic depth: a resumed training would be another one."""
    encoder = Encoder("efficientnet-b0", in_channels=1).train()
    image = torch.randn(2, 1, 64, 64)
    assert torch.equal(encoder(image)[-1], encoder(image)[-1])


def test_an_unknown_encoder_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(BadInput) as caught:
        Encoder("efficentnet-b0", in_channels=1)
    assert caught.value.code == "unknown-encoder"
    assert "efficientnet-b0" in caught.value.help
    with pytest.raises(BadInput) as caught:
        Encoder("vgg", in_channels=1)
    assert all(name in caught.value.help for name in ENCODERS)
