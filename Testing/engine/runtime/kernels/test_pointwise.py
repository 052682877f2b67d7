"""Transposed convolutions, heads and pooling against PyTorch's in float64."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from e2enet.runtime.kernels import pointwise
from e2enet.runtime.kernels.accumulation import PITCH
from e2enet.runtime.kernels.layers import point_layer
from e2enet.runtime.kernels.records import Source
from e2enet.runtime.kernels.vectors import SLACK
from hypothesis import given, settings
from hypothesis import strategies as st

from ..maps import ROUNDING, Laid, activated, made_affine, stored

BOXES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 70))


@settings(max_examples=50, deadline=None)
@given(
    shape=SHAPES,
    box=BOXES,
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 17),
    density=st.sampled_from([0.0, 0.2, 1.0]),
    first=st.integers(0, 3),
    precision=st.sampled_from(["float32", "float16", "bfloat16"]),
    seed=st.integers(0, 2**16),
)
def test_transposed_convolution(
    shape: tuple[int, int, int],
    box: tuple[int, int, int],
    inputs: int,
    outputs: int,
    density: float,
    first: int,
    precision: str,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    kind, voxel = stored(precision)
    paired = precision == "bfloat16"
    weight = random.normal(size=(inputs, outputs, *box)).astype(np.float32)
    weight *= (random.random((inputs, outputs)) < density)[..., None, None, None]
    values = random.normal(size=(inputs, *shape)).astype(voxel)
    affine = made_affine(random, inputs)
    first = min(first, shape[0] - 1)
    layer = point_layer(weight, box, random.random(outputs) < 0.8, paired=paired)
    wanted = F.conv_transpose3d(
        torch.from_numpy(activated(values, affine))[None],
        torch.from_numpy(weight.astype(float)),
        stride=box,
    )[0].numpy()

    source = Laid.of(values, kind=voxel)
    target = Laid.room(len(layer.written), wanted.shape[1:], kind=voxel)
    scratch = pointwise.scratch([layer], paired=paired)
    for one in scratch:
        one.view(np.float32)[:] = np.nan
    depth, height, width = shape
    blocks = -(-(depth - first) * height * width // PITCH)
    for portion in [(blocks // 2, blocks), (0, blocks // 2)]:
        pointwise.expand(
            portion, (first, depth - first, height, width), box,
            Source(source.addresses[layer.read], affine[layer.read], kind), layer.live,
            layer.factors, target.addresses, kind, scratch,
        )  # fmt: skip
    target.assert_gaps_untouched()
    for number, output in enumerate(layer.written):
        skipped = first * box[0]
        most = np.abs(weight[:, output]).max() * np.abs(activated(values, affine)).sum(axis=0).max()
        near = 1e-4 + ROUNDING[precision] * most
        np.testing.assert_allclose(
            target.maps[number][skipped:], wanted[output, skipped:], rtol=0, atol=near
        )
        np.testing.assert_array_equal(target.maps[number][:skipped], target.garbage)


@settings(max_examples=30, deadline=None)
@given(
    shape=SHAPES,
    box=BOXES,
    maps=st.integers(1, 4),
    precision=st.sampled_from(["float32", "float16"]),
    seed=st.integers(0, 2**16),
)
def test_pooling(
    shape: tuple[int, int, int], box: tuple[int, int, int], maps: int, precision: str, seed: int
) -> None:
    """After the norm: the largest voxel before a negative scale is the smallest behind it."""
    random = np.random.default_rng(seed)
    whole = tuple(n * s for n, s in zip(shape, box, strict=True))
    kind, voxel = stored(precision)
    values = random.normal(size=(maps, *whole)).astype(voxel)
    affine = made_affine(random, maps)
    wanted = F.max_pool3d(torch.from_numpy(activated(values, affine)), box, box).numpy()
    source, target = Laid.of(values, kind=voxel), Laid.room(maps, shape, kind=voxel)
    line = np.full(whole[2] + SLACK, np.nan, np.float32)
    planes = maps * shape[0]
    for portion in [(planes // 2, planes), (0, planes // 2)]:
        pointwise.pool(
            portion,
            (shape[0], *whole[1:]),
            box,
            Source(source.addresses, affine, kind),
            target.addresses,
            line,
        )
    rounding = 2 * ROUNDING[precision]  # half a unit in the last place, of each number
    np.testing.assert_allclose(np.array(target.maps), wanted, atol=1e-5, rtol=rounding)
    target.assert_gaps_untouched()
