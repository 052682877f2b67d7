from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from e2enet.dsff import Complexity, Connections, complexity, planned_live
from e2enet.networks import E2ENet
from e2enet.networks.e2enet import UpConv
from torch import nn


@functools.cache
def paper_network() -> E2ENet:
    return E2ENet(1, 16, [(2, 2, 2)] * 5)


def paper(
    patch: tuple[int, int, int], sparsity: float = 0.0, level0: float | None = None
) -> Complexity:
    network = paper_network()
    live = planned_live(network.sparse_layers(), sparsity, level0_density=level0)
    return complexity(network.lattice, patch, live)


def test_dense_counts_of_the_paper() -> None:
    counted = paper((64, 160, 160))
    level0 = [x for x in counted.layers if x.kind == "fusion" and x.level == 0]
    other = [x for x in counted.layers if x.kind in ("fusion", "up") and x not in level0]
    backbone = [x for x in counted.layers if x.kind == "backbone"]
    assert round(counted.total.parameters / 1e6, 2) == 23.90
    assert round(counted.total.multiply_adds / 1e9, 1) == 790.9
    for layers, billions in ((level0, 373.7), (other, 337.1), (backbone, 78.5)):
        assert round(sum(x.multiply_adds for x in layers) / 1e9, 1) == billions
    assert counted.total.live_multiply_adds == counted.total.multiply_adds


@pytest.mark.parametrize(
    ("sparsity", "level0", "millions"),
    [
        (0.7, 0.2, 11.23),
        (0.8, 0.2, 9.45),
        (0.9, 0.2, 7.66),
        (0.7, None, 11.25),
        (0.8, None, 9.45),
        (0.9, None, 7.64),
    ],
)
def test_live_parameters_of_the_paper(
    sparsity: float, level0: float | None, millions: float
) -> None:
    total = paper((64, 128, 128), sparsity, level0).total
    assert round(total.live_parameters / 1e6, 2) == millions


def test_live_multiply_adds_of_the_paper() -> None:
    total = paper((64, 128, 128), 0.8).total
    assert round(total.multiply_adds / 1e9, 1) == 506.2
    assert round(total.live_multiply_adds / 1e9, 1) == 142.3


@pytest.mark.parametrize("strides", [[(2, 2, 2)] * 2, [(1, 2, 2), (2, 1, 2), (1, 1, 1)]])
def test_counts_are_those_of_a_run(strides: list) -> None:
    network = E2ENet(2, 3, strides, base_channels=3)
    counted = complexity(network.lattice, (4, 8, 8))
    taps = []

    def count(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        up = isinstance(module, UpConv)  # each of its output voxels sees one tap
        weight = module.weight
        taps.append(output.numel() * (weight.shape[0] if up else weight[0].numel()))

    for module in network.modules():
        if getattr(getattr(module, "weight", None), "ndim", 0) == 5:
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 2, 4, 8, 8))
    assert len(taps) == len(counted.layers)
    assert counted.total.multiply_adds == sum(taps)
    assert counted.total.parameters == sum(p.numel() for p in network.parameters())


def test_live_counts_are_those_of_the_masks() -> None:
    network = E2ENet(1, 2, [(1, 2, 2), (2, 2, 2)], base_channels=4)
    connections = Connections.random(network, 0.75, seed=1)
    connections.apply()
    counted = complexity(network.lattice, (4, 8, 8), connections.live_by_layer)
    biases = sum(p.numel() for n, p in network.named_parameters() if p.ndim == 1)
    kernels = sum(int(p.count_nonzero()) for p in network.parameters() if p.ndim > 1)
    assert counted.total.live_parameters == kernels + biases
    assert (counted.connections, counted.live_connections) == (connections.total, connections.live)
    dense = {x.kind for x in counted.layers if x.live_multiply_adds == x.multiply_adds}
    assert dense == {"backbone", "head"}


def test_parts_add_up_to_the_total() -> None:
    counted = paper((32, 32, 64), 0.9)
    assert [part.name for part in counted.parts] == [
        "backbone",
        *(f"fusion stage {stage}" for stage in range(1, 6)),
        "upward convolutions",
        "heads",
    ]
    for field in ("parameters", "live_parameters", "multiply_adds", "live_multiply_adds"):
        assert sum(getattr(part, field) for part in counted.parts) == getattr(counted.total, field)


def test_a_patch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(64, 160, 160\)"):
        paper((64, 160, 150))
