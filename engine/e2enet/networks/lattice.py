"""The graph of an E2ENet: its nodes, what each reads, and the layers in them.

E2ENet, arXiv 2312.04727, section 3. Level 0 is full resolution. Stage 0 is the backbone, whose node
of level i > 0 reads that of level i - 1 by a strided convolution. A fused node (stage s >= 1, level
i) reads the nodes (s-1, i), (s-1, i+1) and (s-1, i-1): the forward, upward and downward flow; level
0 has no downward flow. Nobody else walks over the lattice: the network, the execution plans, the
counting of parameters and the explanations read this graph, which needs nothing but Python.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

FLOWS = ("forward", "upward", "downward")  # in the order of the concatenation

Triple = tuple[int, int, int]
NodeId = tuple[int, int]  # (stage, level)
LayerKind = Literal["backbone", "fusion", "up", "head"]

NORM_EPS, LEAKY_SLOPE = 1e-5, 0.01  # of every block's instance norm and leaky ReLU


@dataclass(frozen=True)
class Layer:
    """A layer with weights.

    Attributes:
        name: Module path; the weight is `name + ".weight"`.
        kind: "backbone" or "fusion" for the (1, 3, 3) convolution of a block, "up" for a transposed
            convolution whose kernel is its stride, "head" for a 1 x 1 x 1 convolution.
        stage, level: The node that it belongs to.
        block: Position in the node; the second block of a node reads only the first.
        shape: Of the weight: (output, input, *kernel), (input, output, *kernel) for "up".
        stride: (D, H, W).
        shift_groups: Depth-shift groups before a convolution; 1 shifts nothing.
        flows: Input-map range (start, stop) of each flow of a fusion lattice's first block and of a
            transposed convolution; empty elsewhere.
    """

    name: str
    kind: LayerKind
    stage: int
    level: int
    block: int
    shape: tuple[int, ...]
    stride: Triple = (1, 1, 1)
    shift_groups: int = 1
    flows: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """Module path of what holds the layer and its norm: the block, or the layer itself."""
        return self.name.removesuffix(".conv")

    @property
    def weight(self) -> str:
        """Name of its kernels in a state dict."""
        return f"{self.name}.weight"

    @property
    def norm(self) -> str | None:
        """Module path of the instance norm behind a convolution."""
        return f"{self.module}.norm" if self.kind in ("backbone", "fusion") else None

    @property
    def sparse(self) -> bool:
        """Whether DSFF may remove its connections."""
        return self.kind in ("fusion", "up")

    @property
    def output_axis(self) -> int:
        """Axis of the weight that counts output maps: 0, of transposed convolutions 1."""
        return 1 if self.kind == "up" else 0

    @property
    def in_channels(self) -> int:
        """Maps it reads."""
        return self.shape[1 - self.output_axis]

    @property
    def out_channels(self) -> int:
        """Maps it writes."""
        return self.shape[self.output_axis]

    @property
    def connections(self) -> int:
        """(output map, input map) kernels, live or dead."""
        return self.shape[0] * self.shape[1]

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of its parameters and of those of the norm behind it."""
        if self.norm is None:
            return {self.weight: self.shape}
        wide = (self.out_channels,)
        return {
            self.weight: self.shape,
            f"{self.name}.bias": wide,
            f"{self.norm}.weight": wide,
            f"{self.norm}.bias": wide,
        }


@dataclass(frozen=True)
class Flow:
    """What a node reads from another one.

    Attributes:
        kind: "forward" as it is, "upward" through a transposed convolution, "downward" through max
            pooling.
        source: The node that is read; None is the image.
        channels: Range (start, stop) in the concatenation of the node's flows.
        stride: (D, H, W) of the transposed convolution or of the pooling.
        up: The transposed convolution of an upward flow.
        last: Nobody reads the source afterwards.
    """

    kind: str
    source: NodeId | None
    channels: tuple[int, int]
    stride: Triple = (1, 1, 1)
    up: Layer | None = None
    last: bool = False


@dataclass(frozen=True)
class Node:
    """A node: flows that are concatenated, blocks that follow each other, perhaps a head.

    Attributes:
        stage, level: Where it stands.
        flows: What it reads, in the order of the concatenation.
        blocks: Its convolutions.
        head: Makes logits of its maps.
    """

    stage: int
    level: int
    flows: tuple[Flow, ...]
    blocks: tuple[Layer, ...]
    head: Layer | None = None

    @property
    def id(self) -> NodeId:
        """Stage and level."""
        return self.stage, self.level

    @property
    def key(self) -> str:
        """Its name in module paths."""
        return f"{self.stage}_{self.level}"

    def flow(self, kind: str) -> Flow | None:
        """Its flow of a kind, if it has one."""
        return next((flow for flow in self.flows if flow.kind == kind), None)

    @property
    def layers(self) -> list[Layer]:
        """Its blocks, its transposed convolution, its head."""
        ups = [flow.up for flow in self.flows if flow.up]
        return [*self.blocks, *ups, *([self.head] if self.head else [])]


