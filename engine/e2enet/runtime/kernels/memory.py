"""Maps in memory while a network runs, and the buffers they lie in."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from e2enet.runtime.kernels.vectors import SLACK
from e2enet.runtime.kernels.voxels import FLOAT

_PAGE = 1 << 21  # bytes of a large page, the fewest that are given back


def identity(maps: int) -> np.ndarray:
    """The `affine` of a `Source` that changes nothing."""
    return np.tile(np.array((1, 0, 1), np.float32), (maps, 1))


def aligned(size: int) -> np.ndarray:
    """Floats on a 64-byte border: a vector that crosses one costs two reads."""
    room = np.zeros(size + 16, np.float32)
    first = -room.ctypes.data % 64 // 4
    return room[first : first + size]


def pitch(voxels: int, size: int = 4) -> int:
    """Floats from one map of voxels of so many bytes to the next.

    Maps whose size is a power of two would share few places of a cache; a tenth of the time.
    """
    return -(-voxels * size // 64) * 16 + 9 * 16


@dataclass
class Maps:
    """Maps (C, D, H, W) whose norm and activation are left to whoever reads them.

    Attributes:
        buffer: They lie in it, each in a region of its own.
        kept: Which channels of the layer these are, ascending; nobody reads the others.
        shape: (D, H, W).
        affine: (C, 3) scale and shift of the norm and slope of the leaky ReLU.
        region: Slices that a region has room for.
        origin: Where in its region slice 0 lies, in slices; negative if the first stored slice is
            a later one.
        kind: FLOAT or HALF (`vectors`): how voxels are in memory.
    """

    buffer: Buffer
    kept: np.ndarray
    shape: tuple[int, int, int]
    affine: np.ndarray
    region: int
    origin: int = 0
    kind: np.ndarray = field(default_factory=lambda: FLOAT)

    @classmethod
    def make(
        cls,
        arena: Arena,
        kept: np.ndarray,
        shape: Sequence[int],
        *,
        room: int | None = None,
        region: int | None = None,
        origin: int = 0,
        kind: np.ndarray = FLOAT,
    ) -> Maps:
        """Maps in a buffer for `room` (or just these) regions of `region` (or just D) slices."""
        depth, height, width = shape
        region = depth if region is None else region
        step = pitch(region * height * width, kind.itemsize)
        floats = (len(kept) if room is None else room) * step
        affine = identity(len(kept))
        buffer = arena.take(floats + 2 * SLACK)
        return cls(buffer, kept, (depth, height, width), affine, region, origin, kind)

    @property
    def regions(self) -> int:
        """How many maps fit into the buffer."""
        return (self.buffer.size - 2 * SLACK) // self._step

    @property
    def _step(self) -> int:
        """Floats from one map to the next."""
        _, height, width = self.shape
        return pitch(self.region * height * width, self.kind.itemsize)

    def addresses(self, channels: np.ndarray) -> np.ndarray:
        """Where slice 0 of each channel lies, or would lie if it were stored."""
        _, height, width = self.shape
        plane = height * width
        places = np.searchsorted(self.kept, channels).astype(np.int64)
        first = self.buffer.address + 4 * SLACK + self.kind.itemsize * self.origin * plane
        return first + 4 * self._step * places

    def affines(self, channels: np.ndarray) -> np.ndarray:
        """Norm and activation of these channels."""
        return self.affine[np.searchsorted(self.kept, channels)]

    def array(self) -> np.ndarray:
        """A view (C, D, H, W) of maps that are stored as a whole."""
        return self.slices(0, self.shape[0])

    def slices(self, first: int, stop: int) -> np.ndarray:
        """A view (C, stop - first, H, W) of slices that are stored."""
        _, height, width = self.shape
        floats = self.buffer.array[SLACK:][: len(self.kept) * self._step]
        stored = np.float32 if self.kind.itemsize == 4 else np.float16
        rows = floats.view(stored).reshape(len(self.kept), -1)
        plane = height * width
        rows = rows[:, (self.origin + first) * plane : (self.origin + stop) * plane]
        return rows.reshape(len(self.kept), stop - first, height, width)


class Buffer:
    """A piece of an arena.

    Attributes:
        first, size: Where it lies in the arena, in floats.
    """

    def __init__(self, arena: Arena, first: int, size: int) -> None:
        self._arena = arena
        self.first, self.size = first, size

    @property
    def address(self) -> int:
        """Where it begins in memory, in bytes."""
        return int(self._arena.memory.ctypes.data) + 4 * self.first

    @property
    def array(self) -> np.ndarray:
        """Its floats."""
        return self._arena.memory[self.first : self.first + self.size]


class Arena:
    """One piece of memory for everything that a network holds while it runs.

    The same requests in the same order get the same places, so that a run which only takes and
    gives tells how large the arena must be. It stays: the system clears every page that it hands
    out, and for a full-resolution map that takes as long as a tenth of a convolution.
    """

    def __init__(self) -> None:
        self.memory = np.empty(0, np.float32)
        self._pages: mmap.mmap | None = None
        self._gaps: list[tuple[int, int]] = []
        self.reset()

    def reset(self) -> None:
        """Forget what was taken."""
        self._gaps = [(0, 1 << 60)]
        self.needed = 0

    def allocate(self) -> None:
        """Get as much memory as was needed at most since `reset`, and forget what was taken."""
        if self.memory.size < self.needed:
            self.memory, self._pages = np.empty(0, np.float32), None  # the old one goes first
            if sys.platform == "linux" and 4 * self.needed >= _PAGE:
                private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
                self._pages = mmap.mmap(-1, 4 * self.needed, private)
                with suppress(OSError):  # a kernel without large pages
                    self._pages.madvise(mmap.MADV_HUGEPAGE)
                self.memory = np.frombuffer(self._pages, np.float32)
            else:
                self.memory = aligned(self.needed)
        self.reset()

    def release(self, size: int) -> None:
        """Give free pages of so many bytes back to the system, on Linux.

        It clears them when they are next written to.
        """
        if self._pages is None:
            return
        begin = self.memory.ctypes.data
        for first, stop in self._gaps:
            page = -(-(begin + 4 * first) // _PAGE)
            pages = (begin + 4 * min(stop, self.memory.size)) // _PAGE - page
            pages = min(pages, size // _PAGE)
            if pages > 0:
                self._pages.madvise(mmap.MADV_DONTNEED, page * _PAGE - begin, pages * _PAGE)
                size -= pages * _PAGE

    def take(self, size: int) -> Buffer:
        """The smallest gap of so many floats; what is in it is whatever was there before."""
        size = -(-size // 16) * 16
        fits = [n for n, (first, stop) in enumerate(self._gaps) if stop - first >= size]
        number = min(fits, key=lambda n: self._gaps[n][1] - self._gaps[n][0])
        first, stop = self._gaps[number]
        self._gaps[number : number + 1] = [(first + size, stop)] if stop - first > size else []
        self.needed = max(self.needed, first + size)
        return Buffer(self, first, size)

    def give(self, buffer: Buffer) -> None:
        """Take a buffer back."""
        if not buffer.size:
            return  # a gap of nothing would keep its neighbours apart
        self._gaps.append((buffer.first, buffer.first + buffer.size))
        self._gaps.sort()
        joined = self._gaps[:1]
        for first, stop in self._gaps[1:]:
            if first == joined[-1][1]:
                joined[-1] = (joined[-1][0], stop)
            else:
                joined.append((first, stop))
        self._gaps = joined
