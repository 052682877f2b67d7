"""What the numbers of a prepared label map tell a training, voxel by voxel.

Where every label is known a number is the label's value. A case of which nobody drew some
structures has numbers of its own: value + step × place, the place being that of the set of what it
lacks, so that a patch says by itself what is known of it, also after it was mirrored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from e2enet.data.planning.laterality import mirroring
from e2enet.events import BadInput

if TYPE_CHECKING:  # a trainer needs no images, nor what reads them
    from e2enet.data.datasets.raw import Dataset


@dataclass(frozen=True, eq=False)
class Targets:
    """The meaning of every number that a prepared label map may hold.

    Args:
        member: (numbers, outputs) bool: a voxel of this number certainly belongs to the output.
        known: (numbers, outputs) bool: whether it does is known.
        regions: outputs are regions, each for itself; otherwise classes that exclude each other,
            the background first.
        step: how many numbers each set of missing structures takes.
        places: case -> place of the set of structures that it lacks; 0 for the others.
        labels: the label value of each output.
    """

    member: np.ndarray
    known: np.ndarray
    regions: bool
    step: int
    places: Mapping[str, int]
    labels: tuple[int, ...]

    @classmethod
    def of(cls, dataset: Dataset) -> Targets:
        """Those of a dataset."""
        names = list(dataset.structures.values)
        sets = _sets(dataset, names)
        step = dataset.highest + 2  # 0 … the highest, and one to ignore
        blocks = [_block(dataset, names, missing, step) for missing in sets]
        places = {case: sets.index(frozenset(lacks)) for case, lacks in dataset.missing.items()}
        return cls(
            np.concatenate([member for member, _ in blocks]),
            np.concatenate([known for _, known in blocks]),
            bool(dataset.regions),
            step,
            places,
            tuple(dataset.labels.values())[1 if dataset.regions else 0 :],
        )

    @property
    def partial(self) -> bool:
        """Whether a case lacks structures."""
        return len(self.member) > self.step

    def encode(self, label: np.ndarray, case: str) -> np.ndarray:
        """The numbers of a case's label map; its values themselves where it lacks nothing."""
        if len(self.member) > 256:  # one type for all cases: they share batches
            label = label.astype(np.int16)
        return label + label.dtype.type(self.step * self.places.get(case, 0))

    def swapped(self, pairs: Sequence[tuple[int, int]]) -> dict[int, int]:
        """number -> the one that takes its place where left and right change sides.

        Args:
            pairs: label values (left, right).

        Raises:
            BadInput: a number has none: the regions of the two sides are not built alike.
        """
        order = list(range(len(self.labels)))
        for left, right in pairs:
            a, b = self.labels.index(left), self.labels.index(right)
            order[a], order[b] = b, a
        meaning = np.concatenate([self.member, self.known], axis=1)
        turned = np.concatenate([self.member[:, order], self.known[:, order]], axis=1)
        partners = {}
        for number, row in enumerate(turned):
            if np.array_equal(row, meaning[number]):
                continue
            same = np.flatnonzero((meaning == row).all(axis=1))
            if not same.size:
                raise BadInput(
                    "Left and right regions cannot change places: a value of the one side has no "
                    "counterpart on the other.",
                    help="Take the left-right axis out of mirror_axes, and left_right_axis and "
                    "left_right_pairs out of the plan (e2enet plan, train --plan).",
                    code="bad-plan",
                )
            partners[number] = int(same[0])
        return partners


def _sets(dataset: Dataset, names: Sequence[str]) -> list[frozenset[str]]:
    """What cases lack, nothing first; with every set that of its mirror image."""
    named = {dataset.labels[name]: name for name in names}
    other = dict(zip(names, names, strict=True))
    for left, right in mirroring(dataset.labels)[1]:
        other[named[left]], other[named[right]] = named[right], named[left]
    given = {frozenset(lacks) for lacks in dataset.missing.values()}
    given |= {frozenset(other[name] for name in lacks) for lacks in given}
    return [frozenset(), *sorted(given, key=sorted)]


def _block(
    dataset: Dataset, names: Sequence[str], missing: frozenset[str], step: int
) -> tuple[np.ndarray, np.ndarray]:
    """(step, outputs) member and known of the cases that lack these structures."""
    structures = dataset.structures
    first = 0 if dataset.regions else 1  # the background is an output of its own
    member = np.zeros((step, first + len(names)), bool)
    for number, name in enumerate(names, first):
        member[list(structures.values[name]), number] = True
    lacks = [number for number, name in enumerate(names, first) if name in missing]
    known = np.ones_like(member)
    if dataset.regions:
        known[:, lacks] = False
    else:
        # What has a label is nothing else; what has none may be one of those nobody drew.
        member[0, 0] = not lacks
        if lacks:
            known[0, [0, *lacks]] = False
    known[step - 1] = dataset.ignore is None
    return member & known, known
