"""Going back to the image's voxels equals resampling the whole array at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from e2enet.data.preprocessing.resampling import resample_image
from e2enet.inference.case.axes import Axis
from e2enet.inference.case.restoring import LabelWriter
from e2enet.inference.sliding_window.arrays import copied
from hypothesis import given, settings
from hypothesis import strategies as st

sizes = st.tuples(*[st.integers(1, 9)] * 3)


def written(probabilities, axes, blocks, kind=torch.from_numpy):
    """Labels and foreground probabilities of (K, D, H, W), fed in blocks of slices."""
    shape = tuple(len(axis.lower) for axis in axes)
    labels = np.full(shape, 99, np.uint8)
    kept = np.full((probabilities.shape[0] - 1, *shape), np.nan, np.float32)
    writer = LabelWriter(axes, values=[0, 1, 2], labels=labels, probabilities=kept)
    slices = kind(np.ascontiguousarray(probabilities.swapaxes(0, 1)))
    for first in range(0, len(slices), blocks):
        # What was handed over is overwritten, as a predictor may do.
        buffer = copied(slices[first : first + blocks])
        writer.add(buffer)
        buffer[:] = -1
    assert writer.finished
    return labels, kept


@settings(max_examples=60, deadline=None)
@given(
    n_in=sizes,
    n_out=sizes,
    block=st.integers(1, 4),
    kind=st.sampled_from([np.asarray, torch.from_numpy]),
)
def test_slices_do_not_show(n_in, n_out, block, kind):
    """Neither of arrays, as a CPU makes them, nor of tensors."""
    random = np.random.default_rng(0)
    probabilities = random.dirichlet((1, 1, 1), n_in).transpose(3, 0, 1, 2).astype(np.float32)
    axes = [Axis.between(a, b) for a, b in zip(n_in, n_out, strict=False)]
    labels, kept = written(probabilities, axes, block, kind)
    whole = F.interpolate(
        torch.from_numpy(probabilities)[None], n_out, mode="trilinear", align_corners=False
    )[0].numpy()
    np.testing.assert_allclose(kept, whole[1:], atol=1e-5)
    best = np.sort(whole, axis=0)
    clear = best[-1] - best[-2] > 1e-4
    np.testing.assert_array_equal(labels[clear], whole.argmax(axis=0)[clear])


@given(st.integers(1, 12), st.integers(1, 12))
def test_nearest_is_the_way_images_go(n_in, n_out):
    values = np.arange(n_in, dtype=np.float32).reshape(n_in, 1, 1)
    axis = Axis.between(n_in, n_out, nearest=True)
    expected = resample_image(values, (n_out, 1, 1), nearest_axis=0).ravel()
    np.testing.assert_array_equal(axis.lower, expected)
    np.testing.assert_array_equal(axis.upper, expected)


@settings(max_examples=40, deadline=None)
@given(n_in=sizes, n_out=sizes, data=st.data())
def test_a_part_equals_the_same_part_of_the_whole(n_in, n_out, data):
    random = np.random.default_rng(1)
    probabilities = random.dirichlet((1, 1, 1), n_in).transpose(3, 0, 1, 2).astype(np.float32)
    axes = [Axis.between(a, b) for a, b in zip(n_in, n_out, strict=False)]
    _, whole = written(probabilities, axes, 2)
    limits = []
    for n in n_out:
        start = data.draw(st.integers(0, n - 1))
        limits.append((start, data.draw(st.integers(start + 1, n))))
    parts = [axis.part(*limit) for axis, limit in zip(axes, limits, strict=False)]
    needed = tuple(slice(*axis.span) for axis in parts)
    moved = [axis.moved(part.start) for axis, part in zip(parts, needed, strict=False)]
    _, kept = written(probabilities[(slice(None), *needed)], moved, 3)
    inside = tuple(slice(*limit) for limit in limits)
    np.testing.assert_allclose(kept, whole[(slice(None), *inside)], atol=1e-6)


def test_values_and_a_strided_target():
    canvas = np.zeros((4, 3, 2), np.uint8)
    target = canvas.transpose(2, 1, 0)[:, 1:]
    probabilities = np.zeros((2, 2, 2, 4), np.float32)
    probabilities[1] = 1
    axes = [Axis.between(n, n) for n in target.shape]
    writer = LabelWriter(axes, values=[0, 7], labels=target)
    writer.add(torch.from_numpy(probabilities.swapaxes(0, 1).copy()))
    assert (canvas[:, 1:] == 7).all()
    assert (canvas[:, 0] == 0).all()


def test_a_target_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="shape"):
        LabelWriter([Axis.between(2, 2)] * 3, values=[0, 1], labels=np.zeros((2, 2, 3), np.uint8))


@given(n_in=sizes, n_out=sizes, kind=st.sampled_from([np.asarray, torch.from_numpy]))
@settings(max_examples=20, deadline=None)
def test_of_regions_the_last_one_above_a_half_is_written(n_in, n_out, kind):
    p = np.random.default_rng(1).random((2, *n_in), dtype=np.float32)
    axes = [Axis.between(a, b) for a, b in zip(n_in, n_out, strict=True)]
    labels, kept = np.full(n_out, 99, np.uint8), np.zeros((2, *n_out), np.float32)
    writer = LabelWriter(axes, values=[3, 1], labels=labels, probabilities=kept, regions=True)
    writer.add(kind(np.ascontiguousarray(p.swapaxes(0, 1))))
    whole = F.interpolate(torch.from_numpy(p)[None], n_out, mode="trilinear", align_corners=False)[
        0
    ].numpy()
    np.testing.assert_allclose(kept, whole, atol=1e-5)
    clear = (np.abs(whole - 0.5) > 1e-4).all(axis=0)
    expected = np.where(whole[1] > 0.5, 1, np.where(whole[0] > 0.5, 3, 0))
    np.testing.assert_array_equal(labels[clear], expected[clear])
