"""A trained network in PyTorch's plain operations, for programs that know no others.

The same function as the network that was trained, with the kernels that DSFF removed as zeros.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2enet.networks.e2enet import Block, UpConv
from e2enet.networks.lattice import chunk_shifts
from e2enet.networks.normalisation import InstanceNormLeakyReLU


class Portable(nn.Module):
    """A copy of a network whose own layers are replaced; logits of the finest head.

    Args:
        network: As `Bundle.load_network` gives it; it stays as it is.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network = copy.deepcopy(network)
        cast(Any, network).deep_supervision = False
        self.network = cast(nn.Module, _replaced(network)).eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, D, H, W) -> (B, num_classes, D, H, W)."""
        logits = self.network(image)
        return cast(Tensor, logits[0] if isinstance(logits, (list, tuple)) else logits)


class _Norm(nn.Module):
    def __init__(self, norm: InstanceNormLeakyReLU) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.eps, self.slope = norm.eps, norm.slope

    def forward(self, x: Tensor) -> Tensor:
        # Not F.instance_norm, which refuses maps of a single voxel.
        y = torch.instance_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps, False)
        return F.leaky_relu(y, self.slope)


class _Block(nn.Module):
    """Concatenation, depth-shift by slices and zeros, one 3D convolution, norm and activation."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.weight = block.conv.weight
        self.stride = (block.depth_stride, *block.conv.stride)
        self.shifts = chunk_shifts(self.weight.shape[1], block.shift_groups)
        self.norm = _Norm(block.norm)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x = torch.cat(maps, 1) if len(maps) > 1 else maps[0]
        maps.clear()
        moved = [_shifted(x[:, start:stop], shift) for start, stop, shift in self.shifts]
        x = torch.cat(moved, 1) if len(moved) > 1 else moved[0]
        return cast(Tensor, self.norm(F.conv3d(x, self.weight, None, self.stride, (0, 1, 1))))


class _Up(nn.Module):
    def __init__(self, up: UpConv) -> None:
        super().__init__()
        self.weight, self.stride = up.weight, up.stride

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose3d(x, self.weight, None, self.stride)


def _shifted(x: Tensor, shift: int) -> Tensor:
    """Moved along depth by so many slices; zeros enter."""
    depth = x.shape[2]
    if abs(shift) >= depth:
        return torch.zeros_like(x)
    if shift > 0:
        return F.pad(x[:, :, : depth - shift], (0, 0, 0, 0, shift, 0))
    if shift < 0:
        return F.pad(x[:, :, -shift:], (0, 0, 0, 0, 0, -shift))
    return x


def _replaced(module: nn.Module) -> nn.Module:
    plain: tuple[tuple[type[nn.Module], Any], ...] = (
        (Block, _Block),
        (UpConv, _Up),
        (InstanceNormLeakyReLU, _Norm),
    )
    for kind, make in plain:
        if isinstance(module, kind):
            return cast(nn.Module, make(module))
    for name, child in module.named_children():
        module._modules[name] = _replaced(child)
    return module
