from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from e2enet.networks.normalisation import InstanceNormLeakyReLU, statistics
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor


def layer(channels: int, dtype: torch.dtype = torch.float32) -> InstanceNormLeakyReLU:
    torch.manual_seed(1)
    made = InstanceNormLeakyReLU(channels).to(dtype)
    with torch.no_grad():
        made.weight.normal_(1, 0.5)
        made.bias.normal_()
    return made


def expected(x: Tensor, norm: InstanceNormLeakyReLU) -> Tensor:
    y = F.instance_norm(x, weight=norm.weight, bias=norm.bias, eps=1e-5)
    return F.leaky_relu(y, 0.01)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(
        st.integers(1, 3),
        st.integers(1, 9),
        st.integers(1, 5),
        st.integers(2, 7),
        st.integers(1, 7),
    ),
    channels_last=st.booleans(),
    train=st.booleans(),
)
def test_equals_torch(shape: tuple[int, ...], channels_last: bool, train: bool) -> None:
    norm = layer(shape[1])
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2)) * 3 + 1
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    wanted_input, own_input = x.clone().requires_grad_(train), x.clone().requires_grad_(train)
    with torch.set_grad_enabled(train):
        wanted, result = expected(wanted_input, norm), norm(own_input)
    assert torch.allclose(result, wanted, atol=2e-5)
    if not train:
        return
    upstream = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    mine = torch.autograd.grad(result, [own_input, norm.weight, norm.bias], upstream)
    theirs = torch.autograd.grad(wanted, [wanted_input, norm.weight, norm.bias], upstream)
    for a, b in zip(mine, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-4 * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize("mean", [0.0, 1e2, 1e4])
def test_a_large_mean_costs_no_precision(mean: float) -> None:
    x = torch.randn(1, 3, 8, 32, 32, generator=torch.Generator().manual_seed(2)) + mean
    norm = layer(3)
    with torch.no_grad():
        wanted = expected(x.double(), norm.double()).float()
        result = norm.float()(x.clone())
    assert float((result - wanted).abs().max()) < 1e-5 + 3e-7 * mean


def test_statistics_of_a_large_map() -> None:
    x = torch.randn(5, 16, 96, 96, generator=torch.Generator().manual_seed(2)) * 2 + 3
    mean, variance = statistics(x)
    assert torch.allclose(mean, x.double().mean((1, 2, 3)).float(), rtol=1e-6)
    wanted = x.double().var((1, 2, 3), unbiased=False).float()
    assert torch.allclose(variance, wanted, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 7.0, -1e3])
def test_a_constant_map_becomes_the_bias(value: float) -> None:
    norm = layer(2)
    with torch.no_grad():
        y = norm(torch.full((2, 2, 3, 4, 5), value))
    wanted = F.leaky_relu(norm.bias, 0.01).view(1, 2, 1, 1, 1).expand_as(y)
    # Rounding of the mean is multiplied by 1 / sqrt(eps), here as in PyTorch's own.
    assert torch.allclose(y, wanted, atol=1e-6 + 4e-5 * abs(value))


def test_a_single_voxel_becomes_the_bias() -> None:
    norm = layer(4)
    x = torch.randn(2, 4, 1, 1, 1, requires_grad=True)
    y = norm(x)
    wanted = F.leaky_relu(norm.bias, 0.01).view(1, 4, 1, 1, 1).expand_as(y)
    assert torch.allclose(y, wanted, atol=1e-4)
    y.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_samples_of_a_batch_do_not_touch_each_other() -> None:
    norm = layer(3)
    x = torch.randn(3, 3, 4, 5, 6) * torch.tensor([1.0, 10.0, 100.0]).view(3, 1, 1, 1, 1)
    with torch.no_grad():
        together = norm(x.clone())
        alone = torch.cat([norm(sample[None].clone()) for sample in x])
    assert torch.equal(together, alone)


def test_training_leaves_its_input_alone() -> None:
    x = torch.randn(1, 3, 4, 5, 6).contiguous(memory_format=torch.channels_last_3d)
    before = x.clone()
    layer(3)(x)  # the parameters need gradients
    assert torch.equal(x, before)


@pytest.mark.parametrize("batch", [1, 2])
def test_gradcheck(batch: int) -> None:
    norm = layer(3, torch.double)
    x = torch.randn(batch, 3, 2, 3, 4, dtype=torch.double, requires_grad=True)

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(function, (x, norm.weight, norm.bias))
