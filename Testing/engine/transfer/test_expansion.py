"""Expanded kernels against what the 2D kernel gives slice by slice."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from e2enet.networks.encoders import Encoder
from e2enet.transfer.encoder_weights import load_encoder
from e2enet.transfer.expansion import expand_kernel, first_kernel
from hypothesis import given, settings
from hypothesis import strategies as st


@given(
    taps=st.sampled_from([1, 3, 5, 7]),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
    seed=st.integers(0, 100),
)
@settings(max_examples=25, deadline=None)
def test_a_convolution_sees_the_same(taps: int, inputs: int, outputs: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(outputs, inputs, taps, taps, generator=generator)
    volume = torch.randn(1, inputs, 8, 9, 9, generator=generator)
    pad = taps // 2

    def deep(x: torch.Tensor, how: str) -> torch.Tensor:
        return F.conv3d(x, expand_kernel(kernel, taps, how), padding=pad)  # type: ignore[arg-type]

    flat = F.conv2d(volume[0].transpose(0, 1), kernel, padding=pad).transpose(0, 1)[None]
    assert torch.allclose(deep(volume, "centre"), flat, atol=1e-4)
    equal = volume[:, :, :1].expand_as(volume)
    inside = slice(pad, 8 - pad)  # beyond, zeros enter
    found = deep(equal, "inflate")[:, :, inside]
    assert torch.allclose(found, flat[:, :, :1].expand_as(found), atol=1e-4)


def test_an_unknown_expansion() -> None:
    with pytest.raises(ValueError, match="inflate, centre"):
        expand_kernel(torch.zeros(1, 1, 3, 3), 3, "mirror")  # type: ignore[arg-type]


def test_the_first_kernel_for_other_channels() -> None:
    kernel = torch.randn(4, 3, 3, 3)
    image = torch.randn(1, 1, 6, 6)
    one = first_kernel(kernel, 1)
    assert one is not None
    grey = F.conv2d(image.expand(1, 3, 6, 6), kernel)
    assert torch.allclose(F.conv2d(image, one), grey, atol=1e-5)
    assert first_kernel(kernel, 3) is kernel
    assert first_kernel(kernel, 4) is None
    back = first_kernel(one, 3)
    assert back is not None
    assert torch.allclose(F.conv2d(image.expand(1, 3, 6, 6), back), grey, atol=1e-5)


@pytest.mark.parametrize("name", ["efficientnet-b0", "resnet18", "resnet50"])
@torch.no_grad()
def test_a_centred_encoder_sees_a_volume_of_equal_slices_as_one_slice(name: str) -> None:
    """Depth kept: then padding, pooling and squeeze-and-excitation see what the slice saw."""
    flat = Encoder(name, in_channels=2).eval()
    for buffer_name, buffer in flat.named_buffers():
        if buffer_name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    deep = Encoder(name, in_channels=2, dimensions=3, depth_strides=(1,) * 5).eval()
    assert load_encoder(deep, flat.state_dict(), source="flat", expansion="centre") == ()
    image = torch.randn(1, 2, 64, 64)
    volume = image[:, :, None].expand(-1, -1, 5, -1, -1)
    for found, expected in zip(deep(volume), flat(image), strict=True):
        scale = expected.abs().max()
        for d in range(5):
            assert torch.allclose(found[:, :, d], expected, atol=1e-4 * float(scale))


@torch.no_grad()
def test_depth_strides_start_at_the_middle_tap() -> None:
    """A centred EfficientNet that halves depth gives the slices a 2D one gives of odd slices."""
    flat = Encoder("efficientnet-b0", in_channels=1).eval()
    deep = Encoder("efficientnet-b0", in_channels=1, dimensions=3).eval()
    load_encoder(deep, flat.state_dict(), source="flat", expansion="centre")
    volume = torch.randn(1, 1, 32, 32, 32)
    found = deep(volume)[0]
    expected = flat(volume[0].transpose(0, 1)[1::2])[0].transpose(0, 1)
    assert torch.allclose(found[0], expected, atol=1e-4)
