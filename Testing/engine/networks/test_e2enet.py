from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from e2enet.dsff import Connections
from e2enet.networks import E2ENet, build_network

from . import reference

S122, S222, S112 = (1, 2, 2), (2, 2, 2), (1, 1, 2)


def network(*arguments: Any, seed: int = 0, **more: Any) -> E2ENet:
    """With biases and norms that are not the neutral ones they start from."""
    torch.manual_seed(seed)
    made = E2ENet(*arguments, **more)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
            elif ".norm." in name:
                parameter.normal_(1, 0.3)
    return made.eval()


def compare(net: E2ENet, image: torch.Tensor, groups: int, tolerance: float) -> None:
    weights = {name: value.double().numpy() for name, value in net.state_dict().items()}
    with torch.no_grad():
        outputs = net(image)
    for sample in range(image.shape[0]):
        wanted = reference.e2enet(image[sample].double().numpy(), weights, net.strides, groups)
        assert len(outputs) == len(wanted)
        for ours, theirs in zip(outputs, wanted, strict=True):
            assert np.abs(ours[sample].double().numpy() - theirs).max() < tolerance


@pytest.mark.parametrize(
    ("strides", "size", "base", "groups", "channels"),
    [
        ([S222], (4, 4, 6), 3, 1, 1),
        ([S122], (3, 6, 4), 5, 3, 2),
        ([S112], (3, 5, 6), 3, 2, 1),
        ([S122, S222], (4, 8, 8), 3, 3, 1),
        ([S222, S112], (4, 6, 8), 3, 4, 3),
        ([S112, S122, S222], (4, 8, 16), 3, 5, 1),
        ([S222, S222, S122], (8, 8, 8), 1, 3, 2),
        ([(1, 1, 1), (3, 1, 2)], (6, 3, 4), 2, 3, 1),
    ],
)
def test_equals_the_slow_reference(
    strides: list, size: tuple, base: int, groups: int, channels: int
) -> None:
    net = network(
        channels, 3, strides, base_channels=base, max_channels=4 * base, shift_groups=groups
    )
    image = torch.randn(1, channels, *size, dtype=torch.double)
    compare(net.double(), image, groups, 1e-8)


def test_equals_the_slow_reference_in_single_precision_with_dead_maps_in_a_batch() -> None:
    net = network(2, 2, [S122, S222], base_channels=3)
    Connections.random(net, 0.9).apply()
    with torch.no_grad():
        net.get_parameter("nodes.1_0.0.conv.weight")[1] = 0  # a map without any connection
        net.get_parameter("ups.2_0.weight")[:, 0] = 0
    compare(net, torch.randn(2, 2, 4, 8, 4), 3, 1e-4)


@pytest.mark.parametrize(("levels", "heads"), [(2, 1), (3, 1), (4, 2), (5, 3), (6, 4), (7, 4)])
def test_number_of_heads(levels: int, heads: int) -> None:
    net = E2ENet(1, 2, [S112] * (levels - 1), base_channels=1, max_channels=2)
    assert net.num_heads == len(net.heads) == heads
    with torch.no_grad():
        sizes = [tuple(y.shape) for y in net(torch.randn(1, 1, 2, 2, 2**levels))]
    assert sizes == [(1, 2, 2, 2, 2 ** (levels - head)) for head in range(heads)]


@pytest.mark.parametrize("train", [True, False])
def test_deep_supervision_does_not_depend_on_the_mode(train: bool) -> None:
    net = network(1, 2, [S222] * 3, base_channels=2).train(train)
    image = torch.randn(1, 1, 8, 8, 8)
    outputs = net(image)
    assert [tuple(y.shape[2:]) for y in outputs] == [(8, 8, 8), (4, 4, 4)]
    net.deep_supervision = False
    alone = net(image)
    assert isinstance(alone, torch.Tensor)
    assert torch.equal(alone, outputs[0])


