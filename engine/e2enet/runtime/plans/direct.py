"""The finest logits by definition, slowly: what the kernels are checked against."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from e2enet.networks.lattice import (
    LEAKY_SLOPE,
    NORM_EPS,
    Flow,
    Lattice,
    Layer,
    NodeId,
    Triple,
    chunk_shifts,
)


def direct_logits(
    lattice: Lattice, weights: Mapping[str, np.ndarray], image: np.ndarray
) -> np.ndarray:
    """(C, D, H, W) -> (K, D, H, W), in float64.

    Args:
        lattice: The network's graph.
        weights: Parameter name -> array.
        image: Its size divides by `lattice.divisor`.

    Example:
        >>> lattice = Lattice(1, 2, [(2, 2, 2)], base_channels=2)
        >>> weights = {name: np.ones(shape) for name, shape in lattice.parameters.items()}
        >>> direct_logits(lattice, weights, np.zeros((1, 2, 4, 4))).shape
        (2, 2, 4, 4)
    """
    maps: dict[NodeId | None, np.ndarray] = {None: image.astype(np.float64)}
    for node in lattice.nodes:
        x = np.concatenate([_read(flow, weights, maps) for flow in node.flows])
        for layer in node.blocks:
            x = _block(layer, weights, x, (2, 3) if lattice.by_slice else (1, 2, 3))
        maps[node.id] = x
    finest = lattice.heads[0]
    head = weights[finest.weight].reshape(finest.shape[:2]).astype(np.float64)
    return np.einsum("kc,cdhw->kdhw", head, maps[finest.stage, finest.level])


def _read(
    flow: Flow, weights: Mapping[str, np.ndarray], maps: Mapping[NodeId | None, np.ndarray]
) -> np.ndarray:
    x = maps[flow.source]
    if flow.up:
        boxes = np.einsum("cdhw,coijk->odihjwk", x, weights[flow.up.weight].astype(np.float64))
        size = (n * s for n, s in zip(x.shape[1:], flow.stride, strict=True))
        return boxes.reshape(len(boxes), *size)
    return _pooled(x, flow.stride) if flow.kind == "downward" else x


def _pooled(x: np.ndarray, stride: Triple) -> np.ndarray:
    depth, height, width = (n // s for n, s in zip(x.shape[1:], stride, strict=True))
    sd, sh, sw = stride
    return np.asarray(x.reshape(-1, depth, sd, height, sh, width, sw).max(axis=(2, 4, 6)))


def _block(
    layer: Layer, weights: Mapping[str, np.ndarray], x: np.ndarray, norm_axes: tuple[int, ...]
) -> np.ndarray:
    shifted = np.zeros_like(x)
    for start, stop, shift in chunk_shifts(len(x), layer.shift_groups):
        to, of = max(0, shift), max(0, -shift)
        count = max(0, x.shape[1] - abs(shift))
        shifted[start:stop, to : to + count] = x[start:stop, of : of + count]
    sd, sh, sw = layer.stride
    padded = np.pad(shifted[:, ::sd], ((0, 0), (0, 0), (1, 1), (1, 1)))
    _, _, height, width = x.shape
    kernel = weights[layer.weight].astype(np.float64)
    y = sum(
        np.einsum(
            "oc,cdhw->odhw", kernel[:, :, 0, i, j], padded[:, :, i : i + height, j : j + width]
        )
        for i in range(3)
        for j in range(3)
    )
    y = np.asarray(y)[:, :, ::sh, ::sw]
    mean, var = y.mean(norm_axes, keepdims=True), y.var(norm_axes, keepdims=True)
    gain, offset = (
        weights[f"{layer.norm}.{name}"][:, None, None, None] for name in ("weight", "bias")
    )
    y = (y - mean) / np.sqrt(var + NORM_EPS) * gain + offset
    return np.where(y > 0, y, LEAKY_SLOPE * y)
