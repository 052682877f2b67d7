"""The parts of its slices in which a block is made, and upward maps that exist part by part."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from e2enet.runtime.kernels.layers import PointLayer
from e2enet.runtime.kernels.memory import Maps

SLAB_BYTES = 4 << 20  # of the slices that are made at a time, at least
SLABS = 16  # of a map, at most

Part = tuple[int, int]  # (first, stop) slice
Looks = tuple[int, int]  # slices before a part and behind it that are read, too


@dataclass(frozen=True)
class Slabs:
    """How the maps of a level are made part by part.

    Attributes:
        depth: Slices of a map.
        slices: Of a part.
        box: Slices that an upward map is made of at a time.
        reach: How far a block looks beyond a part at most.
    """

    depth: int
    slices: int
    box: int
    reach: int

    @classmethod
    def of(cls, depth: int, slice_bytes: int, least: int, *, box: int, reach: int) -> Slabs:
        """For slices, all maps together, of so many bytes; at least so many slices at a time."""
        slices = max(1, -(-depth // SLABS), SLAB_BYTES // slice_bytes, least)
        return cls(depth, min(depth, -(-slices // box) * box), box, reach)

    @property
    def spare(self) -> int:
        """Slices beyond its depth in the region of a map that another overwrites part by part.

        None where they would be half of it.
        """
        spare = self.slices + self.reach
        return 0 if 2 * spare > self.depth else spare

    def parts(self, looks: Looks, *, back: bool) -> list[Part]:
        """Of all slices, in order; what each needs of upward maps ends where a box does."""
        behind, ahead = looks
        first = (behind if back else -ahead) % self.box or self.slices
        borders = [0, *range(first, self.depth, self.slices), self.depth]
        return list(itertools.pairwise(borders))[:: -1 if back else 1]


class Upward:
    """Some slices of upward maps, which go on part by part and never exist as a whole.

    Args:
        layer: Makes them.
        below: Of these.
        parts: That are asked for, in this order.
        looks: What a part needs beside its own slices.

    Attributes:
        room: Slices that exist at a time at most.
    """

    def __init__(self, layer: PointLayer, below: Maps, parts: Sequence[Part], looks: Looks) -> None:
        self.layer, self.below, self._looks = layer, below, looks
        self._back = parts[0] > parts[-1]
        self._there: Part | None = None
        slices = [(min(a + b), max(a + b)) for a, b in map(self.go_on, parts)]
        self.room = max(stop - first for first, stop in slices)
        self._there = None

    def go_on(self, part: Part) -> tuple[Part, Part]:
        """The slices to make for a part, in whole boxes, and those that are there and stay.

        One of them begins where the other ends.
        """
        box, depth = self.layer.box[0], self.layer.box[0] * self.below.shape[0]
        first, stop = max(0, part[0] - self._looks[0]), min(depth, part[1] + self._looks[1])
        begin, end = first // box * box, -(-stop // box) * box
        if self._there is None:
            made, kept = (begin, end), (begin, begin)
        elif self._back:
            before, after = self._there
            made, kept = (min(begin, before), before), (before, min(stop, after))
        else:
            before, after = self._there
            made, kept = (after, max(after, end)), (first, after)
        self._there = min(made[0], kept[0]), max(made[1], kept[1])
        return made, kept