def fused_nodes(levels: int) -> list[NodeId]:
    """The fused nodes of a lattice in the order in which they are computed.

    Within a stage the coarsest node comes first, so that the full-resolution map of the stage
    before is read last and can be freed.

    Example:
        >>> fused_nodes(3)
        [(1, 1), (1, 0), (2, 0)]
    """
    return [
        (stage, level) for stage in range(1, levels) for level in reversed(range(levels - stage))
    ]


def last_diagonal(levels: int) -> list[NodeId]:
    """The last nodes of all levels, finest first; all that the network says has passed (L-1, 0)."""
    return [(levels - 1 - level, level) for level in range(levels - 1)]


def chunk_shifts(channels: int, groups: int) -> list[tuple[int, int, int]]:
    """How `groups` shift groups divide `channels` channels.

    Returns:
        (start, stop, shift) of each group. `torch.chunk` gives ceil-sized chunks and may give fewer
        than `groups`; a single channel is one group and moves by -(groups // 2).

    Example:
        >>> chunk_shifts(8, 3)
        [(0, 3, -1), (3, 6, 0), (6, 8, 1)]
    """
    size = -(-channels // groups)
    return [
        (start, min(start + size, channels), index - groups // 2)
        for index, start in enumerate(range(0, channels, size))
    ]


class Lattice:
    """The graph of one network.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        strides: Pooling kernel (D, H, W) between neighbouring levels; one fewer than levels.
        base_channels: Channels of level 0; they double a level.
        max_channels: Upper bound of channels of a level.
        shift_groups: Depth-shift groups n; 3 shifts by -1, 0 and +1 slices, 1 not at all.
        norm_axes: "volume" takes the statistics of instance norm over D, H and W, "slice" over H
            and W. The latter goes with strides of (1, s, s) and the shift off: the network then
            sees each slice alone.

    Attributes:
        arguments: What it was made of, for JSON.
        nodes: All nodes in the order in which they are computed, the backbone's first.
        levels: Number of levels.
        channels: Of each level.
        divisor: The product of the strides: what an image's size must divide by, (D, H, W).
        num_heads: Heads for deep supervision: at most four, on the finest last nodes.
        by_slice: Whether the network sees each slice alone.

    Raises:
        ValueError: An argument is impossible.

    Example:
        >>> lattice = Lattice(1, 3, [(2, 2, 2)] * 2, base_channels=8)
        >>> [node.id for node in lattice.nodes]
        [(0, 0), (0, 1), (0, 2), (1, 1), (1, 0), (2, 0)]
        >>> [(flow.kind, flow.source, flow.channels) for flow in lattice.nodes[3].flows]
        [('forward', (0, 1), (0, 16)), ('upward', (0, 2), (16, 32)), ('downward', (0, 0), (32, 40))]
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        strides: Sequence[Sequence[int]],
        base_channels: int = 48,
        max_channels: int = 320,
        shift_groups: int = 3,
        norm_axes: str = "volume",
    ) -> None:
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
        if norm_axes not in ("volume", "slice"):
            raise ValueError(f'norm_axes is {norm_axes!r}; it must be "volume" or "slice".')
        self.by_slice = norm_axes == "slice"
        deep = shift_groups > 1 or any(stride[0] > 1 for stride in self.strides)
        if self.by_slice and deep:
            raise ValueError(
                'norm_axes "slice" goes with strides of (1, s, s) and shift_groups 1, but the '
                f"strides are {[list(stride) for stride in self.strides]} and shift_groups is "
                f"{shift_groups}."
            )
        self.arguments: dict[str, Any] = {
            "in_channels": int(in_channels),
            "num_classes": int(num_classes),
            "strides": [list(stride) for stride in self.strides],
            "base_channels": int(base_channels),
            "max_channels": int(max_channels),
            "shift_groups": int(shift_groups),
            **({"norm_axes": "slice"} if self.by_slice else {}),
        }
        self.in_channels, self.num_classes = int(in_channels), int(num_classes)
        self.shift_groups = int(shift_groups)
        self.levels = len(self.strides) + 1
        self.channels = tuple(
            min(int(base_channels) * 2**level, int(max_channels)) for level in range(self.levels)
        )
        self.divisor: Triple = tuple(  # type: ignore[assignment]
            math.prod(stride[axis] for stride in self.strides) for axis in range(3)
        )
        self.num_heads = max(1, min(4, self.levels - 2))
        reads = [self._backbone_flows(level) for level in range(self.levels)]
        reads += [self._fused_flows(*place) for place in fused_nodes(self.levels)]
        places = [(0, level) for level in range(self.levels)] + fused_nodes(self.levels)
        self.nodes = tuple(
            Node(stage, level, flows, self._blocks(stage, level, flows), self._head(stage, level))
            for (stage, level), flows in zip(places, _with_last(reads), strict=True)
        )

    @property
    def backbone(self) -> tuple[Node, ...]:
        """The nodes of stage 0, finest first."""
        return self.nodes[: self.levels]

    @property
    def fused(self) -> tuple[Node, ...]:
        """The nodes that fuse, in the order in which they are computed."""
        return self.nodes[self.levels :]

    @property
    def layers(self) -> list[Layer]:
        """Every layer with weights: backbone, fused nodes in order, heads finest first."""
        layers = [layer for node in self.nodes for layer in node.layers if layer.kind != "head"]
        return [*layers, *self.heads]

    @property
    def heads(self) -> list[Layer]:
        """Finest first."""
        return sorted(
            (node.head for node in self.nodes if node.head), key=lambda layer: layer.level
        )

    @property
    def sparse_layers(self) -> dict[str, Layer]:
        """The layers under DSFF by name, in the order of the nodes."""
        return {layer.name: layer for layer in self.layers if layer.sparse}

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter."""
        return {name: shape for layer in self.layers for name, shape in layer.parameters.items()}

    def sizes(self, size: Sequence[int]) -> list[Triple]:
        """Size (D, H, W) of the maps of each level for an image of this size.

        Raises:
            ValueError: The size does not divide; names the next one that does.
        """
        self.check_size(size)
        depth, height, width = (int(n) for n in size)
        sizes = [(depth, height, width)]
        for sd, sh, sw in self.strides:
            depth, height, width = depth // sd, height // sh, width // sw
            sizes.append((depth, height, width))
        return sizes

    def check_size(self, size: Sequence[int]) -> None:
        """Raise ValueError with the next size that fits if (D, H, W) does not divide."""
        if any(n < 1 or n % d for n, d in zip(size, self.divisor, strict=True)):
            fits = tuple(max(1, -(-n // d)) * d for n, d in zip(size, self.divisor, strict=True))
            raise ValueError(
                f"An input of size {tuple(size)} does not divide by the strides {self.divisor}; "
                f"pad it to {fits}."
            )

    def check_image(self, shape: Sequence[int]) -> None:
        """Raise ValueError if an image of this shape, (B, C, D, H, W), cannot be taken."""
        if len(shape) != 5 or shape[1] != self.in_channels:
            raise ValueError(f"E2ENet takes (B, {self.in_channels}, D, H, W), not {tuple(shape)}.")
        self.check_size(shape[2:])

    def _backbone_flows(self, level: int) -> tuple[Flow, ...]:
        if level == 0:
            return (Flow("forward", None, (0, self.in_channels)),)
        return (Flow("forward", (0, level - 1), (0, self.channels[level - 1])),)

    def _fused_flows(self, stage: int, level: int) -> tuple[Flow, ...]:
        wide = self.channels[level]
        below, stride = self.channels[level + 1], self.strides[level]
        up = Layer(
            f"ups.{stage}_{level}", "up", stage, level, 0, (below, wide, *stride), stride,
            flows={"upward": (0, below)},
        )  # fmt: skip
        flows = [
            Flow("forward", (stage - 1, level), (0, wide)),
            Flow("upward", (stage - 1, level + 1), (wide, 2 * wide), stride, up),
        ]
        if level:
            channels = (2 * wide, 2 * wide + self.channels[level - 1])
            above = (stage - 1, level - 1)
            flows.append(Flow("downward", above, channels, self.strides[level - 1]))
        return tuple(flows)

    def _blocks(self, stage: int, level: int, flows: Sequence[Flow]) -> tuple[Layer, ...]:
        """Two in the backbone and on the last diagonal, else one."""
        wide = self.channels[level]
        kind: LayerKind = "fusion" if stage else "backbone"
        prefix = f"nodes.{stage}_{level}" if stage else f"backbone.{level}"
        ranges = {flow.kind: flow.channels for flow in flows} if stage else {}
        strided = not stage and level
        widths = [flows[-1].channels[1], wide]
        count = 2 if not stage or stage + level == self.levels - 1 else 1
        return tuple(
            Layer(
                f"{prefix}.{block}.conv",
                kind,
                stage,
                level,
                block,
                (wide, widths[block], 1, 3, 3),
                self.strides[level - 1] if strided and not block else (1, 1, 1),
                self.shift_groups,
                {} if block else ranges,
            )
            for block in range(count)
        )

    def _head(self, stage: int, level: int) -> Layer | None:
        if not stage or stage + level != self.levels - 1 or level >= self.num_heads:
            return None
        shape = (self.num_classes, self.channels[level], 1, 1, 1)
        return Layer(f"heads.{level}", "head", stage, level, 0, shape)


def _with_last(reads: Sequence[tuple[Flow, ...]]) -> list[tuple[Flow, ...]]:
    """The same flows, told which of them is the last to read its source."""
    seen: set[NodeId | None] = set()
    told = []
    for flows in reversed(reads):
        told.append(
            tuple(
                Flow(f.kind, f.source, f.channels, f.stride, f.up, f.source not in seen)
                for f in flows
            )
        )
        seen.update(flow.source for flow in flows)
    return told[::-1]


def _triple(stride: Sequence[int]) -> Triple:
    values = tuple(int(value) for value in stride)
    if len(values) != 3 or min(values) < 1:
        raise ValueError(f"A stride is three whole numbers (D, H, W) from 1 up, not {stride}.")
    return values
