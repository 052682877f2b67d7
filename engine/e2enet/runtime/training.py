"""Training on a CPU over live connections only.

`accelerate` makes the blocks of a network compute with the kernels of the runtime, forward and
backward. Dead connections then take no time, and maps are never concatenated, shifted or copied
into another layout. Their gradients are not computed either: that of a dead kernel is zero here,
where the masked network has one that nobody uses but the clipping of the gradient's norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from e2enet.dsff import Connections
from e2enet.networks import E2ENet
from e2enet.networks.e2enet import Block, UpConv
from e2enet.networks.shift import chunk_shifts
from e2enet.runtime import convolution, gradients, normalising, pointwise
from e2enet.runtime.layers import ConvLists, conv_lists, point_layer
from e2enet.runtime.products import PITCH, WIDE
from e2enet.runtime.storage import IDENTITY, aligned
from e2enet.runtime.vectors import LANES, SLACK
from e2enet.runtime.winograd import TILE, plane_matrix, transform_kernels
from e2enet.runtime.workers import LEAST_BLOCKS, LEAST_COLUMNS, LEAST_VOXELS, Workers

_MATRIX = plane_matrix()
_TURNED = torch.from_numpy(plane_matrix().T.copy())  # from transformed kernels back to kernels


def accelerate(network: E2ENet, connections: Connections) -> None:
    """Let the network compute with sparse kernels from now on, on the CPU and in float32.

    Blocks with a stride, a small part of the work, stay as they are. The masks may change between
    steps.

    Args:
        network: On the CPU.
        connections: Its masks; dead weights must be zero (`Connections.apply`).
    """
    _IDLE.clear()  # another network has maps of other sizes
    workers = Workers(torch.get_num_threads())
    for name, module in network.named_modules():
        if isinstance(module, UpConv):
            up = _SparseUp(module, name, connections, workers)
            module.forward = up  # type: ignore[method-assign, assignment]
        if not isinstance(module, Block) or module.depth_stride > 1 or max(module.conv.stride) > 1:
            continue
        block = _SparseBlock(module, f"{name}.conv", connections, workers)
        module.forward = block  # type: ignore[method-assign, assignment]


class _Lent(np.ndarray):
    """Memory on loan: it goes back when the last tensor over it is gone."""

    def __del__(self) -> None:
        if type(self.base) is np.ndarray:
            _IDLE.setdefault(self.base.size, []).append(self.base)


# Of the size of the key. The system clears every page that it hands out, and a step of training
# asks for a hundred large maps: keeping them saves a fifth of its time.
_IDLE: dict[int, list[np.ndarray]] = {}


def planar(*shape: int) -> Tensor:
    """An uninitialised tensor that kernels may read past its end."""
    size = int(np.prod(shape))
    idle = _IDLE.get(size + SLACK)
    memory = idle.pop() if idle else aligned(size + SLACK)
    return torch.from_numpy(memory.view(_Lent))[:size].view(shape)


def _readable(x: Tensor) -> Tensor:
    """The tensor itself if kernels may read it, else a copy."""
    rest = x.untyped_storage().nbytes() // 4 - x.storage_offset() - x.numel()
    if x.dtype == torch.float32 and x.is_contiguous() and rest >= SLACK:
        return x
    return planar(*x.shape).copy_(x)


def _addresses(sample: Tensor) -> np.ndarray:
    """Where each map of a sample (C, D, H, W), contiguous, begins."""
    step = 4 * sample[0].numel()
    return sample.data_ptr() + step * np.arange(len(sample), dtype=np.int64)


@dataclass(frozen=True)
class _Structure:
    """The lists of a mask.

    Attributes:
        mask: (output, input).
        forward: From inputs to outputs.
        backward: From the gradients of outputs to those of inputs.
        inputs, begins: For `gradients.kernel_gradients`, over the maps of `forward.read`.
        places: (live padded,) kernel of each of its sums, as in `ConvLists`.
    """

    mask: Tensor
    forward: ConvLists
    backward: ConvLists
    inputs: np.ndarray
    begins: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, mask: Tensor, wanted: np.ndarray) -> _Structure:
        """`wanted` says which inputs need a gradient."""
        live = mask.numpy()
        forward = conv_lists(live, np.ones(len(live), bool))
        backward = conv_lists(live.T, wanted & live.any(axis=0))
        nothing = live.size
        inputs, begins, places = [], [0], []
        for output, row in enumerate(live[:, forward.read]):
            listed = np.flatnonzero(row)
            numbers = output * live.shape[1] + forward.read[listed]
            padding = -len(listed) % gradients.CHUNK
            inputs.append(np.pad(listed, (0, padding)))
            places.append(np.pad(numbers, (0, padding), constant_values=nothing))
            begins.append(begins[-1] + len(listed) + padding)
        joined = np.concatenate(places)
        joined = np.pad(joined, (0, -len(joined) % LANES), constant_values=nothing)
        return cls(
            mask.clone(),
            forward,
            backward,
            np.concatenate(inputs).astype(np.int64),
            np.array(begins, np.int64),
            joined,
        )


class _SparseBlock:
    """`Block.forward` by sparse kernels.

    Args:
        block: Its parameters are used.
        name, connections: Its mask is the one of this name; without one everything is alive.
        workers: Threads.
    """

    def __init__(self, block: Block, name: str, connections: Connections, workers: Workers) -> None:
        self.block, self.workers = block, workers
        self._name, self._connections = name, connections
        self._structure: _Structure | None = None
        maps = block.conv.weight.shape[1]
        self._delays = np.zeros(maps, np.int64)
        for start, stop, shift in chunk_shifts(maps, block.shift_groups):
            self._delays[start:stop] = shift

    def __call__(self, maps: list[Tensor]) -> Tensor:
        """Empty the list of maps (B, C_j, D, H, W), as `Block.forward`."""
        parts = [_readable(part) for part in maps]
        maps.clear()
        norm = self.block.norm
        return cast(
            Tensor,
            _Convolution.apply(self, self.block.conv.weight, norm.weight, norm.bias, *parts),
        )

    def structure(self, wanted: np.ndarray) -> _Structure:
        """The lists of the mask as it is now."""
        mask = self._connections.masks.get(self._name)
        if mask is None:
            mask = torch.ones(self.block.conv.weight.shape[:2], dtype=torch.bool)
        if self._structure is None or not torch.equal(self._structure.mask, mask):
            self._structure = _Structure.of(mask, wanted)
        return self._structure

    def convolve(
        self,
        lists: ConvLists,
        weight: np.ndarray,
        inputs: np.ndarray,
        delays: np.ndarray,
        outputs: np.ndarray,
        moves: np.ndarray,
        size: tuple[int, int, int],
    ) -> np.ndarray:
        """Run the kernel over a sample; returns sum and sum of squares of what was written.

        Args:
            lists, weight: (output, input, 3, 3) and the lists of its live kernels.
            inputs, delays: Address and depth-shift of every map of `lists.read`.
            outputs, moves: Address and shift of every map of `lists.written`.
            size: (D, H, W).
        """
        depth, height, width = size
        kernels = lists.kernels(weight)
        factors = np.empty(4 * kernels.size, np.float32)
        share = self.workers.share
        share(
            kernels.shape[1] // LANES,
            lambda columns, *_: transform_kernels(columns, _MATRIX, kernels, factors),
            least=LEAST_COLUMNS,
        )
        affine = np.tile(np.array(IDENTITY, np.float32), (len(inputs), 1))
        sums = np.zeros((self.workers.portions, len(outputs), 2))
        scratch = self._scratch(convolution.scratch, len(inputs), len(outputs))
        tiles = depth * -(-height // TILE) * -(-width // TILE)
        share(
            -(-tiles // WIDE),
            lambda blocks, thread, number: convolution.convolve(
                blocks, (0, depth, depth, height, width), (1, 1, 1), inputs, delays, affine,
                lists.grouped, lists.inputs, lists.begins, factors, kernels.shape[1], outputs,
                moves, depth, sums[number], scratch[thread],
            ),
            least=LEAST_BLOCKS,
        )  # fmt: skip
        return sums.sum(0)

    def _scratch(self, make: Any, maps: int, outputs: int) -> list[Any]:
        return [make(maps, outputs) for _ in range(self.workers.threads)]

    def kernel_gradients(
        self, lists: _Structure, inputs: np.ndarray, upstream: np.ndarray, size: tuple[int, ...]
    ) -> Tensor:
        """(live padded, 9) gradients of the kernels of `lists.places` for a sample."""
        depth, height, width = size
        tiles = depth * -(-height // TILE) * -(-width // TILE)
        blocks = -(-tiles // WIDE)
        live = len(lists.places)
        # One sum a thread, and always the same share of the work in it: sums can be repeated.
        threads = min(self.workers.threads, blocks)
        sums = np.zeros((threads, 36 * live), np.float32)
        scratch = self._scratch(gradients.scratch, len(inputs), len(upstream))
        delays = self._delays[lists.forward.read]
        borders = [blocks * n // threads for n in range(threads + 1)]
        self.workers.share(
            threads,
            lambda portions, thread, _: [
                gradients.kernel_gradients(
                    (borders[n], borders[n + 1]), (depth, height, width), inputs, delays, upstream,
                    lists.inputs, lists.begins, sums[n], scratch[thread],
                )
                for n in range(*portions)
            ],
        )  # fmt: skip
        return (_TURNED @ torch.from_numpy(sums.sum(0).reshape(36, live))).T


class _Convolution(torch.autograd.Function):
    """Depth-shift, convolution, instance norm and leaky ReLU of a list of maps."""

    @staticmethod
    def forward(
        ctx: Any, block: _SparseBlock, weight: Tensor, gamma: Tensor, beta: Tensor, *parts: Tensor
    ) -> Tensor:
        batch, _, *size = parts[0].shape
        widths = [part.shape[1] for part in parts]
        wanted = np.repeat(ctx.needs_input_grad[4:], widths)
        lists = block.structure(wanted)
        y, z = planar(batch, len(weight), *size), planar(batch, len(weight), *size)
        taps = weight.detach().numpy()[:, :, 0]
        read, written = lists.forward.read, lists.forward.written
        norm = block.block.norm
        affines, statistics = [], []
        for sample in range(batch):
            inputs = np.concatenate([_addresses(part[sample]) for part in parts])[read]
            outputs = _addresses(y[sample])
            sums = block.convolve(
                lists.forward, taps, inputs, block._delays[read], outputs[written],
                np.zeros(len(written), np.int64), tuple(size),
            )  # fmt: skip
            mean = np.empty(len(weight))
            square = np.empty(len(weight))
            mean[written], square[written] = sums.T / np.prod(size)
            inverse = 1 / np.sqrt(np.maximum(square - mean * mean, 0) + norm.eps)
            scale = gamma.detach().numpy() * inverse
            shift = beta.detach().numpy() - mean * scale
            affine = np.stack([scale, shift, np.full(len(scale), norm.slope)], 1)
            affines.append(affine.astype(np.float32))
            statistics.append(np.stack([mean, inverse], 1).astype(np.float32))
            _each_map(block, normalising.activate, y[sample], affines[-1], _addresses(z[sample]))
        ctx.save_for_backward(weight, y, *parts)
        ctx.block, ctx.lists, ctx.widths = block, lists, widths
        ctx.affines, ctx.statistics = affines, statistics
        return z

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        weight, y, *parts = ctx.saved_tensors
        block, lists = ctx.block, ctx.lists
        batch, outputs, *size = y.shape
        grad = grad.contiguous()
        read, written = lists.backward.read, lists.backward.written
        taps = weight.detach().numpy()[:, :, 0]
        turned = np.ascontiguousarray(taps.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])
        grads = [
            planar(*part.shape) if needed else None
            for part, needed in zip(parts, ctx.needs_input_grad[4:], strict=True)
        ]
        norm_grads = np.zeros((outputs, 2))
        kernel_grads = torch.zeros(len(lists.places), 9)
        dy = planar(outputs, *size)
        for sample in range(batch):
            sums = np.zeros((outputs, 2))
            _each_map(
                block, normalising.norm_gradients, y[sample], ctx.affines[sample],
                ctx.statistics[sample], _addresses(grad[sample]), _addresses(dy), sums,
            )  # fmt: skip
            norm_grads += sums
            upstream = _addresses(dy)
            if ctx.needs_input_grad[1]:
                inputs = np.concatenate([_addresses(part[sample]) for part in parts])
                kernel_grads += block.kernel_gradients(
                    lists, inputs[lists.forward.read], upstream, size
                )
            if len(written):
                targets = np.concatenate(
                    [
                        np.zeros(width, np.int64) if g is None else _addresses(g[sample])
                        for g, width in zip(grads, ctx.widths, strict=True)
                    ]
                )
                block.convolve(
                    lists.backward, turned, upstream[read], np.zeros(len(read), np.int64),
                    targets[written], -block._delays[written], tuple(size),
                )  # fmt: skip
        _clear_unwritten(grads, ctx.widths, written, block._delays)
        grad_weight = torch.zeros(weight.shape[0] * weight.shape[1] + 1, 9)
        grad_weight[torch.from_numpy(lists.places)] = kernel_grads
        return (
            None,
            grad_weight[:-1].view(weight.shape),
            torch.from_numpy(norm_grads[:, 0]).float(),
            torch.from_numpy(norm_grads[:, 1]).float(),
            *grads,
        )


class _SparseUp:
    """`UpConv.forward` by sparse kernels.

    Args:
        up: Its weight is used.
        name, connections: Its mask is the one of this name.
        workers: Threads.
    """

    def __init__(self, up: UpConv, name: str, connections: Connections, workers: Workers) -> None:
        self.up, self.workers = up, workers
        self._name, self._connections = name, connections

    @property
    def mask(self) -> Tensor:
        """(input, output) which connections live now."""
        return self._connections.masks[self._name]

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C_in, D, H, W) -> (B, C_out, D * sd, H * sh, W * sw)."""
        return cast(Tensor, _Expansion.apply(self, self.up.weight, _readable(x)))


