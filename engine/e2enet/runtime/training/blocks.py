"""`Block` by sparse kernels, with its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from e2enet.dsff import Connections
from e2enet.networks.e2enet import Block
from e2enet.networks.shift import chunk_shifts
from e2enet.runtime.kernels import convolution, gradients
from e2enet.runtime.kernels import normalisation as normalising
from e2enet.runtime.kernels.accumulation import WIDE
from e2enet.runtime.kernels.layers import ConvLists, conv_lists
from e2enet.runtime.kernels.memory import IDENTITY
from e2enet.runtime.kernels.vectors import LANES
from e2enet.runtime.kernels.winograd import TILE, plane_matrix, transform_kernels
from e2enet.runtime.kernels.workers import LEAST_BLOCKS, LEAST_COLUMNS, LEAST_VOXELS, Workers
from e2enet.runtime.training.tensors import addresses, planar, readable

_MATRIX = plane_matrix()
_TURNED = torch.from_numpy(plane_matrix().T.copy())  # from transformed kernels back to kernels


class _Structure:
    """The lists of a mask.

    What is asked of it is answered from nothing but the mask and the question, and kept by the
    question, so that no pass can be answered with the lists of another.

    Args:
        mask: (output, input).

    Attributes:
        forward: From inputs to outputs.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask.clone()
        live = self.mask.numpy()
        self.forward = conv_lists(live, np.ones(len(live), bool))
        self._backward: dict[bytes, ConvLists] = {}

    def backward(self, wanted: np.ndarray) -> ConvLists:
        """From the gradients of outputs to those of inputs; (input,) bool says of which."""
        key = wanted.tobytes()
        if key not in self._backward:
            live = self.mask.numpy()
            self._backward[key] = conv_lists(live.T, wanted & live.any(axis=0))
        return self._backward[key]

    @cached_property
    def kernels(self) -> _KernelLists:
        """For the gradients of the kernels."""
        live = self.mask.numpy()
        nothing = live.size
        inputs, begins, places = [], [0], []
        for output, row in enumerate(live[:, self.forward.read]):
            listed = np.flatnonzero(row)
            numbers = output * live.shape[1] + self.forward.read[listed]
            padding = -len(listed) % gradients.CHUNK
            inputs.append(np.pad(listed, (0, padding)))
            places.append(np.pad(numbers, (0, padding), constant_values=nothing))
            begins.append(begins[-1] + len(listed) + padding)
        joined = np.concatenate(places)
        joined = np.pad(joined, (0, -len(joined) % LANES), constant_values=nothing)
        return _KernelLists(
            np.concatenate(inputs).astype(np.int64), np.array(begins, np.int64), joined
        )


@dataclass(frozen=True)
class _KernelLists:
    """For `gradients.kernel_gradients`, over the maps of `forward.read`.

    Attributes:
        inputs, begins: Of each output map.
        places: (live padded,) kernel of each of its sums, as in `ConvLists`.
    """

    inputs: np.ndarray
    begins: np.ndarray
    places: np.ndarray


class SparseBlock:
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
        parts = [readable(part) for part in maps]
        maps.clear()
        norm = self.block.norm
        return cast(
            Tensor,
            _Convolution.apply(self, self.block.conv.weight, norm.weight, norm.bias, *parts),
        )

    def structure(self) -> _Structure:
        """The lists of the mask as it is now."""
        mask = self._connections.masks.get(self._name)
        if mask is None:
            mask = torch.ones(self.block.conv.weight.shape[:2], dtype=torch.bool)
        if self._structure is None or not torch.equal(self._structure.mask, mask):
            self._structure = _Structure(mask)
        return self._structure

    def convolve(
        self,
        lists: ConvLists,
        weight: np.ndarray,
        inputs: np.ndarray,
        delays: np.ndarray,
        outputs: np.ndarray,
        moves: np.ndarray,
        size: tuple[int, ...],
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
        """(live padded, 9) gradients of the kernels of `lists.kernels` for a sample."""
        depth, height, width = size
        tiles = depth * -(-height // TILE) * -(-width // TILE)
        blocks = -(-tiles // WIDE)
        kernels = lists.kernels
        live = len(kernels.places)
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
                    kernels.inputs, kernels.begins, sums[n], scratch[thread],
                )
                for n in range(*portions)
            ],
        )  # fmt: skip
        return (_TURNED @ torch.from_numpy(sums.sum(0).reshape(36, live))).T


class _Convolution(torch.autograd.Function):
    """Depth-shift, convolution, instance norm and leaky ReLU of a list of maps."""

    @staticmethod
    def forward(
        ctx: Any, block: SparseBlock, weight: Tensor, gamma: Tensor, beta: Tensor, *parts: Tensor
    ) -> Tensor:
        batch, _, *size = parts[0].shape
        widths = [part.shape[1] for part in parts]
        lists = block.structure()
        y, z = planar(batch, len(weight), *size), planar(batch, len(weight), *size)
        taps = weight.detach().numpy()[:, :, 0]
        read, written = lists.forward.read, lists.forward.written
        norm = block.block.norm
        affines, statistics = [], []
        for sample in range(batch):
            inputs = np.concatenate([addresses(part[sample]) for part in parts])[read]
            outputs = addresses(y[sample])
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
            _each_map(block, normalising.activate, y[sample], affines[-1], addresses(z[sample]))
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
        backward = lists.backward(np.repeat(ctx.needs_input_grad[4:], ctx.widths))
        read, written = backward.read, backward.written
        taps = weight.detach().numpy()[:, :, 0]
        turned = np.ascontiguousarray(taps.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])
        grads = [
            planar(*part.shape) if needed else None
            for part, needed in zip(parts, ctx.needs_input_grad[4:], strict=True)
        ]
        norm_grads = np.zeros((outputs, 2))
        kernel_grads = torch.zeros(len(lists.kernels.places), 9)
        dy = planar(outputs, *size)
        for sample in range(batch):
            sums = np.zeros((outputs, 2))
            _each_map(
                block, normalising.norm_gradients, y[sample], ctx.affines[sample],
                ctx.statistics[sample], addresses(grad[sample]), addresses(dy), sums,
            )  # fmt: skip
            norm_grads += sums
            upstream = addresses(dy)
            if ctx.needs_input_grad[1]:
                inputs = np.concatenate([addresses(part[sample]) for part in parts])
                kernel_grads += block.kernel_gradients(
                    lists, inputs[lists.forward.read], upstream, size
                )
            if len(written):
                targets = np.concatenate(
                    [
                        np.zeros(width, np.int64) if g is None else addresses(g[sample])
                        for g, width in zip(grads, ctx.widths, strict=True)
                    ]
                )
                block.convolve(
                    backward, turned, upstream[read], np.zeros(len(read), np.int64),
                    targets[written], -block._delays[written], tuple(size),
                )  # fmt: skip
        _clear_unwritten(grads, ctx.widths, written, block._delays)
        grad_weight = torch.zeros(weight.shape[0] * weight.shape[1] + 1, 9)
        grad_weight[torch.from_numpy(lists.kernels.places)] = kernel_grads
        return (
            None,
            grad_weight[:-1].view(weight.shape),
            torch.from_numpy(norm_grads[:, 0]).float(),
            torch.from_numpy(norm_grads[:, 1]).float(),
            *grads,
        )


def _each_map(block: SparseBlock, kernel: Any, y: Tensor, *arguments: Any) -> None:
    places, voxels = addresses(y), y[0].numel()
    block.workers.share(
        len(y),
        lambda maps, *_: kernel(maps, voxels, places, *arguments),
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
