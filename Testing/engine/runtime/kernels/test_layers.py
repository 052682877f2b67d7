"""Lists say the same as the weights they were made of."""

from __future__ import annotations

import numpy as np
from e2enet.runtime.kernels.accumulation import BLOCK
from e2enet.runtime.kernels.layers import conv_lists, point_layer
from e2enet.runtime.kernels.vectors import LANES
from hypothesis import given, settings
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**16)
DENSITIES = st.sampled_from([0.0, 0.05, 0.3, 0.8, 1.0])


@settings(max_examples=60, deadline=None)
@given(outputs=st.integers(1, 20), inputs=st.integers(1, 12), density=DENSITIES, seed=SEEDS)
def test_convolution(outputs: int, inputs: int, density: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    live = random.random((outputs, inputs)) < density
    weight = random.normal(size=(outputs, inputs, 3, 3)).astype(np.float32) * live[..., None, None]
    needed = random.random(outputs) < 0.7
    lists = conv_lists(live, needed)
    np.testing.assert_array_equal(np.sort(lists.written), np.flatnonzero(needed))
    np.testing.assert_array_equal(lists.read, np.flatnonzero(live[needed].any(axis=0)))
    kernels = lists.kernels(weight)
    assert kernels.shape[1] % LANES == 0
    again = np.zeros_like(weight)
    for number, output in enumerate(lists.written):
        group = number // BLOCK if lists.grouped else number
        for n in range(lists.live.begins[group], lists.live.begins[group + 1]):
            factor = BLOCK * n + number % BLOCK if lists.grouped else n
            again[output, lists.read[lists.live.maps[n]]] += kernels[:, factor].reshape(3, 3)
    np.testing.assert_array_equal(again, weight * needed[:, None, None, None])
    if not lists.grouped:
        assert not (np.diff(lists.live.begins) % 2).any()


def test_neighbours_with_the_same_inputs_are_taken_together() -> None:
    live = np.zeros((16, 10), bool)
    live[:8, ::3], live[8:, 1::4] = True, True
    everybody = np.ones(16, bool)
    assert conv_lists(live, everybody).grouped
    assert not conv_lists(np.random.default_rng(0).random((16, 10)) < 0.2, everybody).grouped


@settings(max_examples=60, deadline=None)
@given(
    outputs=st.integers(1, 18),
    inputs=st.integers(1, 9),
    box=st.tuples(*[st.integers(1, 3)] * 3),
    density=DENSITIES,
    seed=SEEDS,
)
def test_points(
    outputs: int, inputs: int, box: tuple[int, int, int], density: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(inputs, outputs, *box)).astype(np.float32)
    weight *= (random.random((inputs, outputs)) < density)[..., None, None, None]
    needed = random.random(outputs) < 0.7
    layer = point_layer(weight, box, needed)
    places = int(np.prod(box))
    rows = places if places == 1 else -(-places // BLOCK) * BLOCK
    again = np.zeros((inputs, outputs, places), np.float32)
    factors = layer.factors.reshape(-1, BLOCK)
    for number, output in enumerate(layer.written):
        for place in range(places):
            row = number * rows + place
            group = row // BLOCK
            for n in range(layer.live.begins[group], layer.live.begins[group + 1]):
                again[layer.read[layer.live.maps[n]], output, place] += factors[n, row % BLOCK]
    wanted = weight.reshape(inputs, outputs, places) * needed[:, None]
    np.testing.assert_array_equal(again, wanted)
