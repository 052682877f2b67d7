"""The few operations of the sliding window, on arrays of a CPU and on tensors of a GPU alike.

A CPU needs no PyTorch for them; on a GPU the windows' logits stay there until labels are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")


def to_array(x: np.ndarray | Tensor) -> np.ndarray:
    """The values on the CPU."""
    return x if isinstance(x, np.ndarray) else x.cpu().numpy()


def beside(values: np.ndarray, other: Array) -> Array:
    """The values where another array lies."""
    if isinstance(other, np.ndarray):
        return values
    import torch

    return torch.from_numpy(values).to(other.device)


def flipped(x: Array, axes: Sequence[int]) -> Array:
    """Mirrored along these axes."""
    return np.flip(x, tuple(axes)) if isinstance(x, np.ndarray) else x.flip(tuple(axes))


def softmax(logits: Array) -> Array:
    """Class probabilities (n, K, H, W) of logits."""
    if not isinstance(logits, np.ndarray):
        return logits.softmax(1)
    likely = logits - logits.max(axis=1, keepdims=True)
    np.exp(likely, out=likely)
    likely /= likely.sum(axis=1, keepdims=True)
    return likely


def sigmoid(logits: Array) -> Array:
    """Probabilities (n, K, H, W) of regions, each by itself."""
    if not isinstance(logits, np.ndarray):
        return logits.sigmoid()
    return 0.5 * (1 + np.tanh(0.5 * logits))


def taken(x: Array, places: np.ndarray, axis: int) -> Array:
    """Entries along an axis."""
    if isinstance(x, np.ndarray):
        return np.take(x, places, axis)
    return x.index_select(axis, beside(places, x))


def copied(x: Array) -> Array:
    """Values of one's own."""
    return x.copy() if isinstance(x, np.ndarray) else x.clone()


def overlaid(values: Array, numbers: np.ndarray) -> np.ndarray:
    """(K, H, W) -> (H, W): the number of the last region whose probability is above a half.

    As nnU-Net's `convert_probabilities_to_segmentation`; 0 where there is none.
    """
    inside = to_array(values > 0.5)
    result = np.zeros(inside.shape[1:], numbers.dtype)
    for number, region in zip(numbers, inside, strict=True):
        result[region] = number
    return result


def likeliest(values: Array) -> np.ndarray:
    """(K, H, W) -> (H, W) the number of the largest, the first of equal ones."""
    if not isinstance(values, np.ndarray):
        return values.argmax(dim=0).cpu().numpy()  # type: ignore[no-any-return]
    # Class by class: numpy's argmax goes through memory voxel by voxel, ten times as slowly.
    best = values[0].copy()
    winner = np.zeros(best.shape, np.intp)
    for number in range(1, len(values)):
        larger = values[number] > best
        winner[larger] = number
        np.maximum(best, values[number], out=best)
    return winner
