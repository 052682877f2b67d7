"""The execution plan that PyTorch alone runs: dense convolutions over the maps that live."""

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


class GatheredPlan:
    """Maps (B, C, D, H, W) to the finest logits (B, K, D, H, W), as the network in eval mode would.

    Maps are (B, D, H, W, C) in memory and hold only what somebody reads; a block gathers those that
    any of its output maps reads.

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
                alive = live[layer.name]
                made = _Block(network, layer, alive, read[layer.name], sources, self._device)
                blocks.append(made)
                sources = [(made.kept, layer.out_channels)]
            kept[node.id] = blocks[-1].kept
            self.nodes.append(
                _Node(node, {name: up.to(self._device) for name, up in ups.items()}, blocks)
            )
        finest = lattice.heads[0]
        head = network.get_parameter(finest.weight).detach().flatten(1)
        rows = head[:, torch.from_numpy(kept[finest.stage, finest.level])].T
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


# The channels of a layer that a map holds, ascending, and how many channels the layer has.
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
    """Gather and depth-shift -> convolution -> norm and leaky ReLU.

    Args:
        network, layer: Its convolution, with the norm behind it.
        live: (output, input) which connections live.
        read: (output,) whether somebody reads an output map.
        sources: Of the maps that are concatenated.
        device: Where to compute.

    Attributes:
        kept: The output maps that are made, ascending.
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
        self.kept = np.flatnonzero(read)
        inputs = np.flatnonzero(live[self.kept].any(axis=0))
        outputs = torch.from_numpy(self.kept)
        weight = network.get_parameter(layer.weight).detach()[:, :, 0]
        kernel = weight[outputs][:, torch.from_numpy(inputs)]
        self._kernel = kernel.to(device).contiguous(memory_format=torch.channels_last)
        self.stride = layer.stride
        self._width = len(inputs)
        self._pieces = _pieces(inputs, sources, layer.shift_groups, device)
        norm: Any = network.get_submodule(cast(str, layer.norm))
        self._norm = InstanceNormLeakyReLU(len(self.kept), norm.eps, norm.slope).to(device)
        self._norm.weight.copy_(norm.weight.detach()[outputs])
        self._norm.bias.copy_(norm.bias.detach()[outputs])

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
        slices = x.flatten(0, 1).permute(0, 3, 1, 2)
        if self._width and len(self.kept):
            y = F.conv2d(slices, self._kernel, None, self.stride[1:], padding=1)
        else:
            _, sh, sw = self.stride
            y = x.new_zeros(len(slices), -(-height // sh), -(-width // sw), len(self.kept))
            y = y.permute(0, 3, 1, 2)
        y = y.permute(0, 2, 3, 1).unflatten(0, size[:2])
        return _rows(self._norm(y.permute(0, 4, 1, 2, 3))) if len(self.kept) else y


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
        at = np.searchsorted(kept, read[inside] - offset)
        positions: slice | Tensor = slice(int(at[0]), int(at[-1]) + 1)
        if (np.diff(at) != 1).any():
            positions = torch.from_numpy(at).to(device)
        target = slice(int(targets[0]), int(targets[-1]) + 1)
        pieces.append((part, positions, target, shift))
    return pieces


def _up(network: E2ENet, layer: Layer, held: np.ndarray, read: np.ndarray) -> UpConv:
    """The layer from the maps that are held to those that are read."""
    weight = network.get_parameter(layer.weight).detach()
    made = UpConv(1, 1, layer.stride)
    taken = weight[torch.from_numpy(held)][:, torch.from_numpy(read)]
    made.weight = torch.nn.Parameter(taken)
    return made


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
