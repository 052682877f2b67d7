"""The convolutions of a network as the kernels take them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from e2enet.networks.lattice import LEAKY_SLOPE, NORM_EPS, Layer, chunk_shifts
from e2enet.runtime.kernels.layers import ConvLayer, conv_lists


def conv_layer(
    layer: Layer,
    weights: Mapping[str, np.ndarray],
    live: np.ndarray,
    read: np.ndarray,
    paired: bool,
) -> ConvLayer:
    """What the kernels take of a convolution.

    Args:
        layer: The convolution.
        weights: Parameter name -> array.
        live: (output, input) whether a connection is alive.
        read: (output,) whether somebody reads an output map.
        paired: For products of pairs of bfloat16.
    """
    lists = conv_lists(live, read)
    shifts = np.zeros(layer.in_channels, np.int64)
    for start, stop, shift in chunk_shifts(layer.in_channels, layer.shift_groups):
        shifts[start:stop] = shift
    kernels = lists.kernels(weights[layer.weight][:, :, 0], paired=paired)
    norm = np.stack([weights[f"{layer.norm}.weight"], weights[f"{layer.norm}.bias"]], axis=1)
    return ConvLayer(
        lists.read, lists.written, lists.grouped, lists.live, kernels, shifts[lists.read],
        layer.stride,
        norm[lists.written], NORM_EPS, LEAKY_SLOPE,
    )  # fmt: skip
