"""What the kernels read: lists of live input maps and their factors, without dead work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from e2enet.runtime.products import BLOCK
from e2enet.runtime.vectors import LANES

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
        inputs, begins: As `convolution.convolve` takes them.
        kernels: (9, factors of a plane, padded to whole vectors), see `winograd`.
        delays: Depth-shift of each map in `read`, in slices.
        stride: (D, H, W).
        norm: (written, 2) scale and shift of the instance norm.
        eps, slope: Of the norm and of the leaky ReLU.
    """

    read: np.ndarray
    written: np.ndarray
    grouped: bool
    inputs: np.ndarray
    begins: np.ndarray
    kernels: np.ndarray
    delays: np.ndarray
    stride: tuple[int, int, int]
    norm: np.ndarray
    eps: float
    slope: float


@dataclass(frozen=True)
class PointLayer:
    """A transposed convolution whose kernel is its stride, or a 1 x 1 x 1 convolution.

    Attributes:
        read, written: Input maps that are read and output maps that are computed, ascending.
        inputs, begins, factors: As `pointwise.expand` takes them.
        box: Stride (D, H, W).
    """

    read: np.ndarray
    written: np.ndarray
    inputs: np.ndarray
    begins: np.ndarray
    factors: np.ndarray
    box: tuple[int, int, int]


def conv_lists(
    weight: np.ndarray, needed: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool, np.ndarray, np.ndarray, np.ndarray]:
    """Lists and kernels of a convolution.

    Args:
        weight: (output, input, 3, 3), zero where a connection is dead.
        needed: Output maps that somebody reads.

    Returns:
        read, written, grouped, inputs, begins, kernels of a `ConvLayer`.
    """
    written = np.flatnonzero(needed)
    live = np.any(weight[written], axis=(2, 3))
    read = np.flatnonzero(live.any(axis=0))
    weight, live = weight[written][:, read], live[:, read]
    blocks = [live[first : first + BLOCK].any(axis=0) for first in range(0, len(live), BLOCK)]
    together = BLOCK * sum(int(block.sum()) for block in blocks)
    grouped = together <= _SHARED_GAIN * int(live.sum())
    if grouped:
        lists = [np.flatnonzero(block) for block in blocks]
        parts = []
        for number, inputs in enumerate(lists):
            kernels = weight[BLOCK * number : BLOCK * (number + 1), inputs]
            padded = np.zeros((BLOCK, len(inputs), 9), np.float32)
            padded[: len(kernels)] = kernels.reshape(len(kernels), -1, 9)
            parts.append(padded.transpose(2, 1, 0).reshape(9, -1))  # input by input
    else:
        # Lists of one length follow each other: loops that end where they ended are predicted.
        order = np.argsort(live.sum(axis=1), kind="stable")
        written, weight, live = written[order], weight[order], live[order]
        lists, parts = [], []
        for row, kernels in zip(live, weight, strict=True):
            inputs = np.flatnonzero(row)
            taps = kernels[inputs].reshape(-1, 9).T
            if len(inputs) % 2:  # `single` takes them by twos
                inputs = np.append(inputs, 0)
                taps = np.append(taps, np.zeros((9, 1), np.float32), axis=1)
            lists.append(inputs)
            parts.append(taps)
    inputs, begins = _joined(lists)
    kernels = np.concatenate([*parts, np.zeros((9, 0), np.float32)], axis=1)
    kernels = np.pad(kernels, ((0, 0), (0, -kernels.shape[1] % LANES)))
    return read, written, grouped, inputs, begins, kernels


def point_layer(weight: np.ndarray, box: tuple[int, int, int], needed: np.ndarray) -> PointLayer:
    """Lists and factors of a transposed convolution or, with a box of one voxel, of a head.

    Args:
        weight: (input, output, *box), zero where a connection is dead.
        box: Stride (D, H, W).
        needed: Output maps that somebody reads.
    """
    written = np.flatnonzero(needed)
    rows = weight[:, written].reshape(len(weight), len(written), -1)
    read = np.flatnonzero(rows.any(axis=(1, 2)))
    rows = rows[read]
    if rows.shape[2] == 1:
        rows = rows.transpose(0, 2, 1)  # BLOCK neighbouring output maps share a list
    wide = -(-rows.shape[2] // BLOCK) * BLOCK
    rows = np.pad(rows, ((0, 0), (0, 0), (0, wide - rows.shape[2])))
    blocks = rows.reshape(len(read), -1, BLOCK)
    lists = [np.flatnonzero(blocks[:, n].any(axis=1)) for n in range(blocks.shape[1])]
    factors = [blocks[inputs, n] for n, inputs in enumerate(lists)]
    inputs, begins = _joined(lists)
    return PointLayer(read, written, inputs, begins, np.concatenate(factors).reshape(-1), box)


def _joined(lists: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    inputs = np.concatenate([*lists, np.zeros(0, np.int64)]).astype(np.int64)
    return inputs, np.cumsum([0] + [len(part) for part in lists]).astype(np.int64)
