"""The E2ENet network: a backbone, and a lattice of nodes that fuse scales from three sides.

E2ENet: Dynamic Sparse Feature Fusion for Accurate and Efficient 3D Medical Image Segmentation,
arXiv 2312.04727, section 3. Maps are channels-last in memory throughout: a (1, 3, 3) convolution
is then a 2D convolution over B * D slices without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2enet.networks.lattice import Flow, Lattice, Layer, LayerKind, Node, NodeId, Triple
from e2enet.networks.normalisation import InstanceNormLeakyReLU
from e2enet.networks.segmentation import as_slices, as_volumes
from e2enet.networks.shift import shift_concat


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
    kind: LayerKind
    stage: int
    level: int
    block: int
    module: nn.Module
    flows: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def weight(self) -> nn.Parameter:
        """The kernels."""
        return cast(nn.Parameter, self.module.weight)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight; its mask has the first two axes."""
        return tuple(self.weight.shape)


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
        stride: Triple = (1, 1, 1),
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

    def __init__(self, in_channels: int, out_channels: int, stride: Triple) -> None:
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


class Layers(Protocol):
    """What computes the layers of a network."""

    def block(self, block: Block, maps: list[Tensor]) -> Tensor: ...
    def up(self, up: UpConv, x: Tensor) -> Tensor: ...
    def pool(self, x: Tensor, stride: Triple) -> Tensor: ...


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
        norm_axes: "volume", or "slice" for a network that sees each slice alone (`Lattice`).
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
        norm_axes: str = "volume",
    ) -> None:
        super().__init__()
        self.lattice = Lattice(
            in_channels, num_classes, strides, base_channels, max_channels, shift_groups, norm_axes
        )
        self.arguments = self.lattice.arguments
        self.in_channels, self.num_classes = self.lattice.in_channels, self.lattice.num_classes
        self.strides, self.levels = self.lattice.strides, self.lattice.levels
        self.channels, self.divisor = self.lattice.channels, self.lattice.divisor
        self.num_heads = self.lattice.num_heads
        self.deep_supervision = deep_supervision
        self.backbone = nn.ModuleList(
            nn.ModuleList(map(_block, node.blocks)) for node in self.lattice.backbone
        )
        self.ups, self.nodes = nn.ModuleDict(), nn.ModuleDict()
        for node in self.lattice.fused:
            up = cast(Layer, cast(Flow, node.flow("upward")).up)
            self.ups[node.key] = UpConv(up.in_channels, up.out_channels, up.stride)
            self.nodes[node.key] = nn.ModuleList(map(_block, node.blocks))
        self.heads = nn.ModuleList()
        for layer in self.lattice.heads:
            head = nn.Conv3d(layer.in_channels, layer.out_channels, 1, bias=False)
            nn.init.kaiming_normal_(head.weight, a=0.01)
            self.heads.append(head)

    def blocks(self, stage: int, level: int) -> list[Block]:
        """The blocks of a node; stage 0 is the backbone."""
        blocks = self.nodes[f"{stage}_{level}"] if stage else self.backbone[level]
        return list(cast(Any, blocks))

    def sparse_layers(self) -> dict[str, SparseLayer]:
        """The layers under DSFF by name, in the order of the lattice."""
        return {
            name: SparseLayer(
                name, layer.kind, layer.stage, layer.level, layer.block,
                self.get_submodule(name), layer.flows,
            )
            for name, layer in self.lattice.sparse_layers.items()
        }  # fmt: skip

    def fusions(self) -> list[SparseLayer]:
        """The first convolution of each fused node."""
        layers = self.sparse_layers().values()
        return [layer for layer in layers if layer.kind == "fusion" and layer.block == 0]

    def forward(self, image: Tensor, by: Layers | None = None) -> list[Tensor] | Tensor:
        """Logits (B, num_classes, D, H, W); with deep supervision the list of all heads.

        Args:
            image: (B, in_channels, D, H, W), each axis a multiple of `divisor`.
            by: Computes blocks, transposed convolutions and pooling; the modules themselves if
                there is none.

        Raises:
            ValueError: The input has another number of axes or channels, or does not divide.
        """
        self.lattice.check_image(image.shape)
        batch = image.shape[0]
        if self.lattice.by_slice:
            image = as_slices(image).unsqueeze(2)
        maps: dict[NodeId | None, Tensor] = {None: image}
        del image  # the maps alone hold what is freed once it is read
        logits: dict[int, Tensor] = {}
        for node in self.lattice.nodes:
            maps[node.id] = self.maps_of(node, maps, by or _Modules())
            if node.head:
                logits[node.level] = self.heads[node.level](maps[node.id])
        outputs = [logits[head] for head in range(self.num_heads)]
        if self.lattice.by_slice:
            outputs = [as_volumes(y.squeeze(2), batch) for y in outputs]
        return outputs if self.deep_supervision else outputs[0]

    def maps_of(self, node: Node, maps: dict[NodeId | None, Tensor], by: Layers) -> Tensor:
        """The maps (B, C, D, H, W) of a node from those that it reads."""
        flows = [self._read(flow, maps, by) for flow in node.flows]
        for block in self.blocks(*node.id):
            flows = [by.block(block, flows)]
        return flows.pop()

    def _read(self, flow: Flow, maps: dict[NodeId | None, Tensor], by: Layers) -> Tensor:
        """What comes over a flow; takes its source out of the maps if nobody reads it again."""
        x = maps.pop(flow.source) if flow.last else maps[flow.source]
        if flow.up:
            return by.up(cast(UpConv, self.ups[flow.up.name.removeprefix("ups.")]), x)
        return by.pool(x, flow.stride) if flow.kind == "downward" else x


class _Modules:
    """The modules compute themselves."""

    def block(self, block: Block, maps: list[Tensor]) -> Tensor:
        return block(maps)  # type: ignore[no-any-return]

    def up(self, up: UpConv, x: Tensor) -> Tensor:
        return up(x)  # type: ignore[no-any-return]

    def pool(self, x: Tensor, stride: Triple) -> Tensor:
        return F.max_pool3d(x, stride, stride)


def _block(layer: Layer) -> Block:
    return Block(
        layer.in_channels, layer.out_channels, shift_groups=layer.shift_groups, stride=layer.stride
    )
