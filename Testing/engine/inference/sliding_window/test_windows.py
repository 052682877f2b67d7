"""Windows cover every voxel, never reach out of the padded image and overlap enough."""

from __future__ import annotations

import numpy as np
import pytest
from e2enet.inference.sliding_window.windows import AxisWindows, cut_window, profile, starts
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 80), st.integers(1, 30), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_windows_cover_the_axis(size, patch, overlap):
    axis = AxisWindows.over(size, patch, overlap)
    assert axis.starts[0] == 0
    assert axis.starts[-1] + patch == axis.padded == max(size, patch)
    steps = np.diff(axis.starts)
    assert (steps > 0).all()
    # Rounding moves a window by up to half a voxel.
    assert (steps <= max(1, patch * (1 - overlap)) + 1).all()
    assert (axis.total > 0).all()


def test_starts_by_hand():
    assert starts(10, 4) == [0, 2, 4, 6]
    assert starts(4, 4) == [0]
    assert starts(9, 4) == [0, 2, 3, 5]


def test_an_axis_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match="padded"):
        starts(3, 4)


@pytest.mark.parametrize("patch", [1, 2, 7, 64])
def test_profile_is_symmetric_and_positive(patch):
    weights = profile(patch)
    np.testing.assert_array_equal(weights, weights[::-1])
    assert weights.max() == 1
    assert weights.min() >= np.float32(1e-3)


def test_cut_window_fills_with_zeros():
    image = np.arange(1, 9, dtype=np.float32).reshape(1, 2, 2, 2)
    window = cut_window(image, (-1, 0, 1), (4, 2, 2))
    expected = np.zeros((1, 4, 2, 2), np.float32)
    expected[:, 1:3, :, :1] = image[:, :, :, 1:]
    np.testing.assert_array_equal(window, expected)
