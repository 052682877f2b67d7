"""Surfaces and their distances against slow definitions and MONAI."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from e2enet.evaluation.metrics.surface import SurfaceDistances, surface, surface_distances
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

SHAPE = (4, 5, 6)
masks = hnp.arrays(bool, SHAPE)
spacings = st.tuples(*[st.sampled_from([0.3, 1.0, 2.5, 7.0])] * 3)


def corner():
    mask = np.zeros(SHAPE, bool)
    mask[0, 0, 0] = True
    return mask


def slow_surface(mask, edge):
    """Voxel by voxel: inside, with a neighbour across a face that is outside."""
    found = np.zeros_like(mask)
    for at in zip(*np.nonzero(mask), strict=True):
        for axis, step in itertools.product(range(3), (-1, 1)):
            beside = list(at)
            beside[axis] += step
            if 0 <= beside[axis] < mask.shape[axis]:
                found[at] |= not mask[tuple(beside)]
            else:
                found[at] |= edge
    return found


def slow_distances(ours, theirs, spacing):
    a, b = (np.argwhere(points) * spacing for points in (ours, theirs))
    return np.sort(np.linalg.norm(a[:, None] - b[None], axis=2).min(axis=1))


@settings(deadline=None)
@given(masks, st.booleans())
def test_the_surface_is_what_touches_the_outside(mask, edge):
    assert np.array_equal(surface(mask, edge=edge), slow_surface(mask, edge))


@settings(max_examples=60, deadline=None)
@given(masks, masks, spacings, st.booleans())
@example(np.ones(SHAPE, bool), ~corner(), (1.0, 1.0, 1.0), True)
def test_distances_are_those_of_all_pairs(prediction, reference, spacing, edge):
    found = surface_distances(prediction, reference, spacing, edge=edge)
    ours, theirs = slow_surface(prediction, edge), slow_surface(reference, edge)
    if not ours.any() or not theirs.any():
        assert found is None
        return
    assert found is not None
    to_reference = slow_distances(ours, theirs, spacing)
    to_prediction = slow_distances(theirs, ours, spacing)
    assert np.allclose(np.sort(found.to_reference), to_reference, rtol=1e-5, atol=1e-5)
    assert np.allclose(np.sort(found.to_prediction), to_prediction, rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(masks, masks, spacings)
def test_monai_finds_the_same(prediction, reference, spacing):
    assume(prediction.any() and reference.any())
    found = surface_distances(prediction, reference, spacing, edge=True)
    assert found is not None
    ours, theirs = (torch.from_numpy(mask.copy())[None, None] for mask in (prediction, reference))
    for percentile, value in ((None, found.largest), (95, found.percentile(95))):
        theirs_value = compute_hausdorff_distance(
            ours, theirs, include_background=True, percentile=percentile, spacing=list(spacing)
        )
        assert value == pytest.approx(float(theirs_value), rel=1e-5, abs=1e-5)
    tolerance = 1.1  # no distance of these grids, which a rounding could push over
    theirs_value = compute_surface_dice(
        ours, theirs, [tolerance], include_background=True, spacing=list(spacing)
    )
    assert found.within(tolerance) == pytest.approx(float(theirs_value), rel=1e-5, abs=1e-5)


def test_each_summary_by_its_definition():
    """Directions of unlike length, so that pooling and averaging differ."""
    found = SurfaceDistances(np.array([0.0, 0.0, 0.0, 4.0]), np.array([10.0]))
    assert found.largest == 10
    assert found.pooled_mean == pytest.approx(14 / 5)
    assert found.mean_of_means == pytest.approx((1 + 10) / 2)
    assert found.percentile(95) == 10  # pooled it would be 8.8
    assert found.percentile(50) == 10
    assert found.within(4) == pytest.approx(4 / 5)  # the tolerance itself is within
