"""Maps in memory while a network runs, and the buffers they lie in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from e2enet.runtime.vectors import SLACK

IDENTITY = (1.0, 0.0, 1.0)  # scale, shift and slope that change nothing


def aligned(size: int) -> np.ndarray:
    """Floats on a 64-byte border: a vector that crosses one costs two reads."""
    room = np.zeros(size + 16, np.float32)
    first = -room.ctypes.data % 64 // 4
    return room[first : first + size]


def pitch(voxels: int) -> int:
    """Floats from one map to the next.

    Maps whose size is a power of two would share few places of a cache; a tenth of the time.
    """
    return -(-voxels // 16) * 16 + 9 * 16


def room(channels: int, shape: tuple[int, ...]) -> int:
    """Floats that a buffer for maps of this shape needs."""
    return channels * pitch(int(np.prod(shape))) + 2 * SLACK


@dataclass
class Maps:
    """Maps (C, D, H, W) whose norm and activation are left to whoever reads them.

    Attributes:
        buffer: They lie in it `pitch` apart, from SLACK on.
        kept: Which channels of the layer these are, ascending; nobody reads the others.
        shape: (D, H, W).
        affine: (C, 3) scale and shift of the norm and slope of the leaky ReLU.
        first_slice: The slice that the first stored one is; the others before it are not stored.
        stored: Number of slices that are stored.
    """

    buffer: np.ndarray
    kept: np.ndarray
    shape: tuple[int, int, int]
    affine: np.ndarray
    first_slice: int = 0
    stored: int = 0

    def addresses(self, channels: np.ndarray) -> np.ndarray:
        """Where slice 0 of each channel lies, or would lie if it were stored."""
        depth, height, width = self.shape
        places = np.searchsorted(self.kept, channels)
        plane = height * width
        first = self.buffer.ctypes.data + 4 * (SLACK - self.first_slice * plane)
        return first + 4 * places.astype(np.int64) * pitch((self.stored or depth) * plane)

    def affines(self, channels: np.ndarray) -> np.ndarray:
        """Norm and activation of these channels."""
        return self.affine[np.searchsorted(self.kept, channels)]

    def array(self) -> np.ndarray:
        """(C, D, H, W) as it lies there."""
        voxels = int(np.prod(self.shape))
        rows = self.buffer[SLACK:][: len(self.kept) * pitch(voxels)].reshape(-1, pitch(voxels))
        return rows[:, :voxels].reshape(-1, *self.shape)


class Buffers:
    """Lends buffers and keeps those that came back: fresh memory costs more than what is done in it.

    The system clears every page that it hands out; for a full-resolution map that takes as long as
    a tenth of a convolution.
    """

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def take(self, size: int) -> np.ndarray:
        """A buffer of so many floats or more; its content is whatever was there before."""
        fits = [n for n, buffer in enumerate(self._free) if size <= buffer.size <= 2 * size]
        if fits:
            return self._free.pop(min(fits, key=lambda n: self._free[n].size))
        return aligned(size)

    def give(self, buffer: np.ndarray) -> None:
        """Take a buffer back."""
        self._free.append(buffer)
