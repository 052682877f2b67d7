"""The E2ENet network: a backbone, and a lattice of nodes that fuse scales from three sides.

E2ENet: Dynamic Sparse Feature Fusion for Accurate and Efficient 3D Medical Image Segmentation,
arXiv 2312.04727, section 3. Maps are channels-last in memory throughout: a (1, 3, 3) convolution
is then a 2D convolution over B * D slices without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2enet.networks.normalisation import InstanceNormLeakyReLU
from e2enet.networks.shift import shift_concat

FLOWS = ("forward", "upward", "downward")


@dataclass(frozen=True)
class SparseLayer:
    """A layer whose connections DSFF may remove, and where its input maps come from.

    Attributes:
        name: Module path; the weight is `name + ".weight"`.
        kind: "fusion" for a (1, 3, 3) convolution of a node, "up" for its transposed convolution.
        stage, level: The node, with stage >= 1 and level 0 at full resolution.
        block: Position in the node; the second block of a last node reads only the first.
        module: Holds `weight`, with axes (output, input, ...) for "fusion" and (input, output, ...)
            for "up".
        flows: Input-map range (start, stop) of each flow; empty for a second block.
    """

    name: str
    kind: Literal["fusion", "up"]
    stage: int
    level: int
    block: int
    module: nn.Module
    flows: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def weight(self) -> nn.Parameter:
        return cast(nn.Parameter, self.module.weight)

    @property
    def output_axis(self) -> int:
        return 0 if self.kind == "fusion" else 1


class SliceConv(nn.Module):
    """A (1, 3, 3) convolution with in-plane padding 1, run as a 2D convolution.

    The depth stride is not applied here: the slices it would skip were never written
    (`shift_concat`). The bias belongs to the method and to released weights and is kept, but not
    added: the instance norm that follows takes any constant of a map away again, and without it a
    map whose connections are all dead is exactly zero instead of rounding noise that the norm
    would amplify (2e-4 of the logits of a masked network, measured).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.stride = stride
        nn.init.kaiming_normal_(self.weight, a=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, D, H, W) -> (B, C_out, D, H', W')."""
        batch, channels, depth, height, width = x.shape
        slices = x.permute(0, 2, 3, 4, 1).reshape(batch * depth, height, width, channels)
        kernel = self.weight.squeeze(2).contiguous(memory_format=torch.channels_last)
        y = F.conv2d(slices.permute(0, 3, 1, 2), kernel, None, self.stride, padding=1)
        y = y.permute(0, 2, 3, 1)
        return y.reshape(batch, depth, *y.shape[1:]).permute(0, 4, 1, 2, 3)


class Block(nn.Module):
    """Concatenation and depth-shift -> (1, 3, 3) convolution -> instance norm -> leaky ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        shift_groups: int,
        stride: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        self.shift_groups = shift_groups
        self.depth_stride = stride[0]
        self.conv = SliceConv(in_channels, out_channels, stride[1:])
        self.norm = InstanceNormLeakyReLU(out_channels)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Empty the list of maps (B, C_j, D, H, W), so that each can be freed once it is read."""
        x = shift_concat(maps, self.shift_groups, self.depth_stride)
        maps.clear()
        return self.norm(self.conv(x))  # type: ignore[no-any-return]


class UpConv(nn.Module):
    """Transposed convolution without bias whose kernel is its stride: one matrix product."""

    def __init__(self, in_channels: int, out_channels: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels, *stride))
        self.stride = stride
        nn.init.kaiming_normal_(self.weight, a=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, D, H, W) -> (B, C_out, D * sd, H * sh, W * sw)."""
        batch, channels, depth, height, width = x.shape
        sd, sh, sw = self.stride
        rows = x.permute(0, 2, 3, 4, 1)
        kernel = self.weight.permute(0, 2, 3, 4, 1).reshape(channels, -1)
        y = (rows @ kernel).view(batch, depth, height, width, sd, sh, sw, -1)
        y = y.permute(0, 1, 4, 2, 5, 3, 6, 7)
        return y.reshape(batch, depth * sd, height * sh, width * sw, -1).permute(0, 4, 1, 2, 3)


