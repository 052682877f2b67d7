"""What every network offers to training, bundles and inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn


def check_size(size: Sequence[int], divisor: Sequence[int]) -> None:
    """Raise ValueError with the next size that fits if (D, H, W) does not divide."""
    if any(n < 1 or n % d for n, d in zip(size, divisor, strict=True)):
        fits = tuple(max(1, -(-n // d)) * d for n, d in zip(size, divisor, strict=True))
        raise ValueError(
            f"An input of size {tuple(size)} does not divide by the strides {tuple(divisor)}; "
            f"pad it to {fits}."
        )


@dataclass(frozen=True)
class Fusion:
    """A convolution of a decoder that reads a concatenation: the first one of its level.

    A U-Net is the last diagonal of the lattice (`e2enet.networks.lattice`) whose forward flows are
    the encoder's skips, and its levels are called by the same names.

    Attributes:
        name: Module path; the weight is `name + ".weight"`.
        stage, level: The node, level 0 at full resolution.
        module: Holds `weight`, with axes (output, input, ...).
        flows: Input-map range (start, stop) of the skip, "forward", and of what was upsampled,
            "upward".
    """

    name: str
    stage: int
    level: int
    module: nn.Module
    flows: Mapping[str, tuple[int, int]]

    @property
    def weight(self) -> nn.Parameter:
        """The kernels."""
        return cast(nn.Parameter, self.module.weight)


class SegmentationNetwork(nn.Module):
    """A network with one head, without connections that DSFF could remove.

    A subclass sets `arguments` (what its constructor needs to build it again) and implements
    `logits`.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        divisor: What the input (D, H, W) has to divide by.
        deep_supervision: Return the logits as a list of one head, as training takes them.
    """

    num_heads = 1
    arguments: dict[str, Any]

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        divisor: tuple[int, int, int],
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("num_classes", num_classes)):
            if int(value) < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        self.in_channels = int(in_channels)
        self.num_classes = int(num_classes)
        self.divisor = divisor
        self.deep_supervision = deep_supervision

    def sparse_layers(self) -> dict[str, Any]:
        """No layer is under DSFF."""
        return {}

    def fusions(self) -> list[Fusion]:
        """Where the decoder joins a skip with what is coarser, finest first."""
        raise NotImplementedError

    def check_size(self, size: Sequence[int]) -> None:
        """Raise ValueError with the next size that fits if (D, H, W) does not divide."""
        check_size(size, self.divisor)

    def logits(self, image: Tensor) -> Tensor:
        """(B, in_channels, D, H, W) -> (B, num_classes, D, H, W)."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> list[Tensor] | Tensor:
        """Logits (B, num_classes, D, H, W); with deep supervision as a list of one head.

        Args:
            image: (B, in_channels, D, H, W), each axis a multiple of `divisor`.

        Raises:
            ValueError: The input has another number of axes or channels, or does not divide.
        """
        if image.ndim != 5 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} takes (B, {self.in_channels}, D, H, W), not "
                f"{tuple(image.shape)}."
            )
        self.check_size(image.shape[2:])
        logits = self.logits(image)
        return [logits] if self.deep_supervision else logits


def as_slices(volume: Tensor) -> Tensor:
    """(B, C, D, H, W) -> (B * D, C, H, W): each slice an image of its own."""
    return volume.transpose(1, 2).flatten(0, 1)


def as_volumes(slices: Tensor, batch: int) -> Tensor:
    """(B * D, C, H, W) -> (B, C, D, H, W): the way back from `as_slices`."""
    return slices.unflatten(0, (batch, -1)).transpose(1, 2)
