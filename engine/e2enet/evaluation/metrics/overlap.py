"""Voxels that prediction and reference share.

Dice, Ecology 1945: twice the voxels that both call a label over the sum of those that either does.
A label that both leave out has no Dice (NaN) and is left out of every mean; one that only one of
them has counts 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counts:
    """Voxels by what prediction and reference say of them.

    Args:
        tp, fp, fn, tn: in both, only in the prediction, only in the reference, in neither.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @classmethod
    def of(cls, prediction: np.ndarray, reference: np.ndarray) -> Counts:
        """Counts of two boolean arrays of one shape."""
        predicted, wanted = int(np.count_nonzero(prediction)), int(np.count_nonzero(reference))
        both = int(np.count_nonzero(prediction & reference))
        return cls(
            both, predicted - both, wanted - both, prediction.size - predicted - wanted + both
        )

    @property
    def predicted(self) -> int:
        """Voxels of the prediction."""
        return self.tp + self.fp

    @property
    def wanted(self) -> int:
        """Voxels of the reference."""
        return self.tp + self.fn

    @property
    def dice(self) -> float:
        """Dice; NaN where both are empty."""
        size = self.predicted + self.wanted
        return 2 * self.tp / size if size else math.nan

    @property
    def iou(self) -> float:
        """Intersection over union; NaN where both are empty."""
        union = self.tp + self.fp + self.fn
        return self.tp / union if union else math.nan


def dice(prediction: np.ndarray, reference: np.ndarray, values: Iterable[int]) -> dict[int, float]:
    """Dice of each label value; NaN where neither array holds it.

    Args:
        prediction, reference: Whole numbers, of one shape (D, H, W).
        values: Labels to compare.

    Example:
        >>> dice(np.array([1, 1, 0]), np.array([1, 0, 0]), [1, 2])
        {1: 0.6666666666666666, 2: nan}
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"shapes differ: {prediction.shape} and {reference.shape}")
    return {int(value): Counts.of(prediction == value, reference == value).dice for value in values}


def mean(scores: Iterable[float]) -> float:
    """Mean without NaN; NaN of nothing."""
    defined = [score for score in scores if not math.isnan(score)]
    return sum(defined) / len(defined) if defined else math.nan
