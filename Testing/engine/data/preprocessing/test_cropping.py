"""The crop to what is not background."""

from __future__ import annotations

import numpy as np
import pytest
from e2enet.data.preprocessing.cropping import background_of, bounding_box, fill_holes, occupied


@pytest.mark.parametrize("background", [0.0, -5.25, 1000.0])
def test_constant_surroundings_are_cut(background: float) -> None:
    array = np.full((8, 9, 10), background, np.float32)
    array[2:5, 3:9, 1:4] = np.random.default_rng(0).normal(size=(3, 6, 3))
    assert background_of(array) == background
    assert bounding_box(occupied([array])) == ((2, 5), (3, 9), (1, 4))


def test_corners_that_differ_mean_zero() -> None:
    array = np.full((4, 4, 4), 7.0)
    array[0, 0, 0] = 1
    assert background_of(array) == 0
    assert bounding_box(occupied([array])) == ((0, 4),) * 3


def test_channels_are_joined_and_empty_images_stay_whole() -> None:
    first, second = np.zeros((2, 6, 6, 6))
    first[1, 2, 3] = 1
    second[4, 2, 5] = 1
    assert bounding_box(occupied([first, second])) == ((1, 5), (2, 3), (3, 6))
    assert bounding_box(occupied([np.zeros((3, 4, 5))])) == ((0, 3), (0, 4), (0, 5))


def test_holes_are_filled() -> None:
    mask = np.zeros((7, 7, 7), bool)
    mask[1:6, 1:6, 1:6] = True
    solid = mask.copy()
    mask[3, 3, 3] = False
    np.testing.assert_array_equal(fill_holes(mask), solid)
