"""The lists of a mask, for all passes of a training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from e2enet.runtime.kernels import gradients
from e2enet.runtime.kernels.layers import ConvLists, conv_lists
from e2enet.runtime.kernels.records import Lists
from e2enet.runtime.kernels.vectors import LANES


class Structure:
    """The lists of a mask.

    What is asked of it is answered from nothing but the mask and the question, and kept by the
    question, so that no pass can be answered with the lists of another.

    Args:
        mask: (output, input).

    Attributes:
        forward: From inputs to outputs.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask.clone()
        live = self.mask.numpy()
        self.forward = conv_lists(live, np.ones(len(live), bool))
        self._backward: dict[bytes, ConvLists] = {}

    def backward(self, wanted: np.ndarray) -> ConvLists:
        """From the gradients of outputs to those of inputs; (input,) bool says of which."""
        key = wanted.tobytes()
        if key not in self._backward:
            live = self.mask.numpy()
            self._backward[key] = conv_lists(live.T, wanted & live.any(axis=0))
        return self._backward[key]

    @cached_property
    def kernels(self) -> KernelLists:
        """For the gradients of the kernels."""
        live = self.mask.numpy()
        nothing = live.size
        inputs, begins, places = [], [0], []
        for output, row in enumerate(live[:, self.forward.read]):
            listed = np.flatnonzero(row)
            numbers = output * live.shape[1] + self.forward.read[listed]
            padding = -len(listed) % gradients.CHUNK
            inputs.append(np.pad(listed, (0, padding)))
            places.append(np.pad(numbers, (0, padding), constant_values=nothing))
            begins.append(begins[-1] + len(listed) + padding)
        joined = np.concatenate(places)
        joined = np.pad(joined, (0, -len(joined) % LANES), constant_values=nothing)
        lists = Lists(np.concatenate(inputs).astype(np.int64), np.array(begins, np.int64))
        return KernelLists(lists, joined)


@dataclass(frozen=True)
class KernelLists:
    """For `gradients.kernel_gradients`, over the maps of `forward.read`.

    Attributes:
        live: Of each output map.
        places: (live padded,) kernel of each of its sums, as in `ConvLists`.
    """

    live: Lists
    places: np.ndarray
