"""Resampling: shapes, extents, and what must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e2enet.data.preprocessing.resampling import (
    coarse_axis,
    new_shape,
    resample_image,
    resample_label,
)
from hypothesis import given, settings
from hypothesis import strategies as st

SHAPES = st.tuples(*[st.integers(1, 12)] * 3)
AXES = st.sampled_from([None, 0, 1, 2])


@settings(max_examples=100, deadline=None)
@given(SHAPES, SHAPES, AXES, st.integers(0, 99))
def test_shapes_and_values(old: tuple, new: tuple, axis: int | None, seed: int) -> None:
    random = np.random.default_rng(seed)
    image = random.normal(size=(2, *old)).astype(np.float32)
    result = resample_image(image, new, nearest_axis=axis)
    assert result.shape == (2, *new)
    assert result.dtype == np.float32
    np.testing.assert_allclose(
        resample_image(np.full(old, 3.5, np.float32), new, nearest_axis=axis), 3.5, rtol=1e-5
    )
    label = random.integers(0, 4, old).astype(np.uint8)
    values = resample_label(label, new, nearest_axis=axis)
    assert values.shape == tuple(new)
    assert values.dtype == np.uint8
    assert set(np.unique(values)) <= set(np.unique(label))


@settings(max_examples=60, deadline=None)
@given(SHAPES, SHAPES, AXES)
def test_mirrored_input_gives_mirrored_output(old: tuple, new: tuple, axis: int | None) -> None:
    image = np.random.default_rng(0).normal(size=old).astype(np.float32)
    for flipped in range(3):
        if flipped == axis:
            continue  # Of two slices equally near the first is taken.
        one = np.flip(resample_image(image, new, nearest_axis=axis), flipped)
        other = resample_image(np.flip(image, flipped), new, nearest_axis=axis)
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_same_voxel_centres_as_torch() -> None:
    """Linear interpolation is torch's, which stands for the convention of voxel centres."""
    label = (np.random.default_rng(1).random((5, 6, 7)) > 0.5).astype(np.uint8)
    for shape in [(8, 6, 3), (5, 13, 14), (10, 12, 14)]:
        share = torch.nn.functional.interpolate(
            torch.from_numpy(label)[None, None].float(), size=shape, mode="trilinear"
        )[0, 0].numpy()
        certain = np.abs(share - 0.5) > 1e-4
        found = resample_label(label, shape)
        np.testing.assert_array_equal(found[certain], (share > 0.5)[certain])


def test_cubic_is_exact_on_straight_and_curved_lines() -> None:
    at = np.arange(20.0)
    image = np.broadcast_to((0.1 * at**2 - at + 3)[:, None, None], (20, 3, 3)).astype(np.float32)
    result = resample_image(image, (40, 3, 3))[:, 1, 1]
    where = (np.arange(40) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(result[4:-4], (0.1 * where**2 - where + 3)[4:-4], atol=1e-4)


def test_parts_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(2).normal(size=(2, 9, 10, 11)).astype(np.float32)
    whole = resample_image(image, (13, 8, 21))
    monkeypatch.setattr("e2enet.data.preprocessing.resampling._PART", 50)
    np.testing.assert_array_equal(resample_image(image, (13, 8, 21)), whole)


def test_nearest_slices() -> None:
    image = np.random.default_rng(3).normal(size=(4, 6, 6)).astype(np.float32)
    result = resample_image(image, (8, 6, 6), nearest_axis=0)
    np.testing.assert_array_equal(result, np.repeat(image, 2, axis=0))


def test_coarse_axis() -> None:
    assert coarse_axis((7.7, 1.25, 1.25), (7.7, 1.25, 1.25)) == 0
    assert coarse_axis((1, 1, 3.5), (1, 1, 1)) == 2
    assert coarse_axis((1, 1, 1), (5, 1, 1)) == 0
    assert coarse_axis((3, 1, 1), (1, 1, 1)) is None
    assert coarse_axis((0.2, 1, 1), (1, 1, 1)) is None


def test_new_shape() -> None:
    assert new_shape((35, 50, 36), (1, 1, 1), (1, 1, 1)) == (35, 50, 36)
    assert new_shape((10, 10, 10), (5.0, 1.0, 0.01), (2.5, 2.0, 1.0)) == (20, 5, 1)


def test_a_label_survives_there_and_back() -> None:
    z, y, x = np.indices((24, 24, 24))
    label = ((z - 12) ** 2 + (y - 12) ** 2 + (x - 12) ** 2 < 64).astype(np.uint8) * 3
    back = resample_label(resample_label(label, (36, 36, 36)), (24, 24, 24))
    dice = 2 * ((back == 3) & (label == 3)).sum() / ((back == 3).sum() + (label == 3).sum())
    assert dice > 0.98
