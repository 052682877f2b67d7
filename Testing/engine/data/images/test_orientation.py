"""Orientation: LPS as SimpleITK has it, and exactly back, for every grid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.data.images.orientation import to_canonical
from e2enet.data.images.volume import Grid, Volume
from hypothesis import given, settings
from hypothesis import strategies as st

SIGNED_PERMUTATIONS = [
    np.eye(3)[:, list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def volume(direction: np.ndarray) -> Volume:
    grid = Grid((4, 5, 6), (0.5, 1.25, 3.0), (10.0, -20.0, 30.0), tuple(np.ravel(direction)))
    return Volume(np.arange(120).reshape(6, 5, 4), grid)


@st.composite
def directions(draw: st.DrawFn) -> np.ndarray:
    """Any orthonormal matrix, right- or left-handed."""
    q = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 4)))
    if np.linalg.norm(q) < 0.1:
        q = np.array([1.0, 0, 0, 0])
    w, x, y, z = q / np.linalg.norm(q)
    matrix = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return np.round(matrix, 12) * draw(st.sampled_from([1, -1]))


@pytest.mark.parametrize("direction", SIGNED_PERMUTATIONS)
def test_axis_aligned_grids_agree_with_simpleitk(direction: np.ndarray) -> None:
    own = volume(direction)
    turned, undo = to_canonical(own)
    expected = sitk.DICOMOrient(own.grid.image(own.array), "LPS")
    np.testing.assert_array_equal(turned.array, sitk.GetArrayFromImage(expected))
    assert turned.grid.same_as(Grid.from_image(expected), 1e-9)
    np.testing.assert_array_equal(undo(turned.array), own.array)
    np.testing.assert_allclose(np.reshape(turned.grid.direction, (3, 3)), np.eye(3))


@settings(max_examples=150, deadline=None)
@given(directions())
def test_any_grid_returns_exactly(direction: np.ndarray) -> None:
    own = volume(direction)
    turned, undo = to_canonical(own)
    assert undo.grid == own.grid
    np.testing.assert_array_equal(undo(turned.array), own.array)
    two_channels = np.stack([turned.array, -turned.array])
    np.testing.assert_array_equal(undo(two_channels), np.stack([own.array, -own.array]))


@settings(max_examples=150, deadline=None)
@given(directions())
def test_voxels_stay_where_they_are_in_the_patient(direction: np.ndarray) -> None:
    own = volume(direction)
    turned, _ = to_canonical(own)
    before = own.grid.image(own.array)
    after = turned.grid.image(turned.array)
    for index in [(0, 0, 0), (1, 2, 3), tuple(n - 1 for n in turned.grid.size_xyz)]:
        point = after.TransformIndexToPhysicalPoint(index)
        assert before[before.TransformPhysicalPointToIndex(point)] == after[index]


@settings(max_examples=60, deadline=None)
@given(directions())
def test_storage_order_does_not_matter(direction: np.ndarray) -> None:
    """The same voxels stored with other axes come out the same."""
    own = volume(direction)
    first, _ = to_canonical(own)
    cosines = np.abs(direction)
    sums = [cosines[range(3), list(order)].sum() for order in itertools.permutations(range(3))]
    if (
        np.diff(np.sort(sums))[-1] < 1e-3
        or np.sort(np.abs(np.diag(np.reshape(first.grid.direction, (3, 3)))))[0] < 1e-3
    ):
        return  # Halfway between two axes: either is as near.
    image = sitk.PermuteAxes(own.grid.image(own.array), (2, 0, 1))[::-1, :, ::-1]
    second, _ = to_canonical(Volume(sitk.GetArrayFromImage(image), Grid.from_image(image)))
    np.testing.assert_array_equal(second.array, first.array)
    assert second.grid.same_as(first.grid, 1e-6)