class _Expansion(torch.autograd.Function):
    """A transposed convolution whose kernel is its stride."""

    @staticmethod
    def forward(ctx: Any, up: _SparseUp, weight: Tensor, x: Tensor) -> Tensor:
        batch, _, *size = x.shape
        box = up.up.stride
        outputs = weight.shape[1]
        y = planar(batch, outputs, *(n * s for n, s in zip(size, box, strict=True)))
        layer = point_layer(weight.detach().numpy(), box, np.ones(outputs, bool))
        scratch = [pointwise.scratch([layer]) for _ in range(up.workers.threads)]
        affine = np.tile(np.array(IDENTITY, np.float32), (len(layer.read), 1))
        for sample in range(batch):
            inputs, targets = _addresses(x[sample])[layer.read], _addresses(y[sample])
            up.workers.share(
                -(-x[0, 0].numel() // PITCH),
                lambda blocks, thread, _, inputs=inputs, targets=targets: pointwise.expand(
                    blocks, (0, *size), box, inputs, affine, layer.inputs, layer.begins,
                    layer.factors, targets, scratch[thread],
                ),
            )  # fmt: skip
        ctx.save_for_backward(weight, x)
        ctx.up, ctx.mask = up, up.mask.clone()
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        weight, x = ctx.saved_tensors
        batch, maps, *size = x.shape
        box = ctx.up.up.stride
        grad = _readable(grad)
        inputs, outputs = (axis.astype(np.int64) for axis in np.nonzero(ctx.mask.numpy()))
        begins = np.searchsorted(inputs, np.arange(maps + 1))
        kernels = weight.detach().numpy()[inputs, outputs]
        factors = np.ascontiguousarray(kernels.reshape(-1))
        dx = planar(*x.shape)
        blocks = -(-x[0, 0].numel() // PITCH)
        threads = min(ctx.up.workers.threads, blocks)
        borders = [blocks * n // threads for n in range(threads + 1)]
        sums = np.zeros((threads, len(factors)), np.float32)
        places = int(np.prod(box))
        scratch = [gradients.box_scratch(weight.shape[1], places) for _ in range(threads)]
        for sample in range(batch):
            arrays = (_addresses(x[sample]), _addresses(grad[sample]), _addresses(dx[sample]))
            ctx.up.workers.share(
                threads,
                lambda portions, thread, _, arrays=arrays: [
                    gradients.contract(
                        (borders[n], borders[n + 1]), tuple(size), box, arrays[0], arrays[1],
                        outputs, begins, factors, arrays[2], sums[n], scratch[thread],
                    )
                    for n in range(*portions)
                ],
            )  # fmt: skip
        grad_weight = torch.zeros_like(weight)
        grad_weight[inputs, outputs] = torch.from_numpy(sums.sum(0).reshape(kernels.shape))
        return None, grad_weight, dx


def _each_map(block: _SparseBlock, kernel: Any, y: Tensor, *arguments: Any) -> None:
    addresses, voxels = _addresses(y), y[0].numel()
    block.workers.share(
        len(y),
        lambda maps, *_: kernel(maps, voxels, addresses, *arguments),
        least=max(1, LEAST_VOXELS // voxels),
    )


def _clear_unwritten(
    grads: list[Tensor | None], widths: list[int], written: np.ndarray, delays: np.ndarray
) -> None:
    """Zero the gradient of maps that nobody reads and of slices that were shifted out."""
    reached = np.zeros(sum(widths), bool)
    reached[written] = True
    first = 0
    for grad, width in zip(grads, widths, strict=True):
        own = slice(first, first + width)
        first += width
        if grad is None:
            continue
        for c in np.flatnonzero(~reached[own]):
            grad[:, c] = 0
        for delay in set(delays[own].tolist()) - {0}:
            channels = np.flatnonzero(delays[own] == delay)  # of a shift group, so neighbours
            group = grad[:, channels[0] : channels[-1] + 1]
            edge = slice(-delay, None) if delay > 0 else slice(0, -delay)
            group[:, :, edge] = 0
