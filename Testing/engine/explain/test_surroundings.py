"""The voxels around what was found, against distances measured one by one."""

from __future__ import annotations

import numpy as np
import pytest
from e2enet.explain.surroundings import bounds, surroundings
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


@settings(max_examples=60, deadline=None)
@given(
    label=hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
        elements=st.sampled_from([0, 0, 0, 0, 1, 3]),
    ),
    spacing=st.tuples(*[st.sampled_from([0.5, 1.0, 1.7, 4.0])] * 3),
    margin=st.sampled_from([0.4, 1.0, 2.5, 6.0]),
)
def test_distances_of_all_pairs(label, spacing, margin):
    found = surroundings(label, spacing, margin=margin)
    inside = np.argwhere(label) * spacing
    if not len(inside):
        assert found is None
        return
    every = np.argwhere(np.ones(label.shape, bool)) * spacing
    nearest = np.linalg.norm(every[:, None] - inside[None], axis=2).min(axis=1)
    expected = nearest.reshape(label.shape) <= margin + 1e-4
    np.testing.assert_array_equal(found, expected)


def test_the_margin_is_in_millimetres():
    label = np.zeros((9, 30, 30), np.uint8)
    label[4, 15, 15] = 2
    near = surroundings(label, (5.0, 1.0, 1.0))
    assert np.flatnonzero(near[:, 15, 15]).tolist() == [3, 4, 5]
    assert np.flatnonzero(near[4, :, 15]).tolist() == list(range(9, 22))


@pytest.mark.parametrize("places", [[(0, 0, 0)], [(1, 2, 3), (3, 2, 0)]])
def test_the_box_around_voxels(places):
    mask = np.zeros((4, 5, 6), bool)
    for place in places:
        mask[place] = True
    box = bounds(mask)
    assert box is not None
    assert mask[box].sum() == len(places)
    for axis, part in enumerate(box):
        sides = [place[axis] for place in places]
        assert (part.start, part.stop) == (min(sides), max(sides) + 1)


def test_no_box_around_nothing():
    assert bounds(np.zeros((2, 3, 4), bool)) is None
