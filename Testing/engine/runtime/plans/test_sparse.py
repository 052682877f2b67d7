"""The sparse plan computes what the network computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from e2enet.runtime import Precision
from e2enet.runtime.kernels.memory import Arena, Buffer, Maps, pitch
from e2enet.runtime.kernels.vectors import SLACK
from e2enet.runtime.plans import slabs, sparse
from e2enet.runtime.plans.sparse import SparsePlan
from hypothesis import given, settings
from hypothesis import strategies as st

from ..made import (
    Setup,
    TensorPlan,
    assert_same,
    difference,
    exact,
    kill,
    made_image,
    made_network,
    setups,
)

S122, S222 = (1, 2, 2), (2, 2, 2)
PRECISIONS = st.sampled_from(["float32", "float16", "bfloat16"])


@settings(max_examples=60, deadline=None)
@given(setup=setups(), threads=st.integers(1, 3), precision=PRECISIONS)
def test_equals_the_network(setup: Setup, threads: int, precision: Precision) -> None:
    network = setup.network()
    image = setup.image(network)
    kept = image.clone()
    found = TensorPlan(network, threads, precision)(image)
    assert_same(found, network, image, precision)
    assert torch.equal(image, kept)


@pytest.mark.parametrize(
    "dead",
    [
        ["nodes.1_1.0.conv.weight"],
        ["nodes.2_0.0.conv.weight"],
        ["nodes.2_0.1.conv.weight"],
        ["ups.1_0.weight"],
        ["ups.2_0.weight", "ups.1_1.weight"],
        ["nodes.1_0.0.conv.weight", "ups.2_0.weight"],
        ["heads.0.weight"],
        ["backbone.0.0.conv.weight"],
        ["backbone.2.1.conv.weight"],
    ],
)
def test_layers_without_any_live_connection(dead: list[str]) -> None:
    network = made_network([S122, S222], sparsity=0.5, base=5)
    kill(network, *dead)
    image = made_image(network, (2, 2, 3))
    assert_same(TensorPlan(network, 2)(image), network, image)


@pytest.mark.parametrize("flow", ["forward", "upward", "downward"])
def test_a_node_that_loses_an_input(flow: str) -> None:
    network = made_network([S122, S222], sparsity=0.0, base=5)
    with torch.no_grad():
        for layer in network.sparse_layers().values():
            if flow in layer.flows and layer.kind == "fusion":
                first, last = layer.flows[flow]
                layer.weight[:, first:last] = 0
    image = made_image(network, (2, 2, 3))
    assert_same(TensorPlan(network, 2)(image), network, image)


def test_a_channel_of_the_image_that_nobody_reads() -> None:
    network = made_network([S222], inputs=3)
    with torch.no_grad():
        network.get_parameter("backbone.0.0.conv.weight")[:, 1] = 0
    image = made_image(network, (2, 2, 3))
    assert_same(TensorPlan(network, 1)(image), network, image)


@pytest.mark.parametrize("layout", ["channels last", "part of a larger one", "double", "half"])
def test_images_in_other_layouts_and_types(layout: str) -> None:
    network = made_network([S222], inputs=2)
    image = made_image(network, (3, 3, 4), batch=2)
    if layout == "channels last":
        image = image.contiguous(memory_format=torch.channels_last_3d)
    elif layout == "part of a larger one":
        image = torch.nn.functional.pad(image, (3, 1, 2, 0))[..., 2:, 3:-1]
    else:
        image = image.to(torch.float64 if layout == "double" else torch.float16)
    found = TensorPlan(network, 2)(image)
    assert_same(found, network, image)


@pytest.mark.parametrize("value", [0.0, 1.0, -4.0, 50.0])
def test_constant_images(value: float) -> None:
    network = made_network([S122, S222], base=5)
    image = torch.full((1, 1, 4, 12, 20), value)
    assert_same(TensorPlan(network, 2)(image), network, image)


def test_an_image_far_from_zero() -> None:
    network = made_network([S122, S222], base=5)
    image = made_image(network, (2, 4, 6)) + 30
    assert_same(TensorPlan(network, 2)(image), network, image)


def test_what_float16_does_not_hold_is_told() -> None:
    network = made_network([S222], sparsity=0.0)
    image = made_image(network, (2, 4, 6))
    image[0, 0, 1, 2, 3] = 1e6
    assert not TensorPlan(network, 2, "float16")(image).isfinite().all()
    assert_same(TensorPlan(network, 2)(image), network, image)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_stays_none_and_harms_nobody_else(value: float) -> None:
    network = made_network([S222], sparsity=0.0)
    images = made_image(network, (2, 4, 6), batch=2)
    images[0, 0, 1, 2, 3] = value
    plan = TensorPlan(network, 2)
    found = plan(images)
    assert found[0].isnan().all()
    clean = images[1:]
    assert torch.equal(found[1:], plan(clean))
    assert_same(found[1:], network, clean)


def test_other_shapes_between_the_calls() -> None:
    network = made_network([S122, S222], base=7)
    plan = TensorPlan(network, 2)
    for times in [(2, 2, 3), (1, 1, 1), (3, 2, 5), (2, 2, 3), (1, 4, 1)]:
        image = made_image(network, times, batch=2)
        assert_same(plan(image), network, image)


def test_the_same_image_gives_the_same_logits_whatever_was_there_before() -> None:
    network = made_network([S122, S222], base=7, sparsity=0.9)
    plan = TensorPlan(network, 2)
    image, other = made_image(network, (2, 4, 6)), made_image(network, (2, 4, 6), seed=1)
    first = plan(image).clone()
    plan(other * np.nan)
    assert torch.equal(plan(image), first)


def test_later_changes_of_the_network_do_not_reach_the_plan() -> None:
    network = made_network([S222])
    image = made_image(network, (2, 2, 2))
    wanted = exact(network, image)
    plan = TensorPlan(network, 1)
    kill(network, *(name for name, _ in network.named_parameters()))
    assert difference(plan(image), wanted) < 1e-3


@pytest.mark.parametrize("shape", [(1, 2, 8, 8, 8), (1, 8, 8, 8), (1, 1, 7, 8, 8)])
def test_images_that_the_network_does_not_take(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"E2ENet takes|does not divide"):
        TensorPlan(made_network([S222]), 1)(torch.zeros(shape))


def small_slabs(patch: pytest.MonkeyPatch) -> None:
    """Full-resolution maps are made in parts even if they are small."""
    patch.setattr(slabs, "SLAB_BYTES", 1)
    patch.setattr(sparse, "_BLOCKS_A_THREAD", 0)


@settings(max_examples=25, deadline=None)
@given(
    setup=setups(most_voxels=1500),
    depth=st.integers(16, 64),
    threads=st.integers(1, 2),
    precision=PRECISIONS,
)
def test_full_resolution_maps_that_overwrite_each_other(
    setup: Setup, depth: int, threads: int, precision: Precision
) -> None:
    network = setup.network()
    depth += -depth % network.divisor[0]
    _, _, height, width = made_image(network, setup.times).shape[1:]
    generator = torch.Generator().manual_seed(setup.seed)
    image = torch.randn(1, setup.inputs, depth, height, width, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        small_slabs(patch)
        assert_same(TensorPlan(network, threads, precision)(image), network, image, precision)


@pytest.mark.parametrize("shift_groups", [1, 3, 5])
@pytest.mark.parametrize("strides", [[S222, S222], [(3, 2, 2), (1, 2, 2)]])
def test_maps_move_to_and_fro_in_their_regions(
    shift_groups: int, strides: list[tuple[int, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down a few slices, then up again: both directions are gone."""
    network = made_network(strides, base=7, shift_groups=shift_groups, sparsity=0.3)
    image = made_image(network, (48 // network.divisor[0], 2, 3))
    small_slabs(monkeypatch)
    origins: list[int] = []
    place = SparsePlan._place

    def seen(self: SparsePlan, *arguments: Any, **more: Any) -> Any:
        maps, parts = place(self, *arguments, **more)
        last = more.get("last")
        if last is not None and maps.buffer is last.buffer:
            origins.append(maps.origin)
            assert len(parts) > 2
        return maps, parts

    monkeypatch.setattr(SparsePlan, "_place", seen)
    found = TensorPlan(network, 2)(image)
    assert 0 in origins
    assert any(origins)
    assert_same(found, network, image)


def test_full_resolution_maps_exist_once() -> None:
    network = made_network([S222, S222, S222], base=8)
    image = made_image(network, (8, 4, 4))
    maps = 8 * image.numel()
    with pytest.MonkeyPatch.context() as patch:
        small_slabs(patch)
        plan = TensorPlan(network, 1)
        assert_same(plan(image), network, image)
    assert plan.run._arena.memory.size < 1.75 * maps


class Littered(Arena):
    """Memory in which everything that is handed out is full of garbage."""

    garbage = 0.0

    def take(self, size: int) -> Buffer:
        buffer = super().take(size)
        buffer.array[:] = self.garbage
        return buffer


def assert_gaps_hold_garbage(maps: Maps, garbage: float) -> None:
    """What lies before, between and behind maps."""
    plane = maps.shape[1] * maps.shape[2]
    size = maps.kind.itemsize
    step, used = pitch(maps.region * plane, size), -(-maps.region * plane * size // 4)
    floats = maps.buffer.array
    count = (len(floats) - 2 * SLACK) // step
    gaps = floats[SLACK : SLACK + count * step].reshape(count, step)[:, used:]
    for part in (floats[:SLACK], gaps, floats[SLACK + count * step :]):
        np.testing.assert_array_equal(part, np.full(part.shape, garbage, np.float32))


@settings(max_examples=25, deadline=None)
@given(setup=setups(most_voxels=1500), deep=st.booleans(), precision=PRECISIONS)
def test_nothing_is_written_beyond_a_map_and_nothing_unwritten_is_read(
    setup: Setup, deep: bool, precision: Precision
) -> None:
    """Memory full of NaN, and again full of a number: the logits do not know."""
    network = setup.network()
    image = setup.image(network)
    if deep:
        times = (-(-24 // network.divisor[0]), *setup.times[1:])
        image = made_image(network, times, seed=setup.seed)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse, "Arena", Littered)
        if deep:
            small_slabs(patch)
        for name in ("_convolve", "_expand", "_pool_down"):
            patch.setattr(SparsePlan, name, watched(getattr(SparsePlan, name)))
        for garbage in (np.nan, 1e6):
            patch.setattr(Littered, "garbage", garbage)
            found.append(TensorPlan(network, 1, precision)(image))
    assert torch.equal(found[0], found[1])
    assert_same(found[0], network, image, precision)


def watched(method: Callable[..., Maps]) -> Callable[..., Maps]:
    def run(plan: SparsePlan, *arguments: Any, **more: Any) -> Maps:
        maps = method(plan, *arguments, **more)
        if not plan._measuring:
            assert_gaps_hold_garbage(maps, Littered.garbage)
        return maps

    return run
