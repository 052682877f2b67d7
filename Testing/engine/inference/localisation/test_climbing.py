"""Rotations against SimpleITK's, and a way back to where the information is largest."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.inference.localisation.climbing import climb_affine, climb_similarity, rotation
from e2enet.inference.localisation.information import Affine, Field, Information
from hypothesis import given, settings
from hypothesis import strategies as some


@settings(max_examples=20, deadline=None)
@given(some.tuples(*[some.floats(-1.8, 1.8)] * 3))
def test_a_rotation_is_that_of_a_versor(vector) -> None:
    angle = float(np.linalg.norm(vector))
    expected = np.eye(3)
    if angle > 1e-6:
        versor = sitk.VersorTransform(vector, angle)
        expected = np.reshape(versor.GetMatrix(), (3, 3))
    assert np.allclose(rotation(np.array(vector)), expected, atol=1e-5)


@pytest.mark.parametrize("climb", [climb_similarity, climb_affine])
def test_finds_the_way_back(climb) -> None:
    """An image of blobs is laid over itself, from a place, a turn and a size beside it."""
    noise = sitk.GetImageFromArray(np.random.default_rng(4).normal(size=(24, 26, 28)))
    image = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(noise, 2.0))
    points = np.argwhere(np.ones(image.shape))[::5, ::-1] * 4.0
    values = image.ravel()[::5]
    inner = (abs(points - (54, 50, 46)) < 36).all(axis=1)
    field = Field(image.astype(np.float32), np.eye(3) / 4.0, np.zeros(3))
    information = Information(points[inner], values[inner], field, 24)
    center = points[inner].mean(axis=0)
    truth = Affine(np.eye(3), np.zeros(3), center)
    start = Affine(1.05 * rotation(np.array([0.06, -0.05, 0.07])), np.array([3.0, -2, 2]), center)
    value, found = climb(information, start, 2.0, 60)
    assert information(start)[0] < value
    assert value == pytest.approx(information(truth)[0], rel=0.05)
    corners = points[inner][::50]
    # A voxel measures 4 mm.
    assert np.abs(found(corners) - corners).max() < 1.5
    assert np.abs(start(corners) - corners).max() > 4.0
