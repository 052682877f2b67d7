"""Maps in memory that is full of garbage where no map lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from e2enet.runtime.kernels.voxels import (
    FLOAT,
    HALF,
)

GAP = 160

# As a share of the most that a voxel can be: half a unit in the last of 11 bits of float16, and
# with bfloat16 half a unit in the last of 8 bits of both numbers of a product.
ROUNDING = {"float32": 0.0, "float16": 2**-11, "bfloat16": 2 * 2**-8 + 2**-11}


def stored(precision: str) -> tuple[np.ndarray, type[np.floating]]:
    """How maps of the plan of a precision are in memory: for kernels and for numpy."""
    return (FLOAT, np.float32) if precision == "float32" else (HALF, np.float16)


@dataclass
class Laid:
    """Maps (C, D, H, W) with gaps of garbage before, between and behind them.

    Attributes:
        memory: All of it.
        addresses: Of each map.
        maps: Views of them.
    """

    memory: np.ndarray
    addresses: np.ndarray
    maps: list[np.ndarray]
    garbage: float

    @classmethod
    def of(
        cls, values: np.ndarray, garbage: float = np.nan, kind: type[np.floating] = np.float32
    ) -> Laid:
        size = values[0].size if len(values) else 0
        memory = np.full(GAP + len(values) * (size + GAP), garbage, kind)
        maps = []
        for number, one in enumerate(values):
            start = GAP + number * (size + GAP)
            maps.append(memory[start : start + size].reshape(one.shape))
            maps[-1][:] = one
        addresses = np.array([one.ctypes.data for one in maps], np.int64)
        return cls(memory, addresses, maps, garbage)

    @classmethod
    def room(
        cls,
        count: int,
        shape: tuple[int, ...],
        garbage: float = 12344.0,
        kind: type[np.floating] = np.float32,
    ) -> Laid:
        """For maps to be written: garbage everywhere."""
        return cls.of(np.full((count, *shape), garbage, kind), garbage, kind)

    def assert_gaps_untouched(self) -> None:
        copy = self.memory.copy()
        for one in self.maps:
            start = (one.ctypes.data - self.memory.ctypes.data) // self.memory.itemsize
            copy[start : start + one.size] = self.garbage
        np.testing.assert_array_equal(copy, np.full_like(copy, self.garbage))


def made_affine(random: np.random.Generator, count: int) -> np.ndarray:
    """(count, 3) scale, shift and slope, negative and zero scales among them."""
    affine = np.stack(
        [random.normal(size=count), random.normal(size=count), np.full(count, 0.01)], axis=1
    )
    affine[random.random(count) < 0.2, 0] = 0
    return affine.astype(np.float32)


def activated(maps: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(C, D, H, W) float64 after norm and leaky ReLU."""
    scale, shift, slope = affine.astype(float).T[..., None, None, None]
    values = maps.astype(float) * scale + shift
    return np.where(values > 0, values, values * slope)
