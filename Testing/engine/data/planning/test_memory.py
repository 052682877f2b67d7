"""What training needs in memory."""

from __future__ import annotations

import math

import pytest
from e2enet.data.planning.memory import training_bytes
from e2enet.networks import E2ENet


def cost(**changes: object) -> float:
    values = {
        "patch": (64, 64, 64), "strides": ((2, 2, 2),) * 3, "in_channels": 1,
        "num_classes": 3, "base_channels": 16, "batch_size": 2, **changes,
    }  # fmt: skip
    return training_bytes(values.pop("patch"), values.pop("strides"), **values)  # type: ignore


@pytest.mark.parametrize("mixed", [True, False])
def test_memory_grows_with_everything(mixed: bool) -> None:
    base = cost(mixed=mixed)
    assert math.isfinite(base)
    for change in (
        {"patch": (64, 64, 96)}, {"batch_size": 3}, {"base_channels": 32},
        {"in_channels": 4}, {"num_classes": 16}, {"strides": ((2, 2, 2),) * 4},
    ):  # fmt: skip
        assert cost(mixed=mixed, **change) > base


def test_a_cpu_needs_more_than_a_gpu() -> None:
    assert cost(mixed=False, base_channels=48) > 1.3 * cost(base_channels=48)


@pytest.mark.parametrize("strides", [((2, 2, 2),), ((1, 2, 2), (2, 2, 2), (2, 2, 2))])
def test_weights_are_counted_as_the_network_has_them(strides: tuple) -> None:
    """Without voxels worth a word what is left are weight, gradient and momentum."""
    network = E2ENet(2, 3, strides, base_channels=32)
    weights = sum(
        p.numel()
        for name, p in network.named_parameters()
        if p.ndim == 5 and not name.startswith("heads")
    )
    patch = [math.prod(step[k] for step in strides) for k in range(3)]
    found = cost(patch=patch, strides=strides, in_channels=2, base_channels=32, batch_size=0)
    assert found == 12 * weights
