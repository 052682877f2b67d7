"""The convolution kernel against PyTorch's in float64, between borders nobody may cross."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from e2enet.runtime.kernels import convolution
from e2enet.runtime.kernels.accumulation import WIDE
from e2enet.runtime.kernels.layers import conv_lists
from e2enet.runtime.kernels.memory import identity
from e2enet.runtime.kernels.records import Source, Target
from e2enet.runtime.kernels.winograd import TILE, plane_matrix, transform_kernels
from hypothesis import given, settings
from hypothesis import strategies as st

from ..maps import ROUNDING, Laid, activated, made_affine, stored


def wanted_maps(
    maps: np.ndarray, weight: np.ndarray, shifts: np.ndarray, stride: tuple[int, int, int]
) -> np.ndarray:
    """(C, D, H, W) -> (O, D', H', W'): shift, then a (1, 3, 3) convolution."""
    moved = np.zeros_like(maps)
    depth = maps.shape[1]
    for channel, delay in enumerate(shifts):
        for d in range(max(0, delay), min(depth, depth + delay)):
            moved[channel, d] = maps[channel, d - delay]
    slices = torch.from_numpy(moved[:, :: stride[0]].swapaxes(0, 1).copy())
    y = F.conv2d(slices, torch.from_numpy(weight.astype(float)), None, stride[1:], 1)
    return y.numpy().swapaxes(0, 1)


def largest(maps: np.ndarray) -> np.ndarray:
    """Largest magnitude in each map."""
    return np.asarray(np.abs(maps).max(axis=(1, 2, 3), initial=0))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 14), st.integers(1, 140)),
    stride=st.tuples(*[st.integers(1, 4)] * 3),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 13)),
    density=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
    reach=st.integers(0, 3),
    cuts=st.integers(1, 3),
    precision=st.sampled_from(["float32", "float16", "bfloat16"]),
    seed=st.integers(0, 2**16),
)
def test_equals_the_direct_sum(
    shape: tuple[int, int, int],
    stride: tuple[int, int, int],
    channels: tuple[int, int],
    density: float,
    reach: int,
    cuts: int,
    precision: str,
    seed: int,
) -> None:
    paired = precision == "bfloat16"
    kind, voxel = stored(precision)
    random = np.random.default_rng(seed)
    inputs, outputs = channels
    live = random.random((outputs, inputs)) < density
    weight = random.normal(size=(outputs, inputs, 3, 3)).astype(np.float32)
    weight *= live[..., None, None]
    needed = random.random(outputs) < 0.8
    lists = conv_lists(live, needed)
    values = random.normal(size=(inputs, *shape)).astype(voxel)
    affine = made_affine(random, inputs)
    shifts = random.integers(-reach, reach + 1, inputs)
    wanted = wanted_maps(activated(values, affine), weight, shifts, stride)

    source = Laid.of(values, kind=voxel)
    target = Laid.room(len(lists.written), wanted.shape[1:], kind=voxel)
    kernels = lists.kernels(weight, paired=paired)
    factors = np.full((36, kernels.shape[1] // (2 if paired else 1)), np.nan, np.float32)
    put = factors.view(np.int32) if paired else factors
    transform_kernels((0, kernels.shape[1] // 16), plane_matrix(), kernels, put)
    scratch = convolution.scratch(len(lists.read), len(lists.written), paired=paired)
    for one in scratch[:4]:
        one.view(np.float32)[:] = np.nan
    sums = np.zeros((len(lists.written), 2))
    depth, height, width = shape
    tiles = -(-height // TILE) * -(-width // TILE)
    # In parts of the slices, and these in portions, as threads and slabs do it.
    out_depth = wanted.shape[1]
    middle = out_depth // cuts
    for first, last in [(middle, out_depth), (0, middle)]:
        blocks = -(-(last - first) * tiles // WIDE)
        for portion in [(0, blocks // 2), (blocks // 2, blocks)]:
            convolution.convolve(
                portion, (first, last - first, depth, height, width), stride,
                Source(source.addresses[lists.read], affine[lists.read], kind), shifts[lists.read],
                lists.live, lists.grouped, factors,
                Target(target.addresses, np.zeros(len(lists.written), np.int64), out_depth, kind),
                sums, scratch,
            )  # fmt: skip

    found = np.array(target.maps).reshape(len(lists.written), *wanted.shape[1:])
    wanted = wanted[lists.written]
    filtering = 3 if paired else 1  # how much minimal filtering makes of a rounding
    most = (np.abs(weight).sum(axis=(2, 3)) @ largest(activated(values, affine)))[lists.written]
    assert (largest(found - wanted) <= filtering * ROUNDING[precision] * most + 2e-4).all()
    target.assert_gaps_untouched()
    if precision == "bfloat16":  # added up before they were rounded to float16
        wanted = found.astype(float)
    loose = 0 if precision == "float32" else 2**-10
    for column, added in ((0, wanted), (1, np.square(wanted))):
        near = 2e-2 + (1e-4 + loose) * np.abs(added).sum(axis=(1, 2, 3))
        assert (np.abs(sums[:, column] - added.sum(axis=(1, 2, 3))) <= near).all()


def test_moved_maps_lose_the_slices_that_leave() -> None:
    random = np.random.default_rng(0)
    weight = random.normal(size=(3, 2, 3, 3)).astype(np.float32)
    lists = conv_lists(np.ones((3, 2), bool), np.ones(3, bool))
    values = random.normal(size=(2, 4, 6, 20)).astype(np.float32)
    source, target = Laid.of(values), Laid.room(3, (4, 6, 20), 5.0)
    kernels = lists.kernels(weight)
    factors = np.zeros((36, kernels.shape[1]), np.float32)
    transform_kernels((0, kernels.shape[1] // 16), plane_matrix(), kernels, factors)
    moves = np.array([-1, 0, 2])
    convolution.convolve(
        (0, -(-4 * 2 * 5 // WIDE)), (0, 4, 4, 6, 20), (1, 1, 1),
        Source(source.addresses, identity(2)), np.zeros(2, np.int64), lists.live, lists.grouped,
        factors, Target(target.addresses, moves, 4), np.zeros((3, 2)), convolution.scratch(2, 3),
    )  # fmt: skip
    target.assert_gaps_untouched()
    wanted = wanted_maps(values.astype(float), weight, np.zeros(2, int), (1, 1, 1))
    for number, output in enumerate(lists.written):
        moved = np.full((4, 6, 20), 5.0)
        for d in range(4):
            if 0 <= d + moves[number] < 4:
                moved[d + moves[number]] = wanted[output, d]
        np.testing.assert_allclose(target.maps[number], moved, atol=1e-4)
