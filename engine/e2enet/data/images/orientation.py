"""One orientation for all: bring a volume to LPS by permuting and flipping axes, and back.

A model then does not depend on how a file stores its axes. Nothing is interpolated, so the way
back is exact, for oblique and left-handed grids as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from e2enet.data.axes import three
from e2enet.data.images.volume import Grid, Volume


@dataclass(frozen=True)
class Undo:
    """The way back from the canonical orientation to a volume's own grid.

    Args:
        grid: the volume's own grid.
        axes: canonical array axis k (of z, y, x) is the own array axis axes[k].
        flips: whether canonical array axis k runs against the own one.
    """

    grid: Grid
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Bring an array (..., z, y, x) in canonical orientation to the own grid, as a copy."""
        first = array.ndim - 3
        flipped = np.flip(array, tuple(first + k for k in range(3) if self.flips[k]))
        inverse = np.argsort(self.axes)
        return np.ascontiguousarray(
            flipped.transpose([*range(first), *(first + int(k) for k in inverse)])
        )

    def box(self, inside: Sequence[slice]) -> tuple[slice, slice, slice]:
        """Some voxels (z, y, x) in canonical orientation, as those of the own grid."""
        own = [slice(0)] * 3
        for part, axis, flip in zip(inside, self.axes, self.flips, strict=True):
            size = self.grid.shape[axis]
            own[axis] = slice(size - part.stop, size - part.start) if flip else part
        return own[0], own[1], own[2]


def to_canonical(volume: Volume) -> tuple[Volume, Undo]:
    """Permute and flip a volume so that its axes run as near to LPS as they can.

    The array's axes are then z to Superior, y to Posterior, x to Left. The array is a view of
    the volume's.

    Returns:
        The volume in canonical orientation, and the way back.
    """
    grid = volume.grid
    direction = np.reshape(grid.direction, (3, 3))
    columns, signs = _nearest_axes(direction)

    new_direction = direction[:, columns] * signs
    origin = np.asarray(grid.origin_xyz, float)
    for column, sign in zip(columns, signs, strict=True):
        if sign < 0:
            last = (grid.size_xyz[column] - 1) * grid.spacing_xyz[column]
            origin = origin + direction[:, column] * last
    canonical = Grid(
        three(grid.size_xyz[c] for c in columns),
        three(grid.spacing_xyz[c] for c in columns),
        three(float(v) for v in origin),
        # Adding zero turns -0.0 into 0.0.
        tuple(float(v) + 0.0 for v in new_direction.ravel()),
    )
    # From x, y, z to the array's z, y, x.
    axes = three(2 - c for c in reversed(columns))
    flips = three(bool(s < 0) for s in reversed(signs))
    array = np.flip(volume.array.transpose(axes), tuple(k for k in range(3) if flips[k]))
    turned = Volume(array, canonical, volume.name, volume.warnings)
    return turned, Undo(grid, axes, flips)


def _nearest_axes(direction: np.ndarray) -> tuple[list[int], np.ndarray]:
    """For x, y, z: the image axis that runs nearest to it, and 1 or -1 for its sense.

    The permutation with the largest sum of |cosines| is taken, the first of equals.
    """
    cosines = np.abs(direction)
    columns = max(
        itertools.permutations(range(3)),
        key=lambda order: round(sum(cosines[row, order[row]] for row in range(3)), 9),
    )
    signs = np.array([-1.0 if direction[row, columns[row]] < 0 else 1.0 for row in range(3)])
    return list(columns), signs
