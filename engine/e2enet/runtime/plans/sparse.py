"""A trained E2ENet as an execution plan: what DSFF removed is neither computed nor stored."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from e2enet.networks import E2ENet
from e2enet.networks.e2enet import Block
from e2enet.networks.shift import chunk_shifts
from e2enet.runtime.kernels import convolution, pointwise
from e2enet.runtime.kernels.accumulation import PITCH, WIDE
from e2enet.runtime.kernels.layers import ConvLayer, PointLayer, conv_lists, point_layer
from e2enet.runtime.kernels.memory import Arena, Maps
from e2enet.runtime.kernels.vectors import LANES, SLACK
from e2enet.runtime.kernels.winograd import TILE, plane_matrix, transform_kernels
from e2enet.runtime.kernels.workers import LEAST_BLOCKS, LEAST_COLUMNS, Work, Workers
from e2enet.runtime.plans.liveness import needed_maps

_SLAB_BYTES = 8 << 20  # of the slices that are made at a time, at least
_BLOCKS_A_THREAD = 8  # at least, in a part
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


class SparsePlan:
    """Maps (B, C, D, H, W) to the finest logits (B, K, D, H, W), as the network in eval mode would.

    Args:
        network: Its weights, zero where a connection is dead, are copied.
        threads: Threads to compute with.
    """

    def __init__(self, network: E2ENet, threads: int) -> None:
        self._check = network.check_size
        self.in_channels, self.num_classes = network.in_channels, network.num_classes
        self.strides, self.levels = network.strides, network.levels
        self._channels = network.channels
        self._workers = Workers(threads)
        self._arena = Arena()
        self._shape: tuple[int, ...] = ()
        self._measuring = False
        self._build(network)
        convolutions = [layer for node in self.nodes for layer in node.blocks]
        convolutions += [layer for layers in self.backbone for layer in layers]
        points = [self.head, *(node.up for node in self.nodes)]
        self._reach = max(int(np.abs(layer.delays).max(initial=0)) for layer in convolutions)
        maps = max(len(layer.read) for layer in convolutions)
        written = max(len(layer.written) for layer in convolutions)
        workers = range(self._workers.threads)
        self._conv_scratch = [convolution.scratch(maps, written) for _ in workers]
        self._point_scratch = [pointwise.scratch(points) for _ in workers]

    def _build(self, network: E2ENet) -> None:
        """Each layer computes only what somebody reads."""
        needed = needed_maps(network)
        head = _weight(network.heads[0]).reshape(self.num_classes, -1).T[..., None]
        self.head = point_layer(head, (1, 1, 1), np.ones(self.num_classes, bool))
        self.nodes: list[_Node] = []
        for stage, level in network.lattice():
            key = f"{stage}_{level}"
            blocks = tuple(
                _conv_layer(block, (1, 1, 1), needed[f"nodes.{key}.{index}"])
                for index, block in enumerate(network.node(stage, level))
            )
            widths = tuple(network.flow_widths(level).values())
            up = _weight(network.ups[key])
            layer = point_layer(up, network.strides[level], needed[f"ups.{key}"])
            down = network.strides[level - 1] if level else None
            self.nodes.append(_Node(stage, level, layer, blocks, widths, down))
        self.backbone = [
            [
                _conv_layer(block, stride, needed[f"backbone.{level}.{index}"])
                for index, (block, stride) in enumerate(
                    zip(cast(Any, blocks), (strides, (1, 1, 1)), strict=True)
                )
            ]
            for level, (blocks, strides) in enumerate(
                zip(network.backbone, ((1, 1, 1), *network.strides), strict=True)
            )
        ]

    def __call__(self, image: Tensor) -> Tensor:
        if image.ndim != 5 or image.shape[1] != self.in_channels:
            raise ValueError(
                f"E2ENet takes (B, {self.in_channels}, D, H, W), not {tuple(image.shape)}."
            )
        self._check(image.shape[2:])
        logits = torch.empty(len(image), self.num_classes, *image.shape[2:])
        for sample, out in zip(image.detach().float(), logits, strict=True):
            self._reserve(sample.numpy(), out.numpy())
            self._run(sample.numpy(), out.numpy())
        return logits

    def _reserve(self, image: np.ndarray, logits: np.ndarray) -> None:
        """Get the memory for images of this shape, or make all of it free again."""
        self._arena.reset()
        if image.shape != self._shape:
            self._measuring = True
            self._run(image, logits)
            self._measuring = False
            self._arena.allocate()
            self._shape = image.shape

    def _run(self, image: np.ndarray, logits: np.ndarray) -> None:
        x = Maps.make(self._arena, np.arange(len(image)), image.shape[1:])
        if not self._measuring:
            x.array()[:] = image
        maps: list[Maps] = []
        for level, layers in enumerate(self.backbone):
            middle = self._convolve(
                layers[0], [(x, layers[0].read)], self._place(layers[0], x.shape, level)
            )
            if level == 0:
                self._free(x)
            x = self._follow(layers[1], middle, level)
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
        """A node. Takes out of the list, and frees, what it is the last to read."""
        layer, level = node.blocks[0], node.level
        offsets = np.cumsum((0, *node.widths))
        reads = [
            layer.read[(layer.read >= a) & (layer.read < b)] - a
            for a, b in itertools.pairwise(offsets)
        ]
        below, here = maps.pop(), maps[level]
        sources = [(here, reads[0])]
        up, last = (node.up, below), None if level else here
        # What stays longest takes its place first: fewer gaps are left in the arena.
        place = self._place(layer, here.shape, level, up=up, last=last)
        if node.down is None:
            maps.clear()
        else:
            down = self._pool_down(maps[level - 1], reads[2], node.down)
            sources.append((down, reads[2]))
        y = self._convolve(layer, sources, place, up=up, last=last)
        for x, _ in sources[1:]:
            self._free(x)
        self._free(below)
        for layer in node.blocks[1:]:
            y = self._follow(layer, y, level)
        return y

    def _follow(self, layer: ConvLayer, x: Maps, level: int) -> Maps:
        """A block that alone reads the block before it."""
        place = self._place(layer, x.shape, level, last=x)
        return self._convolve(layer, [(x, layer.read)], place, last=x)

    def _convolve(
        self,
        layer: ConvLayer,
        sources: Sequence[tuple[Maps, np.ndarray]],
        place: tuple[Maps, list[tuple[int, int]]],
        *,
        up: tuple[PointLayer, Maps] | None = None,
        last: Maps | None = None,
    ) -> Maps:
        """One block.

        Args:
            layer: The convolution.
            sources: Maps and the channels read of them: forward, downward.
            place: Of `_place`.
            up: The layer that makes the upward maps, which lie after the forward ones, and the maps
                it reads. They are made part by part and never exist as a whole.
            last: A source that nobody reads afterwards; it is freed or overwritten.
        """
        depth, height, width = sources[0][0].shape
        out, parts = place
        outputs = out.addresses(layer.written)
        sums = np.zeros((self._workers.portions, len(layer.written), 2))
        reach = self._reach
        # Transformed kernels are four times as large as kernels, so they exist while they are used.
        room = self._arena.take(4 * layer.kernels.size)
        factors = room.array
        self._share(
            layer.kernels.shape[1] // LANES,
            lambda columns, *_: transform_kernels(columns, _MATRIX, layer.kernels, factors),
            least=LEAST_COLUMNS,
        )
        for first, stop in parts:
            read = list(sources)
            if up is not None:
                made = self._expand(*up, max(0, first - reach), min(depth, stop + reach))
                read.insert(1, (made, made.kept))
            addresses = np.concatenate([maps.addresses(channels) for maps, channels in read])
            affine = np.concatenate([maps.affines(channels) for maps, channels in read])
            tiles = (stop - first) * -(-height // TILE) * -(-width // TILE)
            shape = (first, stop - first, depth, height, width)

            work = functools.partial(
                self._tiles, layer, factors, shape, addresses, affine, outputs, sums
            )
            self._share(-(-tiles // WIDE), work, least=LEAST_BLOCKS)
            if up is not None:
                self._free(made)
        self._arena.give(room)
        if last is not None and out.buffer is not last.buffer:
            self._free(last)
        mean, square = (sums.sum(0) / np.prod(out.shape)).T
        scale = layer.norm[:, 0] / np.sqrt(np.maximum(square - mean * mean, 0) + layer.eps)
        rows = np.searchsorted(out.kept, layer.written)
        out.affine[rows, 0] = scale
        out.affine[rows, 1] = layer.norm[:, 1] - mean * scale
        out.affine[:, 2] = layer.slope
        return out

    def _tiles(
        self,
        layer: ConvLayer,
        factors: np.ndarray,
        shape: tuple[int, ...],
        addresses: np.ndarray,
        affine: np.ndarray,
        outputs: np.ndarray,
        sums: np.ndarray,
        blocks: tuple[int, int],
        thread: int,
        number: int,
    ) -> None:
        convolution.convolve(
            blocks, shape, layer.stride, addresses, layer.delays, affine, layer.grouped,
            layer.inputs, layer.begins, factors, layer.kernels.shape[1], outputs,
            np.zeros(len(outputs), np.int64), shape[2], sums[number], self._conv_scratch[thread],
        )  # fmt: skip

    def _place(
        self,
        layer: ConvLayer,
        shape: tuple[int, int, int],
        level: int,
        *,
        up: tuple[PointLayer, Maps] | None = None,
        last: Maps | None = None,
    ) -> tuple[Maps, list[tuple[int, int]]]:
        """Where a block writes to, and the parts of its slices in the order in which it goes.

        At full resolution a map is the largest thing in memory, so that there a block overwrites
        what it is the last to read: regions have some spare slices, and the output lies so much
        before its input, or behind it, that a part is written only over slices that were read.
        """
        depth, height, width = (-(-n // s) for n, s in zip(shape, layer.stride, strict=True))
        kept = np.sort(layer.written)
        tiles = -(-height // TILE) * -(-width // TILE)
        slab = max(
            1,
            depth // 8,
            _SLAB_BYTES // (4 * self._channels[level] * height * width),
            -(-_BLOCKS_A_THREAD * self._workers.threads * WIDE // tiles),
        )
        box = up[0].box[0] if up else 1
        slab = min(depth, -(-slab // box) * box)
        spare = slab + self._reach
        if level or 2 * spare > depth:
            spare = 0
        if (up is None and last is None) or (not spare and up is None):
            slab = depth
        borders = [0, *range(slab - box + self._reach % box or slab, depth, slab), depth]
        parts = list(itertools.pairwise(borders))
        if (
            spare
            and last is not None
            and last.region == depth + spare
            and len(kept) <= last.regions
        ):
            affine = np.zeros((len(kept), 3), np.float32)
            if last.origin:
                origin = 0
            else:
                origin, parts = spare, parts[::-1]
            return Maps(last.buffer, kept, last.shape, affine, last.region, origin), parts
        room = self._channels[level] if spare else None
        return Maps.make(
            self._arena, kept, (depth, height, width), room=room, region=depth + spare
        ), parts

    def _expand(self, layer: PointLayer, below: Maps, first: int, last: int) -> Maps:
        """Slices from first to last, at least, of the upward maps."""
        _, height, width = below.shape
        box = layer.box[0]
        begin, end = first // box, -(-last // box)
        shape = [n * s for n, s in zip(below.shape, layer.box, strict=True)]
        out = Maps.make(
            self._arena, layer.written, shape, region=(end - begin) * box, origin=-begin * box
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
            lambda blocks, thread, _: pointwise.expand(
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
        shape = tuple(n // s for n, s in zip(x.shape, box, strict=True))
        out = Maps.make(self._arena, channels, shape)
        addresses, affine = x.addresses(channels), x.affines(channels)
        outputs = out.addresses(channels)
        self._share(
            len(channels) * shape[0],
            lambda planes, *_: pointwise.pool(
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

    def _share(self, count: int, work: Work, *, least: int = 1) -> None:
        if not self._measuring:
            self._workers.share(count, work, least=least)

    def _free(self, maps: Maps) -> None:
        self._arena.give(maps.buffer)


def _conv_layer(block: Block, stride: tuple[int, int, int], needed: np.ndarray) -> ConvLayer:
    weight = _weight(block.conv)[:, :, 0]
    lists = conv_lists(np.any(weight, axis=(2, 3)), needed)
    delays = np.zeros(weight.shape[1], np.int64)
    for start, stop, shift in chunk_shifts(weight.shape[1], block.shift_groups):
        delays[start:stop] = shift
    norm = np.stack([_array(block.norm.weight), _array(block.norm.bias)], axis=1)
    return ConvLayer(
        lists.read, lists.written, lists.grouped, lists.inputs, lists.begins,
        lists.kernels(weight), delays[lists.read], stride, norm[lists.written], block.norm.eps,
        block.norm.slope,
    )  # fmt: skip


def _weight(module: Any) -> np.ndarray:
    return _array(module.weight)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
