"""From the network's voxels back to the image's, slice by slice: probabilities, then labels.

The inverse of `e2enet.data.resampling`, in its coordinates: both grids cover the same box, and
output voxel i lies at prepared position (i + 0.5) · n_in / n_out - 0.5. Probabilities are
interpolated linearly, except along an axis so coarse that the image was taken from the nearest
slice there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """Where the output voxels of one axis lie between the prepared ones.

    Attributes:
        lower, upper: (n,) neighbouring prepared voxels of each output voxel, neither decreasing.
        weight: (n,) float32 share of `upper`.
    """

    lower: np.ndarray
    upper: np.ndarray
    weight: np.ndarray

    @classmethod
    def between(cls, n_in: int, n_out: int, *, nearest: bool = False) -> Axis:
        """From n_in prepared to n_out output voxels."""
        at = (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5
        if nearest:
            index = np.clip(np.floor(at + 0.5 - 1e-9).astype(int), 0, n_in - 1)
            return cls(index, index, np.zeros(n_out, np.float32))
        at = np.clip(at, 0, n_in - 1)
        lower = np.floor(at).astype(int)
        weight = (at - lower).astype(np.float32)
        return cls(lower, np.minimum(lower + (weight > 0), n_in - 1), weight)

    def part(self, start: int, stop: int) -> Axis:
        """Only the output voxels start … stop."""
        return Axis(self.lower[start:stop], self.upper[start:stop], self.weight[start:stop])

    def moved(self, by: int) -> Axis:
        """The same with prepared voxels counted from `by`."""
        return Axis(self.lower - by, self.upper - by, self.weight)

    @property
    def span(self) -> tuple[int, int]:
        """Prepared voxels that are needed: (start, stop)."""
        return int(self.lower[0]), int(self.upper[-1]) + 1

    @property
    def trivial(self) -> bool:
        """Whether output voxel i is prepared voxel i."""
        return bool((self.weight == 0).all() and (self.lower == np.arange(len(self.lower))).all())


class LabelWriter:
    """Takes probabilities slice after slice and writes the likeliest label of each output voxel.

    Args:
        axes: For D, H, W.
        values: Label value of each class; values[0] is the background's.
        labels: (D, H, W) output, any strides.
        probabilities: (K - 1, D, H, W) output for the foreground classes, or None.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        *,
        values: Sequence[int],
        labels: np.ndarray,
        probabilities: np.ndarray | None = None,
    ) -> None:
        self._depth, self._height, self._width = axes
        expected = tuple(len(axis.lower) for axis in axes)
        if labels.shape != expected:
            raise ValueError(f"labels have shape {labels.shape}, the axes {expected}")
        self._values = np.asarray(values).astype(labels.dtype)
        self._labels = labels
        self._probabilities = probabilities
        self._previous: Tensor | None = None
        self._seen = 0  # prepared slices
        self._done = 0  # output slices

    def add(self, block: Tensor) -> None:
        """Take the next prepared slices, (n, K, H, W)."""
        for index in range(block.shape[0]):
            self._take(block[index : index + 1])

    @property
    def finished(self) -> bool:
        return self._done == self._labels.shape[0]

    def _take(self, plane: Tensor) -> None:
        number = self._seen
        self._seen += 1
        depth = self._depth
        if self.finished or number < depth.lower[self._done]:
            return  # needed by no output slice
        plane = _across(_across(plane, self._height, 2), self._width, 3)
        while not self.finished and depth.upper[self._done] <= number:
            self._write(self._blend(plane, number))
        # A block is reused by the predictor; what is kept has to be our own.
        self._previous = plane.clone()

    def _blend(self, plane: Tensor, number: int) -> Tensor:
        lower, upper = self._depth.lower[self._done], self._depth.upper[self._done]
        if lower == upper == number:
            return plane
        assert self._previous is not None
        if upper < number:  # both neighbours are the slice before
            return self._previous
        return torch.lerp(self._previous, plane, float(self._depth.weight[self._done]))

    def _write(self, plane: Tensor) -> None:
        classes = plane[0].argmax(dim=0).cpu().numpy()
        self._labels[self._done] = self._values[classes]
        if self._probabilities is not None:
            self._probabilities[:, self._done] = plane[0, 1:].cpu().numpy()
        self._done += 1


def _across(plane: Tensor, axis: Axis, dim: int) -> Tensor:
    if axis.trivial and len(axis.lower) == plane.shape[dim]:
        return plane
    lower = torch.from_numpy(axis.lower).to(plane.device)
    upper = torch.from_numpy(axis.upper).to(plane.device)
    shape = [1] * plane.ndim
    shape[dim] = -1
    weight = torch.from_numpy(axis.weight).to(plane.device).view(shape)
    return torch.lerp(plane.index_select(dim, lower), plane.index_select(dim, upper), weight)
