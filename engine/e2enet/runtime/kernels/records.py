"""What kernels take together: Numba passes named tuples as they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from e2enet.runtime.kernels.voxels import FLOAT


class Source(NamedTuple):
    """Maps that are read.

    Attributes:
        addresses: Of slice 0 of every map.
        affine: (maps, 3) scale and shift of the norm and slope of the activation that a map still
            has to go through.
        kind: FLOAT or HALF: how voxels are in memory.
    """

    addresses: np.ndarray
    affine: np.ndarray
    kind: np.ndarray = FLOAT


class Target(NamedTuple):
    """Maps that are written.

    Attributes:
        addresses: Of slice 0 of every map.
        shifts: Depth-shift of every map in slices; what leaves its depth is dropped.
        depth: Slices of a map.
        kind: FLOAT or HALF: how voxels are in memory.
    """

    addresses: np.ndarray
    shifts: np.ndarray
    depth: int
    kind: np.ndarray = FLOAT


class Lists(NamedTuple):
    """Live connections, list by list: of an output map, or of BLOCK of them that share one.

    Attributes:
        maps: The map at the other end of each connection, as a number among those read.
        begins: Where each list begins, and the end of the last.
    """

    maps: np.ndarray
    begins: np.ndarray
