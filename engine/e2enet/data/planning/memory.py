"""What training an E2ENet needs in memory, estimated from shapes.

On a GPU (mixed precision) the backward pass keeps, for every block, its input, the convolution's
and the normalisation's output, two bytes a value; that estimate follows from the operations and was
not measured. On a CPU (float32, the sparse kernels of the runtime) maps are neither shifted nor
concatenated: a block keeps one map, and what is made of it again in the backward pass lives beside
it for a while. `_CPU_FACTOR` and `_CPU_FIXED` were fitted to the peak resident size
of real steps (`engine/benchmarks/training_memory.py`, whose table is in the README there).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_CPU_FACTOR = 0.774  # not all of it lives at the same time
_CPU_FIXED = 612 * 2**20  # bytes: Python, its libraries and compiled kernels
_LARGEST_WIDTH = 320
_LOSS_COPIES = 3  # logits, probabilities and gradients


def training_bytes(
    patch: Sequence[int],
    strides: Sequence[Sequence[int]],
    *,
    in_channels: int,
    num_classes: int,
    base_channels: int,
    batch_size: int,
    max_channels: int = _LARGEST_WIDTH,
    mixed: bool = True,
) -> float:
    """Estimated memory of training an E2ENet, in bytes: maps, weights, gradients and momentum.

    Args:
        patch: (D, H, W) voxels.
        strides: (sd, sh, sw) between the levels.
        in_channels, num_classes, base_channels, max_channels: of the network.
        batch_size: patches in a batch.
        mixed: on a GPU in mixed precision; else on a CPU in float32, the process included.
    """
    levels = len(strides) + 1
    channels = [min(base_channels * 2**i, max_channels) for i in range(levels)]
    voxels: list[float] = []
    size: list[float] = list(patch)
    for step in [(1, 1, 1), *strides]:
        size = [n / s for n, s in zip(size, step, strict=True)]
        voxels.append(math.prod(size))

    weights = 0.0
    for i, width in enumerate(channels):
        before = channels[i - 1] if i else in_channels
        nodes = levels - 1 - i
        flows = 2 * width + (before if i else 0)
        weights += 9 * width * (before + width)  # the backbone
        weights += nodes * 9 * flows * width
        if nodes:  # two blocks on the last diagonal
            weights += nodes * width * channels[i + 1] * math.prod(strides[i]) + 9 * width**2
    count = _mixed_values if mixed else _single_values
    kept = count(channels, voxels, strides, in_channels, num_classes)
    if mixed:
        return 2 * kept * batch_size + 12 * weights
    return _CPU_FIXED + _CPU_FACTOR * (4 * kept * batch_size + 16 * weights)


def _mixed_values(
    channels: Sequence[int],
    voxels: Sequence[float],
    strides: Sequence[Sequence[int]],
    in_channels: int,
    num_classes: int,
) -> float:
    """Values that the backward pass of a sample keeps where flows are concatenated."""
    kept = voxels[0] * (in_channels + 3 * num_classes)
    for i, width in enumerate(channels):
        nodes = len(channels) - 1 - i
        flows = 2 * width + (channels[i - 1] if i else 0)
        kept += voxels[i] * (5 * width + nodes * (flows + 2 * width) + (2 * width if nodes else 0))
    return kept


def _single_values(
    channels: Sequence[int],
    voxels: Sequence[float],
    strides: Sequence[Sequence[int]],
    in_channels: int,
    num_classes: int,
) -> float:
    """Values of a sample that live at the height of a step where a block keeps one map."""
    heads = max(1, min(4, len(channels) - 2))
    kept = voxels[0] * (in_channels + 2 * channels[0])  # and a gradient and upward maps
    if in_channels * 8 <= channels[0]:
        kept -= voxels[0] * channels[0]  # the first block's maps are made again
    kept += sum(voxels[:heads]) * _LOSS_COPIES * num_classes
    for i, width in enumerate(channels):
        nodes = len(channels) - 1 - i
        kept += voxels[i] * (2 * width + nodes * 2 * width + (width if nodes else 0))
        if i:
            _, height, across = strides[i - 1]
            # A strided block joins and shifts its input, and keeps its own map twice.
            kept += voxels[i] * (channels[i - 1] * (height * across + nodes) + width)
    return kept
