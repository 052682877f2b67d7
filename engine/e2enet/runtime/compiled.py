"""A trained E2ENet as an execution plan: what DSFF removed is neither computed nor stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from e2enet.networks import E2ENet
from e2enet.networks.e2enet import Block
from e2enet.networks.shift import chunk_shifts
from e2enet.runtime import convolution, pointwise
from e2enet.runtime.layers import ConvLayer, PointLayer, conv_lists, point_layer
from e2enet.runtime.products import PITCH, WIDE
from e2enet.runtime.storage import IDENTITY, Buffers, Maps, room
from e2enet.runtime.vectors import LANES, SLACK
from e2enet.runtime.winograd import plane_matrix, transform_kernels

_SLAB_BYTES = 32 << 20  # of upward maps that exist at a time
_MATRIX = plane_matrix()


@dataclass(frozen=True)
class _Node:
    """A fused node: its upward transposed convolution, its blocks, the strides around it."""

    stage: int
    level: int
    up: PointLayer
    blocks: tuple[ConvLayer, ...]
    widths: tuple[int, ...]
    down: tuple[int, int, int] | None


class CompiledNetwork:
    """Maps (B, C, D, H, W) to the finest logits (B, K, D, H, W), as the network in eval mode would.

    Args:
        network: Its weights, zero where a connection is dead, are copied.
        threads: Threads to compute with.
    """

    def __init__(self, network: E2ENet, threads: int) -> None:
        self._check = network.check_size
        self.in_channels, self.num_classes = network.in_channels, network.num_classes
        self.strides, self.levels = network.strides, network.levels
        self._threads = max(1, threads)
        self._buffers = Buffers()
        self._build(network)
        convolutions = [layer for node in self.nodes for layer in node.blocks]
        convolutions += [layer for layers in self.backbone for layer in layers]
        points = [self.head, *(node.up for node in self.nodes)]
        maps = max(len(layer.read) for layer in convolutions)
        written = max(len(layer.written) for layer in convolutions)
        self._conv_scratch = [convolution.scratch(maps, written) for _ in range(self._threads)]
        self._point_scratch = [pointwise.scratch(points) for _ in range(self._threads)]

    def _build(self, network: E2ENet) -> None:
        """From the head back, so that each layer computes only what somebody reads."""
        needed = {
            (stage, level): np.zeros(network.channels[level], bool)
            for stage in range(network.levels)
            for level in range(network.levels - stage)
        }
        last = (network.levels - 1, 0)
        head = _weight(network.heads[0]).reshape(self.num_classes, -1).T[..., None]
        self.head = point_layer(head, (1, 1, 1), np.ones(self.num_classes, bool))
        needed[last][self.head.read] = True
        self.nodes: list[_Node] = []
        for stage, level in reversed(network.lattice()):
            blocks: list[ConvLayer] = []
            reads = needed[stage, level]
            for block in reversed(network.node(stage, level)):
                blocks.insert(0, _conv_layer(block, (1, 1, 1), reads))
                reads = np.zeros(block.conv.weight.shape[1], bool)
                reads[blocks[0].read] = True
            widths = tuple(network.flow_widths(level).values())
            forward, upward, *downward = np.split(reads, np.cumsum(widths)[:-1])
            up = network.ups[f"{stage}_{level}"]
            layer = point_layer(_weight(up), network.strides[level], upward)
            needed[stage - 1, level] |= forward
            needed[stage - 1, level + 1][layer.read] = True
            if downward:
                needed[stage - 1, level - 1] |= downward[0]
            down = network.strides[level - 1] if level else None
            self.nodes.insert(0, _Node(stage, level, layer, tuple(blocks), widths, down))
        self.backbone: list[list[ConvLayer]] = []
        reads = np.zeros(0, bool)
        for level in reversed(range(network.levels)):
            first, second = network.backbone[level]  # type: ignore[misc]
            reads = needed[0, level] | reads if len(reads) else needed[0, level]
            layers = [_conv_layer(second, (1, 1, 1), reads)]
            middle = np.zeros(network.channels[level], bool)
            middle[layers[0].read] = True
            stride = network.strides[level - 1] if level else (1, 1, 1)
            layers.insert(0, _conv_layer(first, stride, middle))
            reads = np.zeros(first.conv.weight.shape[1], bool)
            reads[layers[0].read] = True
            self.backbone.insert(0, layers)

    def __call__(self, image: Tensor) -> Tensor:
        if image.ndim != 5 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"E2ENet takes (B, {self.in_channels}, D, H, W), not {tuple(image.shape)}."
            )
        self._check(image.shape[2:])
        logits = torch.empty(len(image), self.num_classes, *image.shape[2:])
        with ThreadPoolExecutor(self._threads) as pool:
            self._pool = pool
            for sample, out in zip(image.detach().float(), logits, strict=True):
                self._run(sample.numpy(), out.numpy())
        return logits

    def _run(self, image: np.ndarray, logits: np.ndarray) -> None:
        channels, *shape = image.shape
        x = Maps(
            self._buffers.take(room(channels, tuple(shape))),
            np.arange(channels),
            tuple(shape),  # type: ignore[arg-type]
            np.full((channels, 3), IDENTITY, np.float32),
        )
        x.array()[:] = image  # as a view
        maps: list[Maps] = []
        for number, layers in enumerate(self.backbone):
            middle = self._convolve(layers[0], [(x, np.arange(len(x.kept)))])
            if number == 0:
                self._free(x)
            x = self._convolve(layers[1], [(middle, middle.kept)])
            self._free(middle)
            maps.append(x)
        following: list[Maps] = []
        for node in self.nodes:
            y = self._fuse(node, maps)
            following.insert(0, y)
            if node.level == 0:
                maps, following = following, []
        (x,) = maps
        self._head(x, logits)
        self._free(x)

    def _fuse(self, node: _Node, maps: list[Maps]) -> Maps:
        layer = node.blocks[0]
        offsets = np.cumsum((0, *node.widths))
        reads = [
            layer.read[(layer.read >= a) & (layer.read < b)] - a
            for a, b in zip(offsets[:-1], offsets[1:], strict=True)
        ]
        here, below = maps[node.level], maps[node.level + 1]
        sources = [(here, reads[0])]
        down = None
        if node.down is not None:
            down = self._pool_down(maps[node.level - 1], reads[2], node.down)
            sources.append((down, reads[2]))
        y = self._convolve(layer, sources, up=(node.up, below))
        if down is not None:
            self._free(down)
        self._free(maps.pop())  # the last reader of the maps below has run
        if node.level == 0:
            self._free(maps.pop())
        for layer in node.blocks[1:]:
            x, y = y, self._convolve(layer, [(y, layer.read)])
            self._free(x)
        return y

    def _convolve(
        self,
        layer: ConvLayer,
        sources: Sequence[tuple[Maps, np.ndarray]],
        up: tuple[PointLayer, Maps] | None = None,
    ) -> Maps:
        """One block.

        Args:
            layer: The convolution.
            sources: Maps and the channels read of them: forward, downward.
            up: The layer that makes the upward maps, which lie after the forward ones, and the maps
                it reads. They are made slab by slab and never exist as a whole.
        """
        depth, height, width = sources[0][0].shape
        out_shape = tuple(-(-n // s) for n, s in zip((depth, height, width), layer.stride))
        out = Maps(
            self._buffers.take(room(len(layer.written), out_shape)),
            np.sort(layer.written),
            out_shape,  # type: ignore[arg-type]
            np.zeros((len(layer.written), 3), np.float32),
        )
        outputs = out.addresses(layer.written)
        sums = np.zeros((self._threads, len(layer.written), 2))
        scratch = self._conv_scratch
        # Transformed kernels are four times as large as kernels, so they exist while they are used.
        factors = self._buffers.take(4 * layer.kernels.size)
        self._share(
            layer.kernels.shape[1] // LANES,
            lambda columns, _: transform_kernels(columns, _MATRIX, layer.kernels, factors),
        )

        slices = out_shape[0]
        slab = slices
        reach = int(np.abs(layer.delays).max(initial=0))
        if up is not None and len(up[0].written):
            size = 4 * len(up[0].written) * height * width
            box = up[0].box[0]
            slab = max(4 * reach, _SLAB_BYTES // size, 1)
            slab = min(slices, -(-slab // box) * box)
        for first in range(0, slices, slab):
            count = min(slab, slices - first)
            made = None
            parts = list(sources)
            if up is not None:
                made = self._expand(*up, max(0, first - reach), min(depth, first + count + reach))
                parts.insert(1, (made, made.kept))
            addresses = np.concatenate([m.addresses(c) for m, c in parts])
            affine = np.concatenate([m.affines(c) for m, c in parts])
            tiles = count * -(-height // 4) * -(-width // 4)
            self._share(
                -(-tiles // WIDE),
                lambda blocks, thread: convolution.convolve(
                    blocks,
                    (first, count, depth, height, width),
                    layer.stride,
                    addresses,
                    layer.delays,
                    affine,
                    layer.grouped,
                    layer.inputs,
                    layer.begins,
                    factors,
                    layer.kernels.shape[1],
                    outputs,
                    sums[thread],
                    scratch[thread],
                ),
            )
            if made is not None:
                self._free(made)
        self._buffers.give(factors)
        voxels = out_shape[0] * out_shape[1] * out_shape[2]
        mean, square = (sums.sum(0) / voxels).T
        variance = np.maximum(square - mean * mean, 0)
        scale = layer.norm[:, 0] / np.sqrt(variance + layer.eps)
        affine = np.stack([scale, layer.norm[:, 1] - mean * scale], axis=1)
        out.affine[np.searchsorted(out.kept, layer.written), :2] = affine
        out.affine[:, 2] = layer.slope
        return out

    def _expand(self, layer: PointLayer, below: Maps, first: int, last: int) -> Maps:
        """Slices from first to last, at least, of the upward maps."""
        depth, height, width = below.shape
        shape = tuple(n * s for n, s in zip(below.shape, layer.box))
        begin, end = first // layer.box[0], -(-last // layer.box[0])
        stored = (end - begin) * layer.box[0]
        out = Maps(
            self._buffers.take(room(len(layer.written), (stored, *shape[1:]))),
            layer.written,
            shape,  # type: ignore[arg-type]
            np.full((len(layer.written), 3), IDENTITY, np.float32),
            begin * layer.box[0],
            stored,
        )
        self._point(layer, below, out.addresses(layer.written), (begin, end - begin, height, width))
        return out

    def _head(self, x: Maps, logits: np.ndarray) -> None:
        plane = logits[0].size
        outputs = logits.ctypes.data + 4 * plane * np.arange(len(logits), dtype=np.int64)
        self._point(self.head, x, outputs, (0, 1, 1, plane))

    def _point(
        self, layer: PointLayer, x: Maps, outputs: np.ndarray, shape: tuple[int, ...]
    ) -> None:
        addresses, affine = x.addresses(layer.read), x.affines(layer.read)
        scratch = self._point_scratch
        self._share(
            -(-shape[1] * shape[2] * shape[3] // PITCH),
            lambda blocks, thread: pointwise.expand(
                blocks,
                shape,
                layer.box,
                addresses,
                affine,
                layer.inputs,
                layer.begins,
                layer.factors,
                outputs,
                scratch[thread],
            ),
        )

    def _pool_down(self, x: Maps, channels: np.ndarray, box: tuple[int, int, int]) -> Maps:
        shape = tuple(n // s for n, s in zip(x.shape, box))
        out = Maps(
            self._buffers.take(room(len(channels), shape)),
            channels,
            shape,  # type: ignore[arg-type]
            np.full((len(channels), 3), IDENTITY, np.float32),
        )
        addresses, affine = x.addresses(channels), x.affines(channels)
        outputs = out.addresses(channels)
        self._share(
            len(channels) * shape[0],
            lambda planes, thread: pointwise.pool(
                planes,
                (shape[0], x.shape[1], x.shape[2]),
                box,
                addresses,
                affine,
                outputs,
                np.empty(x.shape[2] + SLACK, np.float32),
            ),
        )
        return out

    def _share(self, count: int, work: Callable[[tuple[int, int], int], Any]) -> None:
        """Do `work((first, last), thread)` for shares of a count, side by side."""
        borders = [count * n // self._threads for n in range(self._threads + 1)]
        shares = [(a, b) for a, b in zip(borders[:-1], borders[1:], strict=True)]
        futures = [self._pool.submit(work, share, n) for n, share in enumerate(shares[1:], 1)]
        work(shares[0], 0)
        for future in futures:
            future.result()

    def _free(self, maps: Maps) -> None:
        self._buffers.give(maps.buffer)


def _conv_layer(block: Block, stride: tuple[int, int, int], needed: np.ndarray) -> ConvLayer:
    weight = _weight(block.conv)[:, :, 0]
    read, written, grouped, inputs, begins, kernels = conv_lists(weight, needed)
    delays = np.zeros(weight.shape[1], np.int64)
    for start, stop, shift in chunk_shifts(weight.shape[1], block.shift_groups):
        delays[start:stop] = shift
    norm = np.stack([_array(block.norm.weight), _array(block.norm.bias)], axis=1)[written]
    return ConvLayer(
        read, written, grouped, inputs, begins, kernels, delays[read],
        stride, norm, block.norm.eps, block.norm.slope,
    )  # fmt: skip


def _weight(module: Any) -> np.ndarray:
    return _array(module.weight)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
