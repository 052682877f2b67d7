"""A trained E2ENet as an execution plan: what DSFF removed is neither computed nor stored."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from e2enet.networks.lattice import (
    Lattice,
    NodeId,
)
from e2enet.runtime.kernels import convolution, pointwise
from e2enet.runtime.kernels.accumulation import PITCH, WIDE
from e2enet.runtime.kernels.layers import ConvLayer, PointLayer
from e2enet.runtime.kernels.memory import Arena, Maps
from e2enet.runtime.kernels.records import Source, Target
from e2enet.runtime.kernels.tiles import PLANES
from e2enet.runtime.kernels.vectors import (
    LANES,
    SLACK,
)
from e2enet.runtime.kernels.voxels import (
    FLOAT,
    HALF,
)
from e2enet.runtime.kernels.winograd import TILE, plane_matrix, transform_kernels
from e2enet.runtime.kernels.workers import LEAST_BLOCKS, LEAST_COLUMNS, Work, Workers
from e2enet.runtime.plans.nodes import NodeLayers, node_layers
from e2enet.runtime.plans.slabs import Looks, Part, Slabs, Upward

_BLOCKS_A_THREAD = 8  # at least, in a part
_MATRIX = plane_matrix()


class SparsePlan:
    """Maps (B, C, D, H, W) to the finest logits (B, K, D, H, W), as the network in eval mode would.

    Needs no PyTorch. For one thread at a time.

    Args:
        lattice: The network's graph.
        weights: Parameter name -> float32 array, zero where a connection is dead; copied.
        threads: Threads to compute with. The same number makes the same logits; another one may
            cut a map into other parts, whose sums are rounded otherwise: up to 2e-5 of the logits.
        precision: "float32"; "float16" keeps maps in memory in 16 bit and computes in float32;
            "bfloat16" does, and multiplies numbers rounded to bfloat16, adding up in float32. A
            map beyond the range of float16 makes logits that are not finite.
    """

    def __init__(
        self,
        lattice: Lattice,
        weights: Mapping[str, np.ndarray],
        threads: int,
        precision: str = "float32",
    ) -> None:
        self.lattice = lattice
        self._kind = FLOAT if precision == "float32" else HALF
        self._paired = precision == "bfloat16"
        self._workers = Workers(threads)
        self._arena = Arena()
        self._shape: tuple[int, ...] = ()
        self._measuring = False
        self.nodes, self.head = node_layers(lattice, weights, paired=self._paired)
        self._last = {
            flow.source: node.graph.id
            for node in self.nodes
            for flow in node.graph.flows
            if flow.kind != "downward"
        }
        downward = [(node, node.graph.flow("downward")) for node in self.nodes]
        self._pooling = {
            flow.source: (node.reads("downward"), flow.stride) for node, flow in downward if flow
        }
        convolutions = [layer for node in self.nodes for layer in node.blocks]
        points = [self.head, *(node.up for node in self.nodes if node.up)]
        self._reach = max(int(np.abs(layer.shifts).max(initial=0)) for layer in convolutions)
        maps = max(len(layer.read) for layer in convolutions)
        written = max(len(layer.written) for layer in convolutions)
        workers = range(self._workers.threads)
        self._conv_scratch = [
            convolution.scratch(maps, written, paired=self._paired) for _ in workers
        ]
        self._point_scratch = [pointwise.scratch(points, paired=self._paired) for _ in workers]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(B, C, D, H, W) -> (B, K, D, H, W) float32.

        Raises:
            ValueError: The network does not take an image of this shape.
        """
        self.lattice.check_image(image.shape)
        batch, channels, depth, height, width = image.shape
        if self.lattice.by_slice and depth > 1:
            slices = image.transpose(0, 2, 1, 3, 4).reshape(-1, channels, 1, height, width)
            apart = self(slices).reshape(batch, depth, -1, height, width)
            return np.ascontiguousarray(apart.transpose(0, 2, 1, 3, 4))
        samples = np.ascontiguousarray(image, np.float32)
        logits = np.empty((len(image), self.lattice.num_classes, *image.shape[2:]), np.float32)
        for sample, out in zip(samples, logits, strict=True):
            self._reserve(sample, out)
            self._run(sample, out)
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
        x = self._maps(np.arange(len(image)), image.shape[1:])
        if not self._measuring:
            with np.errstate(over="ignore"):  # the logits tell
                x.array()[:] = image
        maps: dict[NodeId | None, Maps] = {None: x}
        pooled: dict[NodeId | None, Maps] = {}
        for node in self.nodes:
            maps[node.graph.id] = self._node(node, maps, pooled)
        finest = self.lattice.heads[0]
        x = maps.pop((finest.stage, finest.level))
        if not self._measuring:
            self._arena.release(logits.nbytes)
        self._head(x, logits)
        self._free(x)

    def _node(
        self, node: NodeLayers, maps: dict[NodeId | None, Maps], pooled: dict[NodeId | None, Maps]
    ) -> Maps:
        """A node. Takes out of the maps, and frees, what it is the last to read."""
        layer, (stage, level) = node.blocks[0], node.graph.id
        flows = {flow.kind: flow.source for flow in node.graph.flows}
        lost = {
            kind: maps.pop(source)
            for kind, source in flows.items()
            if self._last[source] == node.graph.id and kind != "downward"
        }
        here = lost.get("forward") or maps[flows["forward"]]
        looks = node.looks if node.up else None
        last = lost.pop("forward", None) if stage else None
        # What stays longest takes its place first: fewer gaps are left in the arena.
        place = self._place(layer, here.shape, level, looks=looks, last=last)
        up = None
        if node.up:
            below = lost.get("upward") or maps[flows["upward"]]
            up = Upward(node.up, below, place[1], node.looks)
        if last and flows["forward"] in self._pooling:
            pooled[flows["forward"]] = self._pool_down(last, *self._pooling[flows["forward"]])
        sources = [(here, node.reads("forward"))]
        if "downward" in flows:
            sources.append((pooled.pop(flows["downward"]), node.reads("downward")))
        y = self._convolve(layer, sources, place, up=up, last=last)
        for x in [x for x, _ in sources[1:]] + list(lost.values()):
            self._free(x)
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
        place: tuple[Maps, list[Part]],
        *,
        up: Upward | None = None,
        last: Maps | None = None,
    ) -> Maps:
        """One block.

        Args:
            layer: The convolution.
            sources: Maps and the channels read of them: forward, downward.
            place: Of `_place`.
            up: Upward maps, which lie after the forward ones.
            last: A source that nobody reads afterwards; it is freed or overwritten.
        """
        depth, height, width = sources[0][0].shape
        out, parts = place
        outputs = out.addresses(layer.written)
        target = Target(outputs, np.zeros(len(outputs), np.int64), depth, self._kind)
        sums = np.zeros((self._workers.portions, len(layer.written), 2))
        # Transformed kernels are four times as large as kernels, so they exist while they are used.
        room = self._arena.take((2 if self._paired else 4) * layer.kernels.size)
        factors = room.array
        put = factors.view(np.int32) if self._paired else factors
        self._share(
            layer.kernels.shape[1] // LANES,
            lambda columns, *_: transform_kernels(columns, _MATRIX, layer.kernels, put),
            least=LEAST_COLUMNS,
        )
        made = None
        for first, stop in parts:
            read = list(sources)
            if up is not None:
                made = self._expand(up, (first, stop), made)
                read.insert(1, (made, made.kept))
            addresses = np.concatenate([maps.addresses(channels) for maps, channels in read])
            affine = np.concatenate([maps.affines(channels) for maps, channels in read])
            tiles = (stop - first) * -(-height // TILE) * -(-width // TILE)
            shape = (first, stop - first, depth, height, width)
            source = Source(addresses, affine, self._kind)
            work = functools.partial(self._tiles, layer, factors, shape, source, target, sums)
            self._share(-(-tiles // WIDE), work, least=LEAST_BLOCKS)
        if made is not None:
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
        source: Source,
        target: Target,
        sums: np.ndarray,
        blocks: tuple[int, int],
        thread: int,
        number: int,
    ) -> None:
        convolution.convolve(
            blocks, shape, layer.stride, source, layer.shifts, layer.live, layer.grouped,
            factors.reshape(PLANES, -1), target, sums[number], self._conv_scratch[thread],
        )  # fmt: skip

    def _place(
        self,
        layer: ConvLayer,
        shape: Sequence[int],
        level: int,
        *,
        looks: Looks | None = None,
        last: Maps | None = None,
    ) -> tuple[Maps, list[Part]]:
        """Where a block writes to, and the parts of its slices in the order in which it goes.

        A block overwrites what it is the last to read: regions have some spare slices, and the
        output lies so much before its input, or behind it, that a part is written only over slices
        that were read.
        """
        depth, height, width = (-(-n // s) for n, s in zip(shape, layer.stride, strict=True))
        kept = np.sort(layer.written)
        wide = self.lattice.channels[level]
        tiles = -(-height // TILE) * -(-width // TILE)
        slabs = Slabs.of(
            depth,
            self._kind.itemsize * wide * height * width,
            -(-_BLOCKS_A_THREAD * self._workers.threads * WIDE // tiles),
            box=self.lattice.strides[level][0] if level < self.lattice.levels - 1 else 1,
            reach=self._reach,
        )
        region = depth + slabs.spare
        over = None
        if slabs.spare and last and last.region == region and len(kept) <= last.regions:
            over = last
        parts = [(0, depth)]
        if looks or over:
            parts = slabs.parts(looks or (0, 0), back=over is not None and not over.origin)
        if over is None:
            room = wide if slabs.spare else None
            return self._maps(kept, (depth, height, width), room=room, region=region), parts
        origin = 0 if over.origin else slabs.spare
        affine = np.zeros((len(kept), 3), np.float32)
        return dataclasses.replace(over, kept=kept, affine=affine, origin=origin), parts

    def _expand(self, upward: Upward, part: Part, before: Maps | None) -> Maps:
        """What a part needs of the upward maps; takes the place of what the part before needed."""
        layer, below = upward.layer, upward.below
        _, height, width = below.shape
        made, kept = upward.go_on(part)
        origin = -min(made[0], kept[0])
        if before is None:
            shape = [n * s for n, s in zip(below.shape, layer.box, strict=True)]
            out = self._maps(layer.written, shape, region=upward.room, origin=origin)
        else:
            out = dataclasses.replace(before, origin=origin)
            self._share(
                len(out.kept),
                lambda maps, *_: np.copyto(
                    out.slices(*kept)[slice(*maps)], before.slices(*kept)[slice(*maps)]
                ),
            )
        first, stop = (n // layer.box[0] for n in made)
        voxels = (first, stop - first, height, width)
        self._point(layer, below, out.addresses(layer.written), self._kind, voxels)
        return out

    def _head(self, x: Maps, logits: np.ndarray) -> None:
        plane = logits[0].size
        outputs = logits.ctypes.data + 4 * plane * np.arange(len(logits), dtype=np.int64)
        self._point(self.head, x, outputs, FLOAT, (0, 1, 1, plane))

    def _point(
        self,
        layer: PointLayer,
        x: Maps,
        outputs: np.ndarray,
        kind: np.ndarray,
        shape: tuple[int, ...],
    ) -> None:
        source = Source(x.addresses(layer.read), x.affines(layer.read), self._kind)
        scratch = self._point_scratch
        self._share(
            -(-shape[1] * shape[2] * shape[3] // PITCH),
            lambda blocks, thread, _: pointwise.expand(
                blocks,
                shape,
                layer.box,
                source,
                layer.live,
                layer.factors,
                outputs,
                kind,
                scratch[thread],
            ),
        )

    def _pool_down(self, x: Maps, channels: np.ndarray, box: tuple[int, int, int]) -> Maps:
        shape = tuple(n // s for n, s in zip(x.shape, box, strict=True))
        out = self._maps(channels, shape)
        source = Source(x.addresses(channels), x.affines(channels), self._kind)
        outputs = out.addresses(channels)
        self._share(
            len(channels) * shape[0],
            lambda planes, *_: pointwise.pool(
                planes,
                (shape[0], x.shape[1], x.shape[2]),
                box,
                source,
                outputs,
                np.empty(x.shape[2] + SLACK, np.float32),
            ),
        )
        return out

    def _maps(self, kept: np.ndarray, shape: Sequence[int], **where: Any) -> Maps:
        return Maps.make(self._arena, kept, shape, kind=self._kind, **where)

    def _share(self, count: int, work: Work, *, least: int = 1) -> None:
        if not self._measuring:
            self._workers.share(count, work, least=least)

    def _free(self, maps: Maps) -> None:
        self._arena.give(maps.buffer)