class E2ENet(nn.Module):
    """E2ENet for any number of levels, strides, input channels and classes.

    Node (level i, stage s) is `F(concat(x[i, s-1], up(x[i+1, s-1]), down(x[i-1, s-1])))`: the
    forward, upward and downward flow. Level 0 is full resolution and has no downward flow.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        strides: Pooling kernel (D, H, W) between neighbouring levels; one fewer than levels.
        base_channels: Channels of level 0; they double a level.
        max_channels: Upper bound of channels of a level.
        shift_groups: Depth-shift groups n; 3 shifts by -1, 0 and +1 slices.
        deep_supervision: Return the logits of all heads, not only the finest.

    Example:
        >>> network = E2ENet(1, 3, [(2, 2, 2)] * 3, base_channels=8)
        >>> [tuple(y.shape) for y in network(torch.zeros(1, 1, 16, 32, 32))]
        [(1, 3, 16, 32, 32), (1, 3, 8, 16, 16)]
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        strides: Sequence[Sequence[int]],
        base_channels: int = 48,
        max_channels: int = 320,
        shift_groups: int = 3,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        self.strides = tuple(_triple(stride) for stride in strides)
        if not self.strides:
            raise ValueError("E2ENet needs at least two levels, so at least one stride.")
        for name, value in (
            ("in_channels", in_channels),
            ("num_classes", num_classes),
            ("base_channels", base_channels),
            ("max_channels", max_channels),
            ("shift_groups", shift_groups),
        ):
            if int(value) < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        self.in_channels = int(in_channels)
        self.num_classes = int(num_classes)
        self.levels = len(self.strides) + 1
        self.channels = tuple(
            min(int(base_channels) * 2**level, int(max_channels)) for level in range(self.levels)
        )
        self.divisor = tuple(
            math.prod(stride[axis] for stride in self.strides) for axis in range(3)
        )
        self.num_heads = max(1, min(4, self.levels - 2))
        self.deep_supervision = deep_supervision
        self.arguments: dict[str, Any] = {
            "in_channels": self.in_channels,
            "num_classes": self.num_classes,
            "strides": [list(stride) for stride in self.strides],
            "base_channels": int(base_channels),
            "max_channels": int(max_channels),
            "shift_groups": int(shift_groups),
        }
        self._build(int(shift_groups))

    def _build(self, shift_groups: int) -> None:
        def block(wide: int, narrow: int, stride: tuple[int, int, int] = (1, 1, 1)) -> Block:
            return Block(wide, narrow, shift_groups=shift_groups, stride=stride)

        c = self.channels
        self.backbone = nn.ModuleList()
        self.backbone.append(nn.ModuleList([block(self.in_channels, c[0]), block(c[0], c[0])]))
        for level, stride in enumerate(self.strides, start=1):
            first = block(c[level - 1], c[level], stride)
            self.backbone.append(nn.ModuleList([first, block(c[level], c[level])]))
        self.ups = nn.ModuleDict()
        self.nodes = nn.ModuleDict()
        for stage, level in self.lattice():
            key = f"{stage}_{level}"
            self.ups[key] = UpConv(c[level + 1], c[level], self.strides[level])
            blocks = [block(sum(self.flow_widths(level).values()), c[level])]
            if stage + level == self.levels - 1:
                blocks.append(block(c[level], c[level]))
            self.nodes[key] = nn.ModuleList(blocks)
        self.heads = nn.ModuleList()
        for level in range(self.num_heads):
            head = nn.Conv3d(c[level], self.num_classes, 1, bias=False)
            nn.init.kaiming_normal_(head.weight, a=0.01)
            self.heads.append(head)

    def lattice(self) -> list[tuple[int, int]]:
        """(stage, level) of every fused node, in the order in which they are computed.

        Within a stage the coarsest node comes first, so that the full-resolution map of the stage
        before is read last and can be freed.
        """
        return [
            (stage, level)
            for stage in range(1, self.levels)
            for level in reversed(range(self.levels - stage))
        ]

    def node(self, stage: int, level: int) -> list[Block]:
        """The blocks of a fused node: two on the last diagonal, else one."""
        return list(cast(Any, self.nodes[f"{stage}_{level}"]))

    def flow_widths(self, level: int) -> dict[str, int]:
        """Number of input maps of each flow into a node of this level, in concatenation order."""
        widths = {"forward": self.channels[level], "upward": self.channels[level]}
        if level:
            widths["downward"] = self.channels[level - 1]
        return widths

    def sparse_layers(self) -> dict[str, SparseLayer]:
        """The layers under DSFF by name, in the order of `lattice`."""
        layers = []
        for stage, level in self.lattice():
            key = f"{stage}_{level}"
            for index, block in enumerate(self.node(stage, level)):
                flows: dict[str, tuple[int, int]] = {}
                if index == 0:
                    start = 0
                    for flow, width in self.flow_widths(level).items():
                        flows[flow] = (start, start + width)
                        start += width
                name = f"nodes.{key}.{index}.conv"
                layers.append(SparseLayer(name, "fusion", stage, level, index, block.conv, flows))
            up = {"upward": (0, self.channels[level + 1])}
            layers.append(SparseLayer(f"ups.{key}", "up", stage, level, 0, self.ups[key], up))
        return {layer.name: layer for layer in layers}

    def check_size(self, size: Sequence[int]) -> None:
        """Raise ValueError with the next size that fits if (D, H, W) does not divide."""
        if any(n < 1 or n % d for n, d in zip(size, self.divisor, strict=True)):
            fits = tuple(max(1, -(-n // d)) * d for n, d in zip(size, self.divisor, strict=True))
            raise ValueError(
                f"An input of size {tuple(size)} does not divide by the strides {self.divisor}; "
                f"pad it to {fits}."
            )

    def forward(self, image: Tensor) -> list[Tensor] | Tensor:
        """Logits (B, num_classes, D, H, W); with deep supervision the list of all heads.

        Args:
            image: (B, in_channels, D, H, W), each axis a multiple of `divisor`.

        Raises:
            ValueError: The input has another number of axes or channels, or does not divide.
        """
        if image.ndim != 5 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"E2ENet takes (B, {self.in_channels}, D, H, W), not {tuple(image.shape)}."
            )
        self.check_size(image.shape[2:])

        maps: list[Tensor] = []
        x = image
        for blocks in self.backbone:
            flows = [x]
            for block in cast(nn.ModuleList, blocks):
                flows = [block(flows)]  # the list alone holds what is freed once it is read
            x = flows.pop()
            maps.append(x)
        del x

        logits: dict[int, Tensor] = {}
        following: list[Tensor] = []
        for stage, level in self.lattice():
            key = f"{stage}_{level}"
            flows = [maps[level], self.ups[key](maps.pop())]
            if level:
                flows.append(_down(maps[level - 1], self.strides[level - 1]))
            else:
                maps.clear()
            for block in self.node(stage, level):
                flows = [block(flows)]
            y = flows.pop()
            if stage + level == self.levels - 1 and level < self.num_heads:
                logits[level] = self.heads[level](y)
            following.insert(0, y)
            del y
            if level == 0:
                maps, following = following, []
        outputs = [logits[head] for head in range(self.num_heads)]
        return outputs if self.deep_supervision else outputs[0]


def _down(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    return F.max_pool3d(x, stride, stride)


def _triple(stride: Sequence[int]) -> tuple[int, int, int]:
    values = tuple(int(value) for value in stride)
    if len(values) != 3 or min(values) < 1:
        raise ValueError(f"A stride is three whole numbers (D, H, W) from 1 up, not {stride}.")
    return values
