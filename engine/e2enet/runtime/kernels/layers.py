"""What the kernels read: lists of live input maps and their factors, without dead work."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from e2enet.runtime.kernels.accumulation import BLOCK
from e2enet.runtime.kernels.records import Lists
from e2enet.runtime.kernels.vectors import LANES

# How much faster `shared` multiplies than `single` (56 against 34 GMAC/s on a core of an EPYC with
# AVX-512): it loads an input once for BLOCK output maps.
_SHARED_GAIN = 1.6


@dataclass(frozen=True)
class ConvLayer:
    """A (1, 3, 3) convolution over live connections.

    Attributes:
        read: Input maps that are read, as numbers in the concatenation, ascending.
        written: Output maps that are computed, in the order of their lists.
        grouped: Whether BLOCK output maps share a list.
        live: As `convolution.convolve` takes them.
        kernels: (9, factors of a plane, padded to whole vectors), see `winograd`.
        shifts: Depth-shift of each map in `read`, in slices.
        stride: (D, H, W).
        norm: (written, 2) scale and shift of the instance norm.
        eps, slope: Of the norm and of the leaky ReLU.
    """

    read: np.ndarray
    written: np.ndarray
    grouped: bool
    live: Lists
    kernels: np.ndarray
    shifts: np.ndarray
    stride: tuple[int, int, int]
    norm: np.ndarray
    eps: float
    slope: float


@dataclass(frozen=True)
class PointLayer:
    """A transposed convolution whose kernel is its stride, or a 1 x 1 x 1 convolution.

    Attributes:
        read, written: Input maps that are read and output maps that are computed, ascending.
        live, factors: As `pointwise.expand` takes them.
        box: Stride (D, H, W).
    """

    read: np.ndarray
    written: np.ndarray
    live: Lists
    factors: np.ndarray
    box: tuple[int, int, int]


@dataclass(frozen=True)
class ConvLists:
    """Which live kernels a convolution goes through, and in which order.

    Attributes:
        read, written, grouped, live: Of `ConvLayer`.
        places: The kernel of each factor of a plane, as a number in (output, input) and
            outputs * inputs where there is none, padded to whole vectors.
    """

    read: np.ndarray
    written: np.ndarray
    grouped: bool
    live: Lists
    places: np.ndarray

    def kernels(self, weight: np.ndarray, *, paired: bool = False) -> np.ndarray:
        """(9, factors of a plane) from a weight (output, input, 3, 3).

        For the kernels of pairs of inputs those of the second lie beside those of the first.
        """
        places = self.places
        if paired and self.grouped:
            places = places.reshape(-1, 2, BLOCK).swapaxes(1, 2).reshape(-1)
        taps = np.concatenate([weight.reshape(-1, 9), np.zeros((1, 9), np.float32)])
        return np.ascontiguousarray(taps[places].T)


def conv_lists(live: np.ndarray, needed: np.ndarray) -> ConvLists:
    """The lists of a convolution.

    Args:
        live: (output, input) whether a connection is alive.
        needed: (output,) whether somebody reads an output map.
    """
    outputs, maps = live.shape
    nothing = outputs * maps
    numbers = np.where(live, np.arange(nothing).reshape(live.shape), nothing)
    written = np.flatnonzero(needed)
    read = np.flatnonzero(live[written].any(axis=0))
    # Lists are padded to even numbers of inputs, because kernels take them by twos.
    live, numbers = live[written][:, read], numbers[written][:, read]
    blocks = [live[first : first + BLOCK].any(axis=0) for first in range(0, len(live), BLOCK)]
    together = BLOCK * sum(int(block.sum()) for block in blocks)
    grouped = together <= _SHARED_GAIN * int(live.sum())
    lists: list[np.ndarray] = []
    parts: list[np.ndarray] = []
    if grouped:
        for number, block in enumerate(blocks):
            inputs = np.flatnonzero(block)
            odd = len(inputs) % 2
            lists.append(np.pad(inputs, (0, odd)))
            rows = numbers[BLOCK * number : BLOCK * (number + 1), inputs]
            rows = np.pad(rows, ((0, BLOCK - len(rows)), (0, odd)), constant_values=nothing)
            parts.append(rows.T.reshape(-1))  # input by input
    else:
        # Lists of one length follow each other: loops that end where they ended are predicted.
        order = np.argsort(live.sum(axis=1), kind="stable")
        written = written[order]
        for row, kernels in zip(live[order], numbers[order], strict=True):
            inputs = np.flatnonzero(row)
            odd = len(inputs) % 2
            lists.append(np.pad(inputs, (0, odd)))
            parts.append(np.pad(kernels[inputs], (0, odd), constant_values=nothing))
    places = np.concatenate([*parts, np.zeros(0, np.int64)])
    places = np.pad(places, (0, -len(places) % LANES), constant_values=nothing)
    return ConvLists(read, written, grouped, _joined(lists), places)


def point_layer(
    weight: np.ndarray, box: tuple[int, int, int], needed: np.ndarray, *, paired: bool = False
) -> PointLayer:
    """Lists and factors of a transposed convolution or, with a box of one voxel, of a head.

    Args:
        weight: (input, output, *box), zero where a connection is dead.
        box: Stride (D, H, W).
        needed: Output maps that somebody reads.
        paired: Factors are pairs of bfloat16, of two inputs each.
    """
    written = np.flatnonzero(needed)
    rows = weight[:, written].reshape(len(weight), len(written), math.prod(box))
    read = np.flatnonzero(rows.any(axis=(1, 2)))
    rows = rows[read]
    if rows.shape[2] == 1:
        rows = rows.transpose(0, 2, 1)  # BLOCK neighbouring output maps share a list
    wide = -(-rows.shape[2] // BLOCK) * BLOCK
    rows = np.pad(rows, ((0, 0), (0, 0), (0, wide - rows.shape[2])))
    blocks = rows.reshape(len(read), rows.shape[1] * wide // BLOCK, BLOCK)
    lists = [np.flatnonzero(np.any(blocks[:, n], axis=1)) for n in range(blocks.shape[1])]
    factors = [blocks[inputs, n] for n, inputs in enumerate(lists)]
    if paired:
        lists = [np.pad(inputs, (0, len(inputs) % 2)) for inputs in lists]
        factors = [np.pad(part, ((0, len(part) % 2), (0, 0))) for part in factors]
    joined = np.concatenate([*factors, np.zeros((0, BLOCK), np.float32)]).astype(np.float32)
    if paired:
        joined = _as_pairs(joined[::2], joined[1::2])
    return PointLayer(read, written, _joined(lists), joined.reshape(-1), box)


def _as_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Float32 with the bits of two numbers rounded to bfloat16 each."""
    low, high = (
        part.view(np.uint32) + 0x7FFF + ((part.view(np.uint32) >> 16) & 1)
        for part in (np.ascontiguousarray(first), np.ascontiguousarray(second))
    )
    return ((low >> 16) | (high & 0xFFFF0000)).astype(np.uint32).view(np.float32)


def _joined(lists: list[np.ndarray]) -> Lists:
    maps = np.concatenate([*lists, np.zeros(0, np.int64)]).astype(np.int64)
    return Lists(maps, np.cumsum([0] + [len(part) for part in lists]).astype(np.int64))
