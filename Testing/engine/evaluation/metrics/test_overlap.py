"""Dice and counts by their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from e2enet.evaluation.metrics.overlap import Counts, dice
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

maps = hnp.arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 3))
masks = hnp.arrays(bool, (2, 3, 4))


@settings(deadline=None)
@given(maps, maps)
def test_dice_is_that_of_sets(prediction, reference):
    for value, score in dice(prediction, reference, range(1, 5)).items():
        a = set(np.flatnonzero(prediction == value))
        b = set(np.flatnonzero(reference == value))
        if a or b:
            assert score == pytest.approx(2 * len(a & b) / (len(a) + len(b)))
        else:
            assert math.isnan(score)


@settings(deadline=None)
@given(masks, masks)
def test_counts_are_those_of_every_voxel(prediction, reference):
    counts = Counts.of(prediction, reference)
    voxels = list(zip(prediction.ravel(), reference.ravel(), strict=True))
    assert (counts.tp, counts.fp) == (voxels.count((1, 1)), voxels.count((1, 0)))
    assert (counts.fn, counts.tn) == (voxels.count((0, 1)), voxels.count((0, 0)))
    either = np.count_nonzero(prediction | reference)
    if either:
        assert counts.iou == pytest.approx(np.count_nonzero(prediction & reference) / either)
    else:
        assert math.isnan(counts.iou)


def test_shapes_that_differ():
    with pytest.raises(ValueError, match="shapes differ"):
        dice(np.zeros((2, 2)), np.zeros((2, 3)), [1])
