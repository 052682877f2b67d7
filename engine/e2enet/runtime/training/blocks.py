"""`Block` by sparse kernels, with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
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
from e2enet.runtime.kernels.memory import identity
from e2enet.runtime.kernels.records import Lists, Source, Target
from e2enet.runtime.kernels.tiles import PLANES
from e2enet.runtime.kernels.vectors import LANES
from e2enet.runtime.kernels.winograd import TILE, plane_matrix, transform_kernels
from e2enet.runtime.kernels.workers import LEAST_BLOCKS, LEAST_COLUMNS, LEAST_VOXELS, Workers
from e2enet.runtime.training.tensors import addresses, planar, readable

_MATRIX = plane_matrix()
_BACK = torch.from_numpy(plane_matrix().T.copy())  # from transformed kernels back to kernels


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
        lists = Lists(np.concatenate(inputs).astype(np.int64), np.array(begins, np.int64))
        return _KernelLists(lists, joined)


@dataclass(frozen=True)
class _KernelLists:
    """For `gradients.kernel_gradients`, over the maps of `forward.read`.

    Attributes:
        live: Of each output map.
        places: (live padded,) kernel of each of its sums, as in `ConvLists`.
    """

    live: Lists
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
        self.shifts = np.zeros(maps, np.int64)
        for start, stop, shift in chunk_shifts(maps, block.shift_groups):
            self.shifts[start:stop] = shift

    def __call__(self, maps: list[Tensor]) -> Tensor:
        """Empty the list of maps (B, C_j, D, H, W), as `Block.forward`.

        A map with an attribute `remake` is not kept for the backward pass but made anew by it.
        """
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
        shifts: np.ndarray,
        target: Target,
        size: tuple[int, ...],
    ) -> np.ndarray:
        """Run the kernel over a sample; returns sum and sum of squares of what was written.

        Args:
            lists, weight: (output, input, 3, 3) and the lists of its live kernels.
            inputs, shifts: Address and depth-shift of every map of `lists.read`.
            target: The maps of `lists.written`.
            size: (D, H, W).
        """
        depth, height, width = size
        kernels = lists.kernels(weight)
        factors = np.empty((PLANES, kernels.shape[1]), np.float32)
        share = self.workers.share
        share(
            kernels.shape[1] // LANES,
            lambda columns, *_: transform_kernels(columns, _MATRIX, kernels, factors),
            least=LEAST_COLUMNS,
        )
        source = Source(inputs, identity(len(inputs)))
        sums = np.zeros((self.workers.portions, len(target.addresses), 2))
        scratch = self._scratch(convolution.scratch, len(inputs), len(target.addresses))
        tiles = depth * -(-height // TILE) * -(-width // TILE)
        share(
            -(-tiles // WIDE),
            lambda blocks, thread, number: convolution.convolve(
                blocks, (0, depth, depth, height, width), (1, 1, 1), source, shifts, lists.live,
                lists.grouped, factors, target, sums[number], scratch[thread],
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
        source, shifts = Source(inputs, identity(len(inputs))), self.shifts[lists.forward.read]
        borders = [blocks * n // threads for n in range(threads + 1)]
        self.workers.share(
            threads,
            lambda portions, thread, _: [
                gradients.kernel_gradients(
                    (borders[n], borders[n + 1]), (depth, height, width), source, shifts, upstream,
                    kernels.live, sums[n], scratch[thread],
                )
                for n in range(*portions)
            ],
        )  # fmt: skip
        return (_BACK @ torch.from_numpy(sums.sum(0).reshape(36, live))).T


class _Convolution(torch.autograd.Function):
    """Depth-shift, convolution, instance norm and leaky ReLU of a list of maps."""

    @staticmethod
    def forward(
        ctx: Any, block: SparseBlock, weight: Tensor, gamma: Tensor, beta: Tensor, *parts: Tensor
    ) -> Tensor:
        batch, _, *size = parts[0].shape
        lists = block.structure()
        z = planar(batch, len(weight), *size)
        norms = [
            _Norm.of(block, gamma, beta, _convolved(block, lists, weight, parts, z, sample))
            for sample in range(batch)
        ]
        for norm, sample in zip(norms, z, strict=True):
            places = addresses(sample)
            _each_map(block, normalising.activate, sample, norm.affine, places)
        ctx.save_for_backward(weight, z, *(part for part in parts if not _remade(part)))
        ctx.remakes = [getattr(part, "remake", None) for part in parts]
        ctx.widths = [part.shape[1] for part in parts]
        ctx.block, ctx.lists, ctx.norms = block, lists, norms
        return z

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        weight, z, *saved = ctx.saved_tensors
        block, lists = ctx.block, ctx.lists
        stored = iter(saved)
        parts = [remake() if remake else next(stored) for remake in ctx.remakes]
        ctx.remakes = ()  # what they hold is not needed any longer
        _, outputs, *size = z.shape
        grad = grad.contiguous()
        backward = lists.backward(np.repeat(ctx.needs_input_grad[4:], ctx.widths))
        read, written = backward.read, backward.written
        taps = weight.detach().numpy()[:, :, 0]
        flipped = np.ascontiguousarray(taps.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])
        grads = [
            planar(*part.shape) if needed else None
            for part, needed in zip(parts, ctx.needs_input_grad[4:], strict=True)
        ]
        norm_grads = np.zeros((outputs, 2))
        kernel_grads = torch.zeros(len(lists.kernels.places), 9)
        dy = planar(outputs, *size)
        for sample, norm in enumerate(ctx.norms):
            kept, undo = z[sample], norm.from_activated()
            if undo is None:  # a map that the norm made constant tells nothing
                again = planar(1, outputs, *size)
                _convolved(block, lists, weight, [p[sample : sample + 1] for p in parts], again, 0)
                kept, undo = again[0], norm.from_convolved()
            sums = np.zeros((outputs, 2))
            _each_map(
                block, normalising.norm_gradients, kept, undo, addresses(grad[sample]),
                addresses(dy), sums,
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
                    backward, flipped, upstream[read], np.zeros(len(read), np.int64),
                    Target(targets[written], -block.shifts[written], size[0]), tuple(size),
                )  # fmt: skip
        _clear_unwritten(grads, ctx.widths, written, block.shifts)
        grad_weight = torch.zeros(weight.shape[0] * weight.shape[1] + 1, 9)
        grad_weight[torch.from_numpy(lists.kernels.places)] = kernel_grads
        return (
            None,
            grad_weight[:-1].view(weight.shape),
            torch.from_numpy(norm_grads[:, 0]).float(),
            torch.from_numpy(norm_grads[:, 1]).float(),
            *grads,
        )


def _remade(part: Tensor) -> bool:
    """Whether a map is made anew for the backward pass instead of being kept."""
    return getattr(part, "remake", None) is not None


def _convolved(
    block: SparseBlock,
    lists: _Structure,
    weight: Tensor,
    parts: Sequence[Tensor],
    y: Tensor,
    sample: int,
) -> np.ndarray:
    """Write a sample of y; returns (output, 2) mean and mean square, 0 and 0 of a dead map."""
    read, written = lists.forward.read, lists.forward.written
    size = tuple(y.shape[2:])
    inputs = np.concatenate([addresses(part[sample]) for part in parts])[read]
    sums = block.convolve(
        lists.forward, weight.detach().numpy()[:, :, 0], inputs, block.shifts[read],
        Target(addresses(y[sample])[written], np.zeros(len(written), np.int64), size[0]), size,
    )  # fmt: skip
    moments = np.zeros((len(weight), 2))
    moments[written] = sums / np.prod(size)
    return moments


_LEAST_GAIN = 1e-3  # of a norm that can be undone, beside its offset


@dataclass(frozen=True)
class _Norm:
    """The instance norm of a sample with the activation behind it.

    Attributes:
        gamma, beta, mean, inverse: (maps,) weight, bias, mean and 1 / standard deviation.
        slope: Of the leaky ReLU.
    """

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    inverse: np.ndarray
    slope: float

    @classmethod
    def of(cls, block: SparseBlock, gamma: Tensor, beta: Tensor, moments: np.ndarray) -> _Norm:
        norm = block.block.norm
        mean, square = moments.T
        inverse = 1 / np.sqrt(np.maximum(square - mean * mean, 0) + norm.eps)
        return cls(gamma.detach().numpy(), beta.detach().numpy(), mean, inverse, norm.slope)

    @property
    def affine(self) -> np.ndarray:
        """(maps, 3) scale, shift and slope."""
        scale = self.gamma * self.inverse
        return _columns(scale, self.beta - self.mean * scale, self.slope)

    @property
    def _gains(self) -> np.ndarray:
        return _columns(self.gamma * self.inverse, self.slope)

    def from_activated(self) -> normalising.Undo | None:
        """What `norm_gradients` takes for maps behind the activation, if they tell enough."""
        if (np.abs(self.gamma) < _LEAST_GAIN * (1 + np.abs(self.beta))).any():
            return None
        normal = _columns(1 / self.slope, 1 / self.gamma, -self.beta / self.gamma)
        return normalising.Undo(_columns(np.ones(len(self.gamma)), 0), normal, self._gains)

    def from_convolved(self) -> normalising.Undo:
        """What `norm_gradients` takes for maps before the norm."""
        normal = _columns(1, self.inverse, -self.mean * self.inverse)
        return normalising.Undo(np.ascontiguousarray(self.affine[:, :2]), normal, self._gains)


def _columns(*values: Any) -> np.ndarray:
    """(maps, len(values)) float32 of columns or of numbers."""
    return np.stack(np.broadcast_arrays(*values), axis=1).astype(np.float32)


def _each_map(block: SparseBlock, kernel: Any, y: Tensor, *arguments: Any) -> None:
    places, voxels = addresses(y), y[0].numel()
    block.workers.share(
        len(y),
        lambda maps, *_: kernel(maps, voxels, places, *arguments),
        least=max(1, LEAST_VOXELS // voxels),
    )


def _clear_unwritten(
    grads: list[Tensor | None], widths: list[int], written: np.ndarray, shifts: np.ndarray
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
        for shift in set(shifts[own].tolist()) - {0}:
            channels = np.flatnonzero(shifts[own] == shift)  # of a shift group, so neighbours
            group = grad[:, channels[0] : channels[-1] + 1]
            edge = slice(-shift, None) if shift > 0 else slice(0, -shift)
            group[:, :, edge] = 0
