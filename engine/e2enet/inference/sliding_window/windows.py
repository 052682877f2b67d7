"""Where the windows of a sliding window lie, and how much each of their voxels counts.

Windows overlap and are weighted by a Gaussian, because a network is surest in the middle of its
patch (Isensee et al., nnU-Net, Nature Methods 2021). They stand on a lattice, and the Gaussian is a
product of three profiles; so is the sum of all weights at a voxel, which therefore needs three
vectors and no volume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SIGMA = 1 / 8  # of the patch
_LEAST = 1e-3  # of the largest weight, per axis


def starts(size: int, patch: int, overlap: float = 0.5) -> list[int]:
    """First voxel of each window along one axis, evenly spread from border to border.

    Args:
        size: Voxels of the axis, at least `patch`.
        patch: Voxels of a window.
        overlap: Least share of a window that the next one covers again, 0 <= overlap < 1.
    """
    if size < patch:
        raise ValueError(f"an axis of {size} voxels has to be padded to {patch} first")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap}; it has to be at least 0 and below 1")
    step = max(1.0, patch * (1 - overlap))
    count = math.ceil((size - patch) / step) + 1
    return [round(k * (size - patch) / max(1, count - 1)) for k in range(count)]


def profile(patch: int) -> np.ndarray:
    """Gaussian weights of a window along one axis: (patch,) float32, 1 in the middle."""
    at = (np.arange(patch) - (patch - 1) / 2) / (patch * _SIGMA)
    weights = np.exp(-0.5 * at**2)
    return np.maximum(weights / weights.max(), _LEAST).astype(np.float32)


@dataclass(frozen=True)
class AxisWindows:
    """The windows along one axis.

    Attributes:
        size: Voxels of the image.
        patch: Voxels of a window.
        lead: Zeros before the image; there are some only where it is smaller than a window.
        starts: First voxel of each window, counted from the first zero.
        profile: (patch,) float32 weights in a window.
        total: (padded,) float32 sum of weights over all windows at each voxel.
    """

    size: int
    patch: int
    lead: int
    starts: tuple[int, ...]
    profile: np.ndarray
    total: np.ndarray

    @classmethod
    def over(cls, size: int, patch: int, overlap: float = 0.5) -> AxisWindows:
        """Windows of `patch` voxels over `size` voxels; neighbours share `overlap` of theirs."""
        padded = max(size, patch)
        first = starts(padded, patch, overlap)
        weights = profile(patch)
        total = np.zeros(padded, np.float64)
        for start in first:
            total[start : start + patch] += weights
        lead = (padded - size) // 2
        return cls(size, patch, lead, tuple(first), weights, total.astype(np.float32))

    @property
    def padded(self) -> int:
        """Voxels of the image with its zeros."""
        return int(self.total.shape[0])


def cut_window(image: np.ndarray, first: Sequence[int], patch: Sequence[int]) -> np.ndarray:
    """A window (C, *patch) of an image (C, D, H, W); zeros where it reaches over the border."""
    inside, target = [slice(None)], [slice(None)]
    for start, length, size in zip(first, patch, image.shape[1:], strict=True):
        low, high = max(start, 0), min(start + length, size)
        inside.append(slice(low, high))
        target.append(slice(low - start, high - start))
    piece = image[tuple(inside)]
    if piece.shape[1:] == tuple(patch):
        return piece
    window = np.zeros((image.shape[0], *patch), image.dtype)
    window[tuple(target)] = piece
    return window
