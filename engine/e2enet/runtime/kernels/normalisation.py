"""Instance norm with leaky ReLU, and its gradient, over maps that lie one after the other."""

from __future__ import annotations

import numpy as np

from e2enet.runtime.kernels.accumulation import ZERO
from e2enet.runtime.kernels.vectors import (
    fma,
    kernel,
    load_at,
    maximum,
    part,
    peek,
    poke,
    splat,
    store_at,
    total,
    where_positive,
)


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
    addresses,  # of every map before the norm
    affine,  # (maps, 3) norm's scale and shift, slope of the activation
    statistics,  # (maps, 2) mean and 1 / standard deviation
    upstream,  # address of every gradient behind the activation
    outputs,  # address of every gradient before the norm
    sums,  # (maps, 2) gradients of the norm's weight and bias
):
    """Gradient of instance norm and leaky ReLU, and of the norm's weight and bias."""
    for c in range(maps[0], maps[1]):
        scale, shift, slope = affine[c, 0], affine[c, 1], affine[c, 2]
        mean, inverse = statistics[c, 0], statistics[c, 1]
        weight_sum = 0.0
        bias_sum = 0.0
        for first in range(0, voxels, 4096):
            stop = min(first + 4096, voxels)
            whole = first + (stop - first) // 16 * 16
            added, product = splat(ZERO), splat(ZERO)
            for k in range(first, whole, 16):
                y = load_at(addresses[c] + 4 * k)
                g = _through(y, load_at(upstream[c] + 4 * k), scale, shift, slope)
                added = added + g
                product = fma(g, (y - splat(mean)) * splat(inverse), product)
            bias_sum += total(added)
            weight_sum += total(product)
            for k in range(whole, stop):
                y_one = peek(addresses[c] + 4 * k)
                g_one = peek(upstream[c] + 4 * k)
                if y_one * scale + shift <= ZERO:
                    g_one = g_one * slope
                bias_sum += g_one
                weight_sum += g_one * (y_one - mean) * inverse
        sums[c, 0], sums[c, 1] = weight_sum, bias_sum
        # scale = weight * inverse; dy = scale * (g - mean(g) - (y - mean) * inverse * mean(g * x))
        slant = np.float32(-weight_sum / voxels * inverse)
        level = np.float32(-bias_sum / voxels - mean * slant)
        whole = voxels // 16 * 16
        for k in range(0, whole, 16):
            y = load_at(addresses[c] + 4 * k)
            g = _through(y, load_at(upstream[c] + 4 * k), scale, shift, slope)
            store_at(outputs[c] + 4 * k, splat(scale) * (fma(y, splat(slant), g) + splat(level)))
        for k in range(whole, voxels):
            y_one = peek(addresses[c] + 4 * k)
            g_one = peek(upstream[c] + 4 * k)
            if y_one * scale + shift <= ZERO:
                g_one = g_one * slope
            poke(outputs[c] + 4 * k, scale * (y_one * slant + g_one + level))


@part
def _through(y, gradient, scale, shift, slope):
    """The gradient through the leaky ReLU, by the sign of what went into it."""
    v = fma(y, splat(scale), splat(shift))
    return where_positive(v, gradient, gradient * splat(slope))
