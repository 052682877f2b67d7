"""E2ENet once more: slow, in numpy float64, with a loop where the method has an index.

Written from the description of the method (arXiv 2312.04727, section 3), not from the engine, and
never fast enough for anything but a few hundred voxels. Arrays are (C, D, H, W), without a batch.
"""

from __future__ import annotations

import math

import numpy as np

Weights = dict[str, np.ndarray]
Stride = tuple[int, int, int]


def depth_shift(x: np.ndarray, groups: int) -> np.ndarray:
    """Output slice d of group k holds input slice d - (k - groups // 2), or zeros."""
    channels, depth = x.shape[:2]
    size = math.ceil(channels / groups)
    y = np.zeros_like(x)
    for c in range(channels):
        shift = c // size - groups // 2
        for d in range(depth):
            if 0 <= d - shift < depth:
                y[c, d] = x[c, d - shift]
    return y


def slice_convolution(x: np.ndarray, w: np.ndarray, bias: np.ndarray, stride: Stride) -> np.ndarray:
    """Kernel (1, 3, 3), padding (0, 1, 1); w is (C_out, C_in, 1, 3, 3)."""
    _, depth, height, width = x.shape
    sd, sh, sw = stride
    out = [math.floor((n - 1) / s) + 1 for n, s in zip((depth, height, width), stride, strict=True)]
    y = np.zeros((w.shape[0], *out))
    for d, h, v in np.ndindex(*out):
        total = bias.copy()
        for i in range(3):
            for j in range(3):
                row, column = h * sh + i - 1, v * sw + j - 1
                if 0 <= row < height and 0 <= column < width:
                    total = total + w[:, :, 0, i, j] @ x[:, d * sd, row, column]
        y[:, d, h, v] = total
    return y


def instance_norm_leaky_relu(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    for c in range(x.shape[0]):
        mean = x[c].sum() / x[c].size
        variance = ((x[c] - mean) ** 2).sum() / x[c].size
        y[c] = (x[c] - mean) / math.sqrt(variance + 1e-5) * weight[c] + bias[c]
        for place in np.ndindex(*y[c].shape):
            if y[c][place] < 0:
                y[c][place] *= 0.01
    return y


def transposed_convolution(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Kernel = stride; w is (C_in, C_out, sd, sh, sw)."""
    sd, sh, sw = w.shape[2:]
    _, depth, height, width = x.shape
    y = np.zeros((w.shape[1], depth * sd, height * sh, width * sw))
    for d, h, v in np.ndindex(depth, height, width):
        for i, j, k in np.ndindex(sd, sh, sw):
            y[:, d * sd + i, h * sh + j, v * sw + k] = x[:, d, h, v] @ w[:, :, i, j, k]
    return y


def max_pooling(x: np.ndarray, stride: Stride) -> np.ndarray:
    sd, sh, sw = stride
    channels, depth, height, width = x.shape
    y = np.empty((channels, depth // sd, height // sh, width // sw))
    for c, d, h, v in np.ndindex(*y.shape):
        part = x[c, d * sd : (d + 1) * sd, h * sh : (h + 1) * sh, v * sw : (v + 1) * sw]
        y[c, d, h, v] = max(part.flat)
    return y


def block(
    x: np.ndarray, weights: Weights, name: str, groups: int, stride: Stride = (1, 1, 1)
) -> np.ndarray:
    x = depth_shift(x, groups)
    x = slice_convolution(x, weights[f"{name}.conv.weight"], weights[f"{name}.conv.bias"], stride)
    return instance_norm_leaky_relu(x, weights[f"{name}.norm.weight"], weights[f"{name}.norm.bias"])


def e2enet(image: np.ndarray, weights: Weights, strides: list[Stride], groups: int) -> list:
    """Logits of all heads, finest first, of one image (C, D, H, W)."""
    levels = len(strides) + 1
    node: dict[tuple[int, int], np.ndarray] = {}  # (level i, stage s) -> x[i, s]
    x = image
    for i in range(levels):
        x = block(x, weights, f"backbone.{i}.0", groups, strides[i - 1] if i else (1, 1, 1))
        x = block(x, weights, f"backbone.{i}.1", groups)
        node[i, 0] = x
    for s in range(1, levels):
        for i in range(levels - s):
            flows = [node[i, s - 1]]
            flows.append(transposed_convolution(node[i + 1, s - 1], weights[f"ups.{s}_{i}.weight"]))
            if i > 0:
                flows.append(max_pooling(node[i - 1, s - 1], strides[i - 1]))
            x = block(np.concatenate(flows), weights, f"nodes.{s}_{i}.0", groups)
            if i + s == levels - 1:
                x = block(x, weights, f"nodes.{s}_{i}.1", groups)
            node[i, s] = x
    logits = []
    for h in range(max(1, min(4, levels - 2))):
        w = weights[f"heads.{h}.weight"][:, :, 0, 0, 0]
        logits.append(np.einsum("oc,cdhw->odhw", w, node[h, levels - 1 - h]))
    return logits
