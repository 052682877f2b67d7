"""How deep the network goes for a patch.

The pooling rules are nnU-Net's (Isensee et al., Nature Methods 2021, supplementary note 2; the
method `get_pool_and_conv_props` of nnU-Net v2): an axis is halved as long as eight voxels are
left, and together with the finest axis only once its spacing is less than twice as coarse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from e2enet.data.axes import Triple, three

MOST_LEVELS = 6  # E2ENet's (METHOD: L = 6)
HALVINGS = 5  # of a classification network in the plane
_SMALLEST_MAP = 4


def strides_for(
    patch: Sequence[int],
    spacing: Sequence[float],
    *,
    levels: int | None = None,
) -> tuple[Triple, ...]:
    """Strides between the levels of a network for a patch of (D, H, W) voxels.

    Args:
        patch: (D, H, W) voxels.
        spacing: (D, H, W) in mm.
        levels: exactly so many, as far as the patch can be halved at all; else as many as make
            sense, at most 6.

    Returns:
        One (sd, sh, sw) of ones and twos for each step between levels: levels - 1 of them.
    """
    size, now = list(patch), list(spacing)
    strides: list[Triple] = []
    wanted = (levels or MOST_LEVELS) - 1
    while len(strides) < wanted:
        axes = _poolable(size, now, _SMALLEST_MAP)
        if not axes and levels is not None:
            axes = _poolable(size, now, 1)
        if not axes:
            break
        step = three(2 if axis in axes else 1 for axis in range(3))
        size = [math.ceil(n / s) for n, s in zip(size, step, strict=True)]
        now = [v * s for v, s in zip(now, step, strict=True)]
        strides.append(step)
    return tuple(strides)


def encoder_strides(
    patch: Sequence[int], spacing: Sequence[float], *, depth: bool
) -> tuple[Triple, ...]:
    """Strides of a classification network as encoder: the plane is halved five times.

    Args:
        patch: (D, H, W) voxels.
        spacing: (D, H, W) in mm.
        depth: Halve the depth too, by the rule of `strides_for`; else it stays.
    """
    size, now = list(patch), list(spacing)
    strides: list[Triple] = []
    for _ in range(HALVINGS):
        deep = depth and size[0] >= 2 * _SMALLEST_MAP and now[0] < 2 * min(now[1:])
        step = three((2 if deep else 1, 2, 2))
        size = [math.ceil(n / s) for n, s in zip(size, step, strict=True)]
        now = [v * s for v, s in zip(now, step, strict=True)]
        strides.append(step)
    return tuple(strides)


def _poolable(size: list[int], spacing: list[float], smallest: int) -> list[int]:
    axes = [axis for axis in range(3) if size[axis] >= 2 * smallest]
    if not axes:
        return []
    finest = min(spacing[axis] for axis in axes)
    axes = [axis for axis in axes if spacing[axis] / finest < 2]
    if len(axes) == 1 and size[axes[0]] < 3 * smallest:
        return []
    return axes


def divisor_of(strides: Sequence[Sequence[int]]) -> Triple:
    """What the patch must be divisible by: the product of the strides, for D, H and W."""
    return three(math.prod(step[axis] for step in strides) for axis in range(3))


def padded(patch: Sequence[int], divisor: Sequence[int]) -> Triple:
    """The smallest patch (D, H, W) that is no smaller on any axis and divides."""
    return three(math.ceil(n / d) * d for n, d in zip(patch, divisor, strict=True))
