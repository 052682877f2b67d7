"""The sparse training path against autograd through the masked network."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytest
import torch
from e2enet.dsff import Connections
from e2enet.networks import E2ENet
from e2enet.runtime.training.accelerate import SparseTraining
from e2enet.runtime.training.tensors import _POOL, forget_idle, planar
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

STRIDES = st.lists(st.tuples(*[st.integers(1, 3)] * 3), min_size=1, max_size=2)


def networks(
    strides: list[tuple[int, int, int]],
    *,
    base: int = 5,
    inputs: int = 1,
    shift: int = 3,
    sparsity: float = 0.6,
    slope: float = 1.0,
) -> tuple[E2ENet, SparseTraining, Connections]:
    """A masked network, the same accelerated, and the connections of the second.

    With a slope of 1 nothing bends: where a leaky ReLU does, a value near zero may fall to the
    other side by rounding alone, and two exact gradients then differ.
    """
    torch.manual_seed(0)
    plain = E2ENet(inputs, 3, strides, base_channels=base, shift_groups=shift)
    connections = Connections.random(plain, sparsity, seed=1)
    connections.apply()
    with torch.no_grad():
        for module in plain.modules():
            if hasattr(module, "slope"):
                module.weight.normal_(1, 0.3)  # type: ignore[operator, union-attr]
                module.bias.normal_(0, 0.3)  # type: ignore[operator, union-attr]
                module.slope = slope  # type: ignore[assignment]
    fast = copy.deepcopy(plain)
    own = Connections(fast, connections.masks)
    return plain, SparseTraining(fast, own), own


def learn(network: E2ENet | SparseTraining, image: Tensor) -> list[Tensor]:
    """Outputs, after a backward pass from random gradients."""
    outputs = network(image)
    generator = torch.Generator().manual_seed(2)
    loss = sum((y * torch.randn(y.shape, generator=generator).to(y)).sum() for y in outputs)
    assert isinstance(loss, Tensor)
    loss.backward()
    return outputs  # type: ignore[no-any-return]


def same_gradients(
    plain: E2ENet, fast: SparseTraining, connections: Connections, image: Tensor
) -> None:
    """Both against the gradients in double precision: sums that cancel err in single precision."""
    exact = copy.deepcopy(plain).double()
    exact.zero_grad()
    learn(exact, image.double())
    theirs, wanted = dict(plain.named_parameters()), dict(exact.named_parameters())
    for name, parameter in fast.network.named_parameters():
        truth, other = wanted[name].grad, theirs[name].grad
        assert (truth is None) == (parameter.grad is None), name
        if truth is None or other is None or parameter.grad is None:
            continue
        mask = connections.masks.get(name.removesuffix(".weight"))
        if mask is not None:
            dead = ~mask.view(*mask.shape, *(1,) * (truth.ndim - 2))
            assert not parameter.grad.masked_select(dead).any(), name
            truth, other = truth.masked_fill(dead, 0), other.masked_fill(dead, 0)
        unavoidable = float((other - truth).abs().max())
        bound = 30 * unavoidable + 1e-3 * (float(truth.abs().max()) + 0.1)
        assert float((parameter.grad - truth).abs().max()) < bound, name


@settings(max_examples=15, deadline=None)
@given(
    strides=STRIDES,
    base=st.integers(2, 9),  # PyTorch 2.13's conv2d errs on one channel with stride (1, 2), W <= 2
    inputs=st.integers(1, 3),
    shift=st.sampled_from([1, 3, 5]),
    sparsity=st.sampled_from([0.0, 0.5, 0.8, 0.97]),
    batch=st.integers(1, 2),
    times=st.tuples(*[st.integers(2, 3)] * 3),  # the norm of two voxels is all rounding
)
def test_outputs_and_gradients_are_those_of_the_masked_network(
    strides: list[tuple[int, int, int]],
    base: int,
    inputs: int,
    shift: int,
    sparsity: float,
    batch: int,
    times: tuple[int, int, int],
) -> None:
    plain, fast, connections = networks(
        strides, base=base, inputs=inputs, shift=shift, sparsity=sparsity
    )
    size = [n * t for n, t in zip(plain.divisor, times, strict=True)]
    image = torch.randn(batch, inputs, *size)
    for a, b in zip(learn(plain, image), learn(fast, image), strict=True):
        assert torch.allclose(a, b, atol=1e-3)
    same_gradients(plain, fast, connections, image)


def test_blocks_wider_than_a_vector_and_rows_of_any_length() -> None:
    plain, fast, connections = networks([(1, 2, 2), (2, 2, 2)], base=8)
    image = torch.randn(1, 1, 8, 36, 140)
    for a, b in zip(learn(plain, image), learn(fast, image), strict=True):
        assert torch.allclose(a, b, atol=1e-3)
    same_gradients(plain, fast, connections, image)


def test_the_bend_of_the_leaky_relu() -> None:
    plain, fast, connections = networks([(2, 2, 2)], base=4, slope=0.01)
    image = torch.randn(1, 1, 4, 8, 8)
    learn(plain, image)
    learn(fast, image)
    same_gradients(plain, fast, connections, image)


@pytest.mark.parametrize("slope", [1.0, 0.01])
def test_norms_that_cannot_be_undone(slope: float) -> None:
    """A weight of zero makes a map constant: what was before it is computed again."""
    plain, fast, connections = networks([(1, 2, 2), (2, 2, 2)], base=4, slope=slope)
    image = torch.randn(2, 1, 4, 8, 12)
    with torch.no_grad():
        for network in (plain, fast.network):
            for name in ("nodes.1_0.0.norm.weight", "nodes.2_0.1.norm.weight"):
                network.get_parameter(name)[1] = 0
                network.get_parameter(name)[2] = -1e-5
    for a, b in zip(learn(plain, image), learn(fast, image), strict=True):
        assert torch.allclose(a, b, atol=1e-3)
    same_gradients(plain, fast, connections, image)


def test_the_network_stays_as_it_is() -> None:
    """It can be copied, and hooks of it fire."""
    plain, fast, _ = networks([(2, 2, 2)], base=4)
    image, seen = torch.randn(1, 1, 4, 8, 8), []
    fast.network.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    fast(image)
    assert seen == [1]
    other = copy.deepcopy(fast.network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    for a, b in zip(plain(image), fast(image), strict=True):
        assert torch.allclose(a, b, atol=1e-3)
        assert b.any()


def test_one_map_a_block_is_kept() -> None:
    """Neither what was before the norm, nor upward maps, nor the places of maxima.

    Those of the first block, which reads the image, are made again.
    """
    _, fast, _ = networks([(2, 2, 2)] * 2, base=8)
    image = torch.randn(1, 1, 8, 32, 32)
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        outputs = fast(image)
    graph = fast.network.lattice
    parameters = {p.untyped_storage().data_ptr() for p in fast.network.parameters()}
    bytes_kept = sum(size for place, size in kept.items() if place not in parameters)
    voxels = [8 * 32 * 32 // 8**level for level in range(graph.levels)]
    maps = sum(
        len(node.blocks) * graph.channels[node.level] * voxels[node.level] for node in graph.nodes
    )
    maps -= graph.channels[0] * voxels[0]
    pooled = sum(
        (flow.channels[1] - flow.channels[0]) * voxels[node.level]
        for node in graph.fused
        for flow in node.flows
        if flow.kind == "downward"
    )
    # Beside them what PyTorch keeps of the two strided blocks, and the image.
    strided = 4 * sum(
        graph.channels[level] * voxels[level] + 2 * graph.channels[level - 1] * voxels[level]
        for level in (1, 2)
    )
    assert 4 * maps <= bytes_kept < 1.15 * 4 * (maps + pooled + strided / 2 + image.numel())
    del outputs


def test_a_backward_pass_takes_the_place_of_what_it_has_read() -> None:
    """Of a gradient that goes through a block, and of maps made again, there is one each."""
    _, fast, _ = networks([(2, 2, 2)] * 3, base=8)
    image = torch.randn(1, 1, 16, 64, 64)
    forget_idle()
    outputs = fast(image)
    kept = _POOL.lent
    sum((y * y).sum() for y in outputs).backward()  # type: ignore[union-attr]
    assert kept <= _POOL.most < kept + 1.2 * 8 * image.numel()


def test_gradients_of_others_are_left_alone() -> None:
    plain, fast, _ = networks([(2, 2, 2)], base=4, slope=0.01)
    block, own = plain.blocks(0, 0)[1], fast._blocks[fast.network.blocks(0, 0)[1]]
    x = torch.randn(2, 4, 4, 8, 8)
    grad = torch.randn(2, 4, 4, 8, 8)
    wanted, found = x.clone().requires_grad_(), x.clone().requires_grad_()
    block([wanted]).backward(grad)
    theirs = grad.clone()
    own([found]).backward(theirs)
    assert torch.equal(theirs, grad)
    assert torch.allclose(found.grad, wanted.grad, atol=1e-4)


def test_a_second_backward_pass_is_refused() -> None:
    _, fast, _ = networks([(2, 2, 2)], base=4)
    loss = sum(y.sum() for y in fast(torch.randn(1, 1, 4, 8, 8)))
    assert isinstance(loss, Tensor)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        loss.backward()


def test_masks_may_change_between_steps() -> None:
    plain, fast, connections = networks([(2, 2, 2)], base=6)
    image = torch.randn(1, 1, 4, 8, 12)
    learn(fast, image)
    fast.network.zero_grad()
    other = Connections.random(plain, 0.3, seed=9)
    connections.load_state_dict(other.state_dict())
    fast.network.load_state_dict(
        plain.state_dict()
    )  # what was dead before is now alive, with weight zero
    connections.apply()
    other.apply()
    learn(plain, image)
    learn(fast, image)
    same_gradients(plain, fast, connections, image)


def evolve(connections: Connections) -> None:
    """Give every layer other live connections, as many as before."""
    generator = torch.Generator().manual_seed(9)
    connections.load_state_dict(
        {
            name: mask.flatten()[torch.randperm(mask.numel(), generator=generator)].view_as(mask)
            for name, mask in connections.masks.items()
        }
    )


def validate(fast: SparseTraining) -> None:
    fast.network.eval()
    with torch.no_grad():
        fast(torch.randn(3, 1, 4, 8, 12))
    fast.network.train()


@pytest.mark.parametrize(
    "happens",
    [("validation",), ("evolution",), ("evolution", "validation"), ("another batch size",)],
    ids=lambda events: ", then ".join(events),
)
def test_a_step_is_that_of_the_masked_network_whatever_came_before(happens: list[str]) -> None:
    plain, fast, connections = networks([(2, 2, 2)] * 2, base=6, sparsity=0.5)
    learn(fast, torch.randn(1, 1, 8, 8, 12))
    fast.network.zero_grad()
    batch = 1
    for event in happens:
        if event == "evolution":
            evolve(connections)
        elif event == "validation":
            validate(fast)
        else:
            batch = 3
    with torch.no_grad():
        for name in connections.masks:  # what came to life has a weight too
            plain.get_parameter(f"{name}.weight").normal_(0, 0.3)
    Connections(plain, connections.masks).apply()
    fast.network.load_state_dict(plain.state_dict())
    image = torch.randn(batch, 1, 8, 8, 12)
    for a, b in zip(learn(plain, image), learn(fast, image), strict=True):
        assert torch.allclose(a, b, atol=1e-3)
    same_gradients(plain, fast, connections, image)


def test_gradients_after_a_validation_are_those_before_it() -> None:
    _, fast, connections = networks([(2, 2, 2)] * 2, base=6, slope=0.01)
    image = torch.randn(2, 1, 8, 8, 12)
    learn(fast, image)
    before = [None if p.grad is None else p.grad.clone() for p in fast.network.parameters()]
    # The lists of a mask are made by whoever comes first: here by a pass without gradients.
    kept = connections.state_dict()
    evolve(connections)
    validate(fast)
    connections.load_state_dict(kept)
    validate(fast)
    fast.network.zero_grad()
    learn(fast, image)
    for a, p in zip(before, fast.network.parameters(), strict=True):
        assert (a is None) == (p.grad is None)
        assert a is None or (p.grad is not None and torch.equal(a, p.grad))


def test_only_some_inputs_want_gradients() -> None:
    """A frozen backbone, then none: the question changes, the mask does not."""
    plain, fast, connections = networks([(2, 2, 2)] * 2, base=6)
    image = torch.randn(1, 1, 8, 8, 12)
    for network, runs in ((plain, plain), (fast.network, fast)):
        network.backbone.requires_grad_(False)
        learn(runs, image)
        network.backbone.requires_grad_(True)
        network.zero_grad()
        learn(runs, image)
    same_gradients(plain, fast, connections, image)


def test_a_step_can_be_repeated_bit_by_bit() -> None:
    _, fast, _ = networks([(2, 2, 2)], base=8, slope=0.01)
    image = torch.randn(2, 1, 8, 40, 40)
    results = []
    for _ in range(3):
        fast.network.zero_grad()
        learn(fast, image)
        results.append([p.grad for p in fast.network.parameters() if p.grad is not None])
    for again in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], again, strict=True))


def test_without_gradients_it_is_the_network() -> None:
    plain, fast, _ = networks([(2, 2, 2)], base=4, slope=0.01)
    image = torch.randn(1, 1, 4, 8, 8)
    with torch.no_grad():
        fast.network.eval()
        for a, b in zip(plain.eval()(image), fast(image), strict=True):
            assert torch.allclose(a, b, atol=1e-3)


def test_maps_in_any_layout_are_taken() -> None:
    plain, fast, _ = networks([(2, 2, 2)], base=4)
    image = torch.randn(1, 1, 4, 8, 16)[..., ::2]
    for a, b in zip(learn(plain, image), learn(fast, image), strict=True):
        assert torch.allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 2, 3), (4, 5)])
def test_memory_goes_back_when_a_tensor_is_gone(shape: tuple[int, ...]) -> None:
    first = planar(*shape)
    assert tuple(first.shape) == shape
    place = first.data_ptr()
    view = first[..., :1]
    del first
    assert planar(*shape).data_ptr() != place  # the view still needs it
    del view
    assert planar(*shape).data_ptr() == place


class _Copied(torch.autograd.Function):
    """Passes on its input; its gradient lies in memory of `planar`."""

    places: ClassVar[list[int]] = []

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        own = planar(*grad.shape).copy_(grad)
        _Copied.places.append(own.data_ptr())
        return own


def test_gradients_are_added_up_in_place() -> None:
    """What two readers say of a map takes no memory beside theirs."""
    _Copied.places.clear()
    arrived: list[int] = []
    x = torch.ones(5, requires_grad=True)
    shared = x * 1
    shared.register_hook(lambda grad: arrived.append(grad.data_ptr()))
    (_Copied.apply(shared) + _Copied.apply(shared)).sum().backward()
    assert arrived[0] in _Copied.places
    assert torch.equal(x.grad, torch.full((5,), 2.0))
