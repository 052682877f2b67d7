"""Resampling arrays to another number of voxels over the same extent.

Input and output cover the same box: output voxel i lies at input position
(i + 0.5) · n_in / n_out - 0.5, borders are repeated (`align_corners=False` of PyTorch). Images
are interpolated with cubic convolution (Keys, IEEE TASSP 1981, a = -1/2), one axis after the
other; label maps by linear interpolation of every label's indicator and the largest of them. An
axis more than three times as coarse as the others is resampled to the nearest slice, as nnU-Net
does, because nothing sensible can be interpolated between distant slices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from e2enet.data.axes import three

_ANISOTROPIC = 3.0
# Voxels worked on at once.
_PART = 1 << 22
# Fractions t of a step past the left voxel -> [(offset, weights)].
Kernel = Callable[[np.ndarray], list[tuple[int, np.ndarray]]]


def new_shape(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]
) -> tuple[int, int, int]:
    """Voxels (D, H, W) at the target spacing of a box of `shape` voxels at `spacing` (mm)."""
    return three(
        max(1, round(n * have / want)) for n, have, want in zip(shape, spacing, target, strict=True)
    )


def coarse_axis(spacing: Sequence[float], target: Sequence[float]) -> int | None:
    """The axis to be resampled to the nearest slice, or None.

    It is the single axis with the largest spacing where the largest is more than three times
    the smallest, judged from the image's own spacing first, then from the target's.
    """
    for one in (spacing, target):
        if max(one) > _ANISOTROPIC * min(one):
            axes = [axis for axis in range(3) if one[axis] == max(one)]
            return axes[0] if len(axes) == 1 else None
    return None


def resample_image(
    array: np.ndarray, shape: Sequence[int], *, nearest_axis: int | None = None
) -> np.ndarray:
    """Resample (..., D, H, W) float32 to `shape` with cubic convolution.

    Args:
        array: (..., D, H, W).
        shape: (D, H, W) wanted.
        nearest_axis: axis (0 … 2) on which the nearest slice is taken instead.

    Returns:
        (..., D', H', W') float32; the input itself where nothing changes.
    """
    return _each_axis(np.asarray(array, np.float32), shape, _cubic, nearest_axis)


def resample_label(
    label: np.ndarray, shape: Sequence[int], *, nearest_axis: int | None = None
) -> np.ndarray:
    """Resample a label map (D, H, W) to `shape`: the label with the largest linear share.

    Of equal shares the smaller label value wins.
    """
    if tuple(label.shape) == tuple(shape):
        return label
    if nearest_axis is not None:
        only = list(label.shape)
        only[nearest_axis] = shape[nearest_axis]
        label = _each_axis(label, only, _linear, nearest_axis)
    values = np.flatnonzero(np.bincount(label.ravel()))
    result = np.full(shape, values[0], label.dtype)
    if len(values) == 1:
        return result
    best = _each_axis((label == values[0]).astype(np.float32), shape, _linear, None)
    for value in values[1:]:
        share = _each_axis((label == value).astype(np.float32), shape, _linear, None)
        # Sums of weights are equal only up to rounding.
        wins = share > best + 1e-6
        result[wins] = value
        np.copyto(best, share, where=wins)
    return result


def _each_axis(
    array: np.ndarray, shape: Sequence[int], kernel: Kernel, nearest_axis: int | None
) -> np.ndarray:
    first = array.ndim - 3
    order = sorted(range(3), key=lambda axis: shape[axis] / array.shape[first + axis])
    for axis in order:  # Shrinking axes first: less work for the others.
        n_in, n_out = array.shape[first + axis], int(shape[axis])
        if n_in == n_out:
            continue
        at = (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5
        if axis == nearest_axis:
            index = np.clip(np.floor(at + 0.5 - 1e-9).astype(int), 0, n_in - 1)
            array = np.take(array, index, axis=first + axis)
            continue
        array = _interpolate(array, first + axis, at, kernel)
    return array


def _interpolate(array: np.ndarray, axis: int, at: np.ndarray, kernel: Kernel) -> np.ndarray:
    """Interpolate along one axis at positions `at`, in parts so that little is held at once."""
    shape = (*array.shape[:axis], len(at), *array.shape[axis + 1 :])
    # Always another of the three spatial axes, to walk along.
    walk = array.ndim - 2 if axis == array.ndim - 3 else array.ndim - 3
    rows = max(1, _PART * shape[walk] // max(1, math.prod(shape)))
    base = np.floor(at).astype(int)
    taps = []
    for offset, weight in kernel(at - base):
        index = np.clip(base + offset, 0, array.shape[axis] - 1)
        column = weight.astype(np.float32).reshape([-1] + [1] * (array.ndim - 1 - axis))
        taps.append((index, column))
    result = np.empty(shape, np.float32)
    for start in range(0, shape[walk], rows):
        part = (slice(None),) * walk + (slice(start, start + rows),)
        source, target = array[part], result[part]
        target[...] = 0
        for index, column in taps:
            target += np.take(source, index, axis=axis) * column
    return result


def _linear(t: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [(0, 1 - t), (1, t)]


def _cubic(t: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [
        (-1, ((-t + 2) * t - 1) * t / 2),
        (0, ((3 * t - 5) * t * t + 2) / 2),
        (1, ((-3 * t + 4) * t + 1) * t / 2),
        (2, (t - 1) * t * t / 2),
    ]
