"""The execution plan that PyTorch alone runs: without dead maps, dense where inputs are shared."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from e2enet.networks import E2ENet
from e2enet.networks.e2enet import UpConv
from e2enet.networks.lattice import Flow, Layer, Node, NodeId, chunk_shifts
from e2enet.networks.normalisation import InstanceNormLeakyReLU
from e2enet.networks.segmentation import as_slices, as_volumes
from e2enet.networks.shift import moved_slices
from e2enet.runtime.plans.liveness import live_connections, maps_read
from e2enet.runtime.plans.weights import arrays_of

_LEAST_GROUP = 8  # output maps; convolutions of fewer cost more than the work they save
_GAIN = 2  # least factor by which groups must shrink a convolution, because of their gather

# Where groups never pay. Share of the plain network's time on 2 cores without and with groups, at
# S = 0.8 and 16 maps that share their inputs: base 16, patch 40 x 56 x 40: 0.60 and 0.73; base 48,
# 32 x 64 x 64: 0.62 and 0.76; 64 x 128 x 128: 0.90 and 1.41.
_UNGROUPED = ("cpu",)


class GroupedPlan:
    """Maps (B, C, D, H, W) to the finest logits (B, K, D, H, W), as the network in eval mode would.

    Maps are (B, D, H, W, C) in memory and hold only what somebody reads. Where output maps share
    their inputs and that pays, a block is a convolution in groups, each over its own inputs.

    Args:
        network: Its weights, zero where a connection is dead, are copied.
        device: Where to compute.
        half: 16-bit type to compute in, None for float32.
    """

    def __init__(
        self, network: E2ENet, device: torch.device, half: torch.dtype | None = None
    ) -> None:
        self._lattice = network.lattice
        self._device, self._half = device, half
        with torch.no_grad():
            self._build(network)

    def _build(self, network: E2ENet) -> None:
        lattice = network.lattice
        live = live_connections(lattice, arrays_of(network))
        read = maps_read(lattice, live)
        kept: dict[NodeId | None, np.ndarray] = {None: np.arange(lattice.in_channels)}
        self.nodes: list[_Node] = []
        for node in lattice.nodes:
            ups = {
                flow.up.name: _up(network, flow.up, kept[flow.source], read[flow.up.name])
                for flow in node.flows
                if flow.up
            }
            sources: list[_Source] = []
            for flow in node.flows:
                held = np.flatnonzero(read[flow.up.name]) if flow.up else kept[flow.source]
                sources.append((held, flow.channels[1] - flow.channels[0]))
            blocks = []
            for layer in node.blocks:
                made = _Block(
                    network, layer, live[layer.name], read[layer.name], sources, self._device
                )
                blocks.append(made)
                sources = [(made.kept, layer.out_channels)]
            kept[node.id] = blocks[-1].kept
            self.nodes.append(
                _Node(node, {name: up.to(self._device) for name, up in ups.items()}, blocks)
            )
        finest = lattice.heads[0]
        head = network.get_parameter(finest.weight).detach().flatten(1)
        rows = _columns(head, kept[finest.stage, finest.level]).T
        self.head = rows.contiguous().to(self._device)

    def __call__(self, image: Tensor) -> Tensor:
        self._lattice.check_image(image.shape)
        if self._lattice.by_slice and image.shape[2] > 1:
            slices = self(as_slices(image).unsqueeze(2))
            return as_volumes(slices.squeeze(2), len(image))
        kind, half = self._device.type, self._half
        with (
            torch.inference_mode(),
            torch.autocast(kind, dtype=half or torch.bfloat16, enabled=half is not None),
        ):
            return self._run(image.float().permute(0, 2, 3, 4, 1).contiguous()).float()

    def _run(self, image: Tensor) -> Tensor:
        """(B, D, H, W, C) -> (B, K, D, H, W)."""
        maps: dict[NodeId | None, Tensor] = {None: image}
        del image
        for node in self.nodes:
            if not len(node.blocks[-1].kept):
                maps[node.graph.id] = _nothing(node, maps)
                continue
            flows = [node.read(flow, maps) for flow in node.graph.flows]
            for block in node.blocks:
                flows = [block(flows)]  # the list alone holds what is freed once it is read
            maps[node.graph.id] = flows.pop()
        finest = self._lattice.heads[0]
        return (maps[finest.stage, finest.level] @ self.head).permute(0, 4, 1, 2, 3)


# The channels of a layer that a map holds, -1 for padding, and how many channels the layer has.
_Source = tuple[np.ndarray, int]


class _Node:
    def __init__(self, graph: Node, ups: dict[str, UpConv], blocks: list[_Block]) -> None:
        self.graph, self.ups, self.blocks = graph, ups, blocks

    def read(self, flow: Flow, maps: dict[NodeId | None, Tensor]) -> Tensor:
        """What comes over a flow; takes its source out of the maps if nobody reads it again."""
        x = maps.pop(flow.source) if flow.last else maps[flow.source]
        if flow.up:
            return _expanded(x, self.ups[flow.up.name])
        return _pooled(x, flow.stride) if flow.kind == "downward" else x


def _nothing(node: _Node, maps: dict[NodeId | None, Tensor]) -> Tensor:
    """No maps, of the size of the node's."""
    forward, *others = node.graph.flows
    x = maps.pop(forward.source) if forward.last else maps[forward.source]
    for flow in others:
        if flow.last:
            del maps[flow.source]
    strides = zip(x.shape[1:4], node.blocks[0].stride, strict=True)
    return x.new_zeros(len(x), *(-(-n // s) for n, s in strides), 0)


class _Block:
    """Gather and depth-shift -> convolution, in groups or not -> norm and leaky ReLU.

    Args:
        network, layer: Its convolution, with the norm behind it.
        live: (output, input) which connections live.
        read: (output,) whether somebody reads an output map.
        sources: Of the maps that are concatenated.
        device: Where to compute.

    Attributes:
        kept: The output maps in the order in which they are made, -1 for padding.
        stride: (D, H, W).
    """

    def __init__(
        self,
        network: E2ENet,
        layer: Layer,
        live: np.ndarray,
        read: np.ndarray,
        sources: Sequence[_Source],
        device: torch.device,
    ) -> None:
        outputs = np.flatnonzero(read)
        groups = _groups(live[outputs], device)
        high = max((stop - first for first, stop, _ in groups), default=0)
        wide = max((len(inputs) for *_, inputs in groups), default=0)
        weight = network.get_parameter(layer.weight).detach()[:, :, 0]
        self.kept = np.full(len(groups) * high, -1)
        kernel = weight.new_zeros(len(groups) * high, wide, 3, 3)
        # What is padded reads anything: its kernels are zero.
        anything = next((inputs[0] for *_, inputs in groups if len(inputs)), 0)
        columns = np.full((len(groups), wide), anything)
        for number, (first, stop, inputs) in enumerate(groups):
            at, count = number * high, stop - first
            self.kept[at : at + count] = outputs[first:stop]
            taken = weight[torch.from_numpy(outputs[first:stop])][:, torch.from_numpy(inputs)]
            kernel[at : at + count, : len(inputs)] = taken
            columns[number, : len(inputs)] = inputs
        self._kernel = kernel.to(device).contiguous(memory_format=torch.channels_last)
        self._groups = len(groups)
        self.stride = layer.stride
        inputs = np.unique(columns)
        self._width = len(inputs)
        self._pieces = _pieces(inputs, sources, layer.shift_groups, device)
        order = np.searchsorted(inputs, columns.reshape(-1))
        self._order = torch.from_numpy(order).to(device) if len(groups) > 1 else None
        norm: Any = network.get_submodule(cast(str, layer.norm))
        self._norm = InstanceNormLeakyReLU(len(self.kept), norm.eps, norm.slope).to(device)
        self._norm.weight.copy_(_columns(norm.weight.detach()[None], self.kept)[0])
        self._norm.bias.copy_(_columns(norm.bias.detach()[None], self.kept)[0])

    def __call__(self, maps: list[Tensor]) -> Tensor:
        """Empty the list of maps (B, D, H, W, C_j), so that each can be freed once it is read."""
        batch, depth, height, width, _ = maps[0].shape
        step = self.stride[0]
        size = (batch, -(-depth // step), height, width, self._width)
        x = torch.empty(size, dtype=_widest(maps), device=maps[0].device)
        for part, positions, target, shift in self._pieces:
            to, of = moved_slices(depth, step, shift)
            source = maps[part][:, of]
            x[:, to, ..., target] = (
                source[..., positions]
                if isinstance(positions, slice)
                else source.index_select(4, positions)
            )
            x[:, : to.start, ..., target] = 0
            x[:, to.stop :, ..., target] = 0
        maps.clear()
        if self._order is not None:
            x = x.index_select(4, self._order)
        slices = x.flatten(0, 1).permute(0, 3, 1, 2)
        if self._width and len(self.kept):
            y = F.conv2d(slices, self._kernel, None, self.stride[1:], 1, 1, self._groups)
        else:
            _, sh, sw = self.stride
            y = x.new_zeros(len(slices), -(-height // sh), -(-width // sw), len(self.kept))
            y = y.permute(0, 3, 1, 2)
        y = y.permute(0, 2, 3, 1).unflatten(0, size[:2])
        return _rows(self._norm(y.permute(0, 4, 1, 2, 3))) if len(self.kept) else y


def _groups(live: np.ndarray, device: torch.device) -> list[tuple[int, int, np.ndarray]]:
    """Neighbouring output maps that share their inputs, and these: (first, stop, inputs).

    One group of all, over whatever any of them reads, where groups would not pay.
    """
    if not len(live):
        return []
    changes = np.flatnonzero((live[1:] != live[:-1]).any(axis=1)) + 1
    borders = [0, *changes.tolist(), len(live)]
    groups = [(a, b, np.flatnonzero(live[a])) for a, b in itertools.pairwise(borders)]
    high = max(stop - first for first, stop, _ in groups)
    wide = max(len(inputs) for *_, inputs in groups)
    read = np.flatnonzero(live.any(axis=0))
    smaller = _GAIN * len(groups) * high * wide <= len(live) * len(read)
    if device.type not in _UNGROUPED and high >= _LEAST_GROUP and smaller:
        return groups
    return [(0, len(live), read)]


def _pieces(
    read: np.ndarray, sources: Sequence[_Source], shift_groups: int, device: torch.device
) -> list[tuple[int, slice | Tensor, slice, int]]:
    """Runs of what is read that move as a whole: (source, places in it, target, shift)."""
    pieces: list[tuple[int, slice | Tensor, slice, int]] = []
    ends = np.cumsum([width for _, width in sources])
    shifts = chunk_shifts(int(ends[-1]), shift_groups)
    for (part, (kept, width)), (start, stop, shift) in itertools.product(
        enumerate(sources), shifts
    ):
        offset = int(ends[part]) - width
        inside = (read >= max(start, offset)) & (read < min(stop, offset + width))
        targets = np.flatnonzero(inside)
        if not len(targets):
            continue
        place = {channel: at for at, channel in enumerate(kept.tolist())}
        at = np.array([place[channel] for channel in (read[inside] - offset).tolist()])
        positions: slice | Tensor = slice(int(at[0]), int(at[-1]) + 1)
        if (np.diff(at) != 1).any():
            positions = torch.from_numpy(at).to(device)
        target = slice(int(targets[0]), int(targets[-1]) + 1)
        pieces.append((part, positions, target, shift))
    return pieces


def _up(network: E2ENet, layer: Layer, held: np.ndarray, read: np.ndarray) -> UpConv:
    """The layer from the maps that are held to those that are read."""
    weight = network.get_parameter(layer.weight).detach()[:, torch.from_numpy(read)]
    made = UpConv(1, 1, layer.stride)
    made.weight = torch.nn.Parameter(_columns(weight.movedim(0, -1), held).movedim(-1, 0))
    return made


def _columns(weight: Tensor, channels: np.ndarray) -> Tensor:
    """Channels of the last axis, zeros for padding."""
    taken = weight[..., torch.from_numpy(np.maximum(channels, 0))]
    return taken * torch.from_numpy(channels >= 0).to(taken)


def _expanded(x: Tensor, up: UpConv) -> Tensor:
    if not up.weight.numel():
        batch, *size, _ = x.shape
        wide = (n * s for n, s in zip(size, up.stride, strict=True))
        return x.new_zeros(batch, *wide, up.weight.shape[1])
    return _rows(up(x.permute(0, 4, 1, 2, 3)))


def _pooled(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    if not x.shape[-1]:
        batch, *size, _ = x.shape
        return x.new_empty(batch, *(n // s for n, s in zip(size, stride, strict=True)), 0)
    return _rows(F.max_pool3d(x.permute(0, 4, 1, 2, 3), stride, stride))


def _rows(x: Tensor) -> Tensor:
    """(B, C, D, H, W) -> (B, D, H, W, C), a view of maps that are channels-last in memory."""
    return x.permute(0, 2, 3, 4, 1)


def _widest(maps: Sequence[Tensor]) -> torch.dtype:
    dtype = maps[0].dtype
    for x in maps[1:]:
        dtype = torch.promote_types(dtype, x.dtype)
    return dtype
