"""Lesion-wise F1 against a flood fill."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from e2enet.evaluation.metrics.lesions import lesion_f1
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

masks = hnp.arrays(bool, (3, 4, 5))


def slow_pieces(mask):
    left, pieces = {tuple(map(int, at)) for at in np.argwhere(mask)}, []
    while left:
        piece, todo = set(), [left.pop()]
        while todo:
            at = todo.pop()
            piece.add(at)
            for step in itertools.product((-1, 0, 1), repeat=3):
                beside = tuple(a + s for a, s in zip(at, step, strict=True))
                if beside in left:
                    left.remove(beside)
                    todo.append(beside)
        pieces.append(piece)
    return pieces


@settings(deadline=None)
@given(masks, masks)
def test_pieces_by_flood_fill(prediction, reference):
    ours, theirs = slow_pieces(prediction), slow_pieces(reference)
    found = sum(any(piece & other for other in ours) for piece in theirs)
    false = sum(not any(piece & other for other in theirs) for piece in ours)
    total = 2 * found + (len(theirs) - found) + false
    score = lesion_f1(prediction, reference)
    assert math.isnan(score) if not total else score == pytest.approx(2 * found / total)


def test_one_of_two_lesions_found_and_a_false_one():
    prediction, reference = np.zeros((3, 3, 9), bool), np.zeros((3, 3, 9), bool)
    reference[1, 1, [0, 4]] = True
    prediction[1, 1, [0, 8]] = True
    assert lesion_f1(prediction, reference) == pytest.approx(0.5)
