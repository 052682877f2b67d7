"""Where the voxels of an output lie between those that the network saw, axis by axis.

The inverse of `e2enet.data.preprocessing.resampling`, in its coordinates: both grids cover the
same box, and output voxel i lies at prepared position (i + 0.5) · n_in / n_out - 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
