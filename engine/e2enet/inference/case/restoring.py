"""From the network's voxels back to the image's, slice by slice: probabilities, then labels.

Probabilities are interpolated linearly, except along an axis so coarse that the image was taken
from the nearest slice there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from e2enet.inference.case.axes import Axis
from e2enet.inference.sliding_window.arrays import (
    Array,
    beside,
    copied,
    likeliest,
    overlaid,
    taken,
    to_array,
)


class SliceWriter(ABC):
    """Takes prepared slices one after the other and writes each output slice as soon as it can.

    Args:
        axes: For D, H, W.
    """

    def __init__(self, axes: Sequence[Axis]) -> None:
        self._depth, self._height, self._width = axes
        self._previous: Any = None
        self._seen = 0  # prepared slices
        self._done = 0  # output slices

    @property
    def shape(self) -> tuple[int, int, int]:
        """Output voxels (D, H, W)."""
        return len(self._depth.lower), len(self._height.lower), len(self._width.lower)

    @abstractmethod
    def _write(self, plane: Any) -> None:
        """Write output slice `_done` from its values (1, K, H, W) on the output's voxels."""

    def add(self, block: Any) -> None:
        """Take the next prepared slices, (n, K, H, W), array or tensor."""
        for index in range(block.shape[0]):
            self._take(block[index : index + 1])

    @property
    def finished(self) -> bool:
        """Whether every output slice is written."""
        return self._done == len(self._depth.lower)

    def _take(self, plane: Any) -> None:
        number = self._seen
        self._seen += 1
        depth = self._depth
        if self.finished or number < depth.lower[self._done]:
            return  # needed by no output slice
        plane = _across(_across(plane, self._height, 2), self._width, 3)
        while not self.finished and depth.upper[self._done] <= number:
            self._write(self._blend(plane, number))
            self._done += 1
        # A block is reused by the predictor; what is kept has to be our own.
        self._previous = copied(plane)

    def _blend(self, plane: Any, number: int) -> Any:
        lower, upper = self._depth.lower[self._done], self._depth.upper[self._done]
        if lower == upper == number:
            return plane
        assert self._previous is not None
        if upper < number:  # both neighbours are the slice before
            return self._previous
        return _between(self._previous, plane, float(self._depth.weight[self._done]))


class LabelWriter(SliceWriter):
    """Takes probabilities slice after slice and writes the label of each output voxel.

    Args:
        axes: For D, H, W.
        values: Label value of each output; without regions values[0] is the background's.
        labels: (D, H, W) output, any strides.
        probabilities: Output (D, H, W) for each structure, or None.
        regions: Outputs are regions: each lies where its probability is above a half, a later one
            over an earlier one.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        *,
        values: Sequence[int],
        labels: np.ndarray,
        probabilities: np.ndarray | None = None,
        regions: bool = False,
    ) -> None:
        super().__init__(axes)
        if labels.shape != self.shape:
            raise ValueError(f"labels have shape {labels.shape}, the axes {self.shape}")
        self._values = np.asarray(values).astype(labels.dtype)
        self._labels = labels
        self._probabilities = probabilities
        self._regions = regions

    def _write(self, plane: Any) -> None:
        if self._regions:
            self._labels[self._done] = overlaid(plane[0], self._values)
        else:
            self._labels[self._done] = self._values[likeliest(plane[0])]
        if self._probabilities is not None:
            first = 0 if self._regions else 1
            self._probabilities[:, self._done] = to_array(plane[0, first:])


def _across(plane: Array, axis: Axis, number: int) -> Array:
    if axis.trivial and len(axis.lower) == plane.shape[number]:
        return plane
    shape = [1] * plane.ndim
    shape[number] = -1
    weight = beside(axis.weight.reshape(shape), plane)
    lower, upper = taken(plane, axis.lower, number), taken(plane, axis.upper, number)
    return _between(lower, upper, weight)


def _between(lower: Any, upper: Any, weight: Any) -> Any:
    """Linear interpolation."""
    return lower + weight * (upper - lower)
