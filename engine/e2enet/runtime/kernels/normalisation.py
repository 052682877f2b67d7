"""Instance norm with leaky ReLU, and its gradient, over maps that lie one after the other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from e2enet.runtime.kernels.accumulation import ZERO
from e2enet.runtime.kernels.vectors import (
    fma,
    kernel,
    load_at,
    maximum,
    peek,
    poke,
    splat,
    store_at,
    total,
    where_positive,
)


class Undo(NamedTuple):
    """How what was before the norm is told from a map.

    Attributes:
        signs: (maps, 2) scale and shift to what the activation bends at zero.
        normal: (maps, 3) factor below zero, then scale and shift to zero mean and unit variance.
        gains: (maps, 2) scale of the norm, slope of the activation.
    """

    signs: np.ndarray
    normal: np.ndarray
    gains: np.ndarray


@kernel
def activate(
    maps,  # (first, last) of this thread
    voxels,
    addresses,  # of every map
    affine,  # (maps, 3) norm's scale and shift, slope of the activation
    outputs,  # address of every activated map
):
    """Norm and leaky ReLU."""
    for c in range(maps[0], maps[1]):
        scale, shift, slope = affine[c, 0], affine[c, 1], affine[c, 2]
        scales, shifts, slopes = splat(scale), splat(shift), splat(slope)
        whole = voxels // 16 * 16
        for k in range(0, whole, 16):
            v = fma(load_at(addresses[c] + 4 * k), scales, shifts)
            store_at(outputs[c] + 4 * k, maximum(v, v * slopes))
        for k in range(whole, voxels):
            v_one = peek(addresses[c] + 4 * k) * scale + shift
            poke(outputs[c] + 4 * k, max(v_one, v_one * slope))


@kernel
def norm_gradients(
    maps,  # (first, last) of this thread
    voxels,
    addresses,  # of every map, before the norm or behind the activation
    undo,  # Undo
    upstream,  # address of every gradient behind the activation
    outputs,  # address of every gradient before the norm
    sums,  # (maps, 2) gradients of the norm's weight and bias
):
    """Gradient of instance norm and leaky ReLU, and of the norm's weight and bias.

    A map behind the activation tells what was before it: the leaky ReLU and the norm can be undone
    (S. Rota Bulo et al., In-Place Activated BatchNorm, CVPR 2018), so that one map is kept, not
    two.
    """
    signs, normal, gains = undo
    for c in range(maps[0], maps[1]):
        sign, bend, slope = signs[c, 0], signs[c, 1], gains[c, 1]
        low, inverse, centre = normal[c, 0], normal[c, 1], normal[c, 2]
        weight_sum = 0.0
        bias_sum = 0.0
        for first in range(0, voxels, 4096):
            stop = min(first + 4096, voxels)
            whole = first + (stop - first) // 16 * 16
            added, product = splat(ZERO), splat(ZERO)
            for k in range(first, whole, 16):
                y = load_at(addresses[c] + 4 * k)
                v = fma(y, splat(sign), splat(bend))
                g = load_at(upstream[c] + 4 * k)
                g = where_positive(v, g, g * splat(slope))
                added = added + g
                y = where_positive(v, y, y * splat(low))
                product = fma(g, fma(y, splat(inverse), splat(centre)), product)
            bias_sum += total(added)
            weight_sum += total(product)
            for k in range(whole, stop):
                y_one = peek(addresses[c] + 4 * k)
                g_one = peek(upstream[c] + 4 * k)
                if y_one * sign + bend <= ZERO:
                    g_one = g_one * slope
                    y_one = y_one * low
                bias_sum += g_one
                weight_sum += g_one * (y_one * inverse + centre)
        sums[c, 0], sums[c, 1] = weight_sum, bias_sum
        # With n of zero mean and unit variance: dy = scale * (g - mean(g) - n * mean(g * n)).
        share = -weight_sum / voxels
        slant = np.float32(share * inverse)
        level = np.float32(share * centre - bias_sum / voxels)
        scale = gains[c, 0]
        whole = voxels // 16 * 16
        for k in range(0, whole, 16):
            y = load_at(addresses[c] + 4 * k)
            v = fma(y, splat(sign), splat(bend))
            g = load_at(upstream[c] + 4 * k)
            g = where_positive(v, g, g * splat(slope))
            y = where_positive(v, y, y * splat(low))
            store_at(outputs[c] + 4 * k, splat(scale) * (fma(y, splat(slant), g) + splat(level)))
        for k in range(whole, voxels):
            y_one = peek(addresses[c] + 4 * k)
            g_one = peek(upstream[c] + 4 * k)
            if y_one * sign + bend <= ZERO:
                g_one = g_one * slope
                y_one = y_one * low
            poke(outputs[c] + 4 * k, scale * (y_one * slant + g_one + level))
