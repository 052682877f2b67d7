"""The decoder that Omnia-Net, DS-Net and DX-Net share, in two and in three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from e2enet.networks.segmentation import Fusion

WIDTHS = (256, 128, 64, 32, 16)
STEM_WIDTH = 16

_CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def conv_block(in_channels: int, out_channels: int, dimensions: int, act: type) -> nn.Sequential:
    """Convolution of 3 voxels an axis without bias, batch norm, activation."""
    return nn.Sequential(
        _CONV[dimensions](in_channels, out_channels, 3, padding=1, bias=False),
        _NORM[dimensions](out_channels),
        act(),
    )


class DecoderStep(nn.Module):
    """Upsampling, concatenation with the skip, and two conv blocks.

    Args:
        in_channels, skip_channels, out_channels: Maps; a step without a skip has 0 of them.
        stride: Of the upsampling, one number an axis.
        transposed: Upsample by a transposed convolution instead of repeating voxels.
        act: Class of the activation.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        *,
        stride: Sequence[int],
        transposed: bool,
        act: type,
    ) -> None:
        super().__init__()
        step, dimensions = tuple(stride), len(stride)
        self.up: nn.Module
        if transposed:
            kind: Any = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dimensions]
            self.up = kind(in_channels, in_channels, step, stride=step)
        else:
            self.up = nn.Upsample(scale_factor=tuple(float(s) for s in step), mode="nearest")
        self.conv1 = conv_block(in_channels + skip_channels, out_channels, dimensions, act)
        self.conv2 = conv_block(out_channels, out_channels, dimensions, act)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """(B, C_in, *size), (B, C_skip, *size * stride) or None -> (B, C_out, *size * stride)."""
        x = self.up(x)
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        return self.conv2(self.conv1(x))  # type: ignore[no-any-return]


def fusions(convolutions: Sequence[tuple[str, Any]], widths: Sequence[int]) -> list[Fusion]:
    """The fusions of a decoder whose steps, coarsest first, read the upsampled maps before a skip.

    Args:
        convolutions: Name and module of the first convolution of each step.
        widths: Upsampled maps that enter each step.
    """
    steps = [
        Fusion(
            name, stage, len(widths) - stage, module,
            {"forward": (width, module.weight.shape[1]), "upward": (0, width)},
        )
        for stage, ((name, module), width) in enumerate(
            zip(convolutions, widths, strict=True), start=1
        )
    ]  # fmt: skip
    return steps[::-1]


class Decoder(nn.Module):
    """From the maps of an encoder back to full resolution, with skips.

    Args:
        channels: Maps of the encoder's taps, finest first.
        stem: Maps of the skip at full resolution; 0 for none.
        strides: Of the encoder's steps, finest first, one number an axis.
        transposed, act: As in `DecoderStep`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        stem: int,
        strides: Sequence[Sequence[int]],
        transposed: bool,
        act: type,
    ) -> None:
        super().__init__()
        skips = [*reversed(channels[:-1]), stem]
        self.steps = nn.ModuleList()
        self.widths = (channels[-1], *WIDTHS[:-1])
        width = channels[-1]
        for skip, out, stride in zip(skips, WIDTHS, reversed(strides), strict=True):
            self.steps.append(
                DecoderStep(width, skip, out, stride=stride, transposed=transposed, act=act)
            )
            width = out

    def fusions(self, name: str) -> list[Fusion]:
        """Its fusions, finest first, where the decoder is called so in a network."""
        steps = cast(Sequence[DecoderStep], self.steps)
        first = [(f"{name}.steps.{k}.conv1.0", step.conv1[0]) for k, step in enumerate(steps)]
        return fusions(first, self.widths)

    def forward(self, maps: Sequence[Tensor], stem: Tensor | None) -> Tensor:
        """Encoder maps, finest first, and the stem's -> (B, 16, *size)."""
        skips = [*reversed(maps[:-1]), stem]
        x = maps[-1]
        for step, skip in zip(self.steps, skips, strict=True):
            x = step(x, skip)
        return x
