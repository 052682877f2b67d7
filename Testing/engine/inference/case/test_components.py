"""Only the largest part stays, whatever labels it is made of."""

from __future__ import annotations

import numpy as np
from e2enet.inference.case.components import keep_largest


def test_islands_go_and_the_structure_with_all_its_labels_stays():
    labels = np.zeros((8, 9, 10), np.uint8)
    labels[1:4, 2:5, 2:5] = 1
    labels[4, 5, 5] = 2  # touches the block by a corner only
    wanted = labels.copy()
    labels[7, 8, 9] = 2
    labels[0, 0, 0:3] = 1
    assert keep_largest(labels) == 4
    np.testing.assert_array_equal(labels, wanted)


def test_a_view_is_changed_in_place_and_nothing_is_fine():
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[0, 0, 0], labels[2:4, 3:5, 3:5] = 1, 1
    assert keep_largest(labels[:, ::-1]) == 1
    assert labels[0, 0, 0] == 0
    assert labels.sum() == 8
    assert keep_largest(np.zeros((2, 3, 4), np.uint8)) == 0


def test_one_label_is_cleaned_and_the_others_are_left_alone():
    labels = np.array([[[1, 1, 0, 1, 2, 0, 2]]], np.uint8)
    assert keep_largest(labels, [1]) == 1
    assert labels.tolist() == [[[1, 1, 0, 0, 2, 0, 2]]]
