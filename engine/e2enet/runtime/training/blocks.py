"""`Block` by sparse kernels, with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
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
from e2enet.runtime.kernels.layers import ConvLists
from e2enet.runtime.kernels.memory import identity
from e2enet.runtime.kernels.records import Source, Target
from e2enet.runtime.kernels.tiles import PLANES
from e2enet.runtime.kernels.vectors import LANES
from e2enet.runtime.kernels.winograd import TILE, plane_matrix, transform_kernels
from e2enet.runtime.kernels.workers import LEAST_BLOCKS, LEAST_COLUMNS, LEAST_VOXELS, Workers
from e2enet.runtime.training.norms import Norm
from e2enet.runtime.training.structure import Structure
from e2enet.runtime.training.tensors import addresses, lent, planar, readable

_QUICK = 8  # maps that a block makes of each that it reads, where it is rather run again
_MATRIX = plane_matrix()
_BACK = torch.from_numpy(plane_matrix().T.copy())  # from transformed kernels back to kernels


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
        self._structure: Structure | None = None
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
        block = self.block
        weight, gamma, beta = block.conv.weight, block.norm.weight, block.norm.bias
        z = cast(Tensor, _Convolution.apply(self, weight, gamma, beta, *parts))
        if _quick(self, parts):
            lists, kernels = self.structure(), weight.detach()
            z.remake = lambda: _made(self, lists, kernels, gamma, beta, parts)[0]  # type: ignore[attr-defined]
        return z

    def structure(self) -> Structure:
        """The lists of the mask as it is now."""
        mask = self._connections.masks.get(self._name)
        if mask is None:
            mask = torch.ones(self.block.conv.weight.shape[:2], dtype=torch.bool)
        if self._structure is None or not torch.equal(self._structure.mask, mask):
            self._structure = Structure(mask)
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
        self, lists: Structure, inputs: np.ndarray, upstream: np.ndarray, size: tuple[int, ...]
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
        lists = block.structure()
        z, norms = _made(block, lists, weight, gamma, beta, parts)
        kept = None if _quick(block, parts) else z
        ctx.save_for_backward(weight, kept, *(part for part in parts if not _remade(part)))
        ctx.remakes = [getattr(part, "remake", None) for part in parts]
        ctx.widths = [part.shape[1] for part in parts]
        ctx.block, ctx.lists, ctx.norms = block, lists, norms
        return z

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        weight, z, *saved = ctx.saved_tensors
        block, lists, remakes = ctx.block, ctx.lists, ctx.remakes
        if remakes is None:
            raise RuntimeError("The maps of a sparse block serve one backward pass.")
        ctx.remakes = None  # what they hold is not needed any longer
        stored = iter(saved)
        parts = [remake() if remake else next(stored) for remake in remakes]
        _, outputs, *size = grad.shape
        grad = grad.contiguous()
        backward = lists.backward(np.repeat(ctx.needs_input_grad[4:], ctx.widths))
        read, written = backward.read, backward.written
        taps = weight.detach().numpy()[:, :, 0]
        flipped = np.ascontiguousarray(taps.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])
        grads = _places(grad, parts, remakes, ctx.needs_input_grad[4:])
        norm_grads = np.zeros((outputs, 2))
        kernel_grads = torch.zeros(len(lists.kernels.places), 9)
        for sample, norm in enumerate(ctx.norms):
            undo = None if z is None else norm.from_activated()
            if undo is None:  # a map that the norm made constant tells nothing
                again = planar(1, outputs, *size)
                _convolved(block, lists, weight, [p[sample : sample + 1] for p in parts], again, 0)
                kept, undo = again[0], norm.from_convolved()
            else:
                kept = z[sample]
            sums = np.zeros((outputs, 2))
            # All that read the map had their turn: the gradient before the norm takes its place.
            upstream = addresses(kept)
            _each_map(
                block, normalising.norm_gradients, kept, undo, addresses(grad[sample]), upstream,
                sums,
            )  # fmt: skip
            norm_grads += sums
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


def _quick(block: SparseBlock, parts: Sequence[Tensor]) -> bool:
    """Whether it is quicker to make a block's maps again than their memory is worth.

    Those of the first one, the largest of all and of an image alone.
    """
    read = sum(part.shape[1] for part in parts)
    learns = any(part.requires_grad for part in parts)
    return not learns and _QUICK * read <= len(block.block.conv.weight)


def _made(
    block: SparseBlock,
    lists: Structure,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    parts: Sequence[Tensor],
) -> tuple[Tensor, list[Norm]]:
    """The maps of a block, and the norm of each sample."""
    batch, _, *size = parts[0].shape
    z = planar(batch, len(weight), *size)
    norms = []
    for sample in range(batch):
        moments = _convolved(block, lists, weight, parts, z, sample)
        norms.append(Norm.of(block.block.norm, gamma, beta, moments))
        places = addresses(z[sample])
        _each_map(block, normalising.activate, z[sample], norms[-1].affine, places)
    return z, norms


def _places(
    grad: Tensor, parts: Sequence[Tensor], remakes: Sequence[Any], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Where the gradients of what a block read are written.

    Over what was made for this pass alone, and is read before, and over the gradient that came.
    """
    free = [grad] if lent(grad) else []
    places: list[Tensor | None] = []
    for part, remake, need in zip(parts, remakes, needed, strict=True):
        if need and remake is None and free and part.shape == grad.shape:
            places.append(free.pop())
        else:
            places.append((part if remake else planar(*part.shape)) if need else None)
    return places


def _remade(part: Tensor) -> bool:
    """Whether a map is made anew for the backward pass instead of being kept."""
    return getattr(part, "remake", None) is not None


def _convolved(
    block: SparseBlock,
    lists: Structure,
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