def test_with_and_without_gradients_is_the_same_and_repeatable() -> None:
    net = network(1, 3, [S122, S222], base_channels=4)
    image = torch.randn(2, 1, 6, 8, 8)
    kept = image.clone()
    with torch.no_grad():
        first, second = net(image)[0], net(image)[0]
    assert torch.equal(first, second)
    assert torch.equal(image, kept)  # nothing works in place on what the caller owns
    assert torch.allclose(first, net(image)[0], atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_the_memory_layout_of_the_image_does_not_matter(layout: torch.memory_format) -> None:
    net = network(2, 3, [S222], base_channels=4)
    image = torch.randn(1, 2, 6, 8, 8)
    with torch.no_grad():
        wanted = net(image)[0]
        assert torch.equal(net(image.contiguous(memory_format=layout))[0], wanted)
        assert torch.equal(net(F.pad(image, (1, 1))[..., 1:-1])[0], wanted)


def test_gradients_equal_numerical_ones() -> None:
    net = network(1, 2, [S122], base_channels=2, shift_groups=3).double()
    image = torch.randn(1, 1, 2, 4, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: tuple(net(x)), (image,))


def test_every_parameter_but_the_cancelled_bias_learns() -> None:
    net = network(1, 2, [S222] * 3, base_channels=2)
    sum(y.square().sum() for y in net(torch.randn(1, 1, 16, 16, 16))).backward()
    for name, parameter in net.named_parameters():
        if name.endswith("conv.bias"):
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(
    ("size", "fits"),
    [((7, 16, 16), "(8, 16, 16)"), ((8, 17, 16), "(8, 24, 16)"), ((0, 9, 1), "(4, 16, 8)")],
)
def test_a_size_that_does_not_divide_is_refused_with_one_that_does(size: tuple, fits: str) -> None:
    net = E2ENet(1, 2, [S122, S222, S222], base_channels=2)
    assert net.divisor == (4, 8, 8)
    with pytest.raises(ValueError) as caught:
        net(torch.zeros(1, 1, *size))
    assert fits in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 2, 8, 8, 8), (1, 8, 8, 8), (1, 8, 8)])
def test_another_number_of_channels_or_axes_is_refused(shape: tuple) -> None:
    net = E2ENet(1, 2, [S222], base_channels=2)
    with pytest.raises(ValueError, match=r"takes \(B, 1, D, H, W\)"):
        net(torch.zeros(shape))


@pytest.mark.parametrize(
    "change",
    [
        {"strides": []},
        {"strides": [(2, 2)]},
        {"strides": [(0, 2, 2)]},
        {"in_channels": 0},
        {"num_classes": 0},
        {"base_channels": 0},
        {"shift_groups": 0},
    ],
)
def test_impossible_arguments_are_refused(change: dict) -> None:
    with pytest.raises(ValueError):
        E2ENet(**{"in_channels": 1, "num_classes": 2, "strides": [S222], **change})


def test_arguments_build_the_same_network() -> None:
    net = E2ENet(2, 3, [S122, S222], base_channels=3, max_channels=7, shift_groups=5)
    again = build_network("E2ENet", net.arguments)
    assert again.arguments == net.arguments
    assert {n: p.shape for n, p in again.state_dict().items()} == {
        n: p.shape for n, p in net.state_dict().items()
    }
    assert net.channels == (3, 6, 7)
    for kind, arguments in (("UNet", {}), ("E2ENet", {"colour": 1})):
        with pytest.raises(ValueError):
            build_network(kind, arguments)


def test_sparse_layers_describe_the_lattice() -> None:
    net = E2ENet(1, 2, [S122, S222], base_channels=3)
    layers = net.sparse_layers()
    nodes = [(1, 1), (1, 0), (2, 0)]
    assert {(x.stage, x.level) for x in layers.values()} == set(nodes)
    for (stage, level), kind in itertools.product(nodes, ("fusion", "up")):
        blocks = [x for x in layers.values() if (x.stage, x.level, x.kind) == (stage, level, kind)]
        assert len(blocks) == (2 if kind == "fusion" and stage + level == 2 else 1)
    for name, layer in layers.items():
        assert layer.weight is net.get_parameter(f"{name}.weight")
        if layer.flows:
            stop = max(stop for _, stop in layer.flows.values())
            assert stop == layer.weight.shape[1 if layer.kind == "fusion" else 0]
    assert layers["nodes.1_1.0.conv"].flows == {
        "forward": (0, 6), "upward": (6, 12), "downward": (12, 15)
    }  # fmt: skip
    assert list(layers["nodes.1_0.0.conv"].flows) == ["forward", "upward"]
    assert layers["nodes.2_0.1.conv"].flows == {}
