from __future__ import annotations

import pytest
import torch
from e2enet.networks.shift import chunk_shifts, shift_concat
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor


def expected(parts: list[Tensor], groups: int, stride: int) -> Tensor:
    """Concatenate, chunk, roll, blank what came round, take every n-th slice."""
    moved = []
    for index, chunk in enumerate(torch.chunk(torch.cat(parts, 1), groups, dim=1)):
        shift, depth = index - groups // 2, chunk.shape[2]
        rolled = torch.roll(chunk, shift, dims=2)
        source = torch.arange(depth) - shift
        kept = ((source >= 0) & (source < depth)).to(chunk.dtype)
        moved.append(rolled * kept.view(1, 1, -1, 1, 1))
    return torch.cat(moved, 1)[:, :, ::stride]


@settings(max_examples=150, deadline=None)
@given(
    widths=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    depth=st.integers(1, 7),
    groups=st.integers(1, 7),
    stride=st.integers(1, 3),
    batch=st.integers(1, 2),
    channels_last=st.booleans(),
)
def test_values_and_gradients_are_those_of_the_plain_way(
    widths: list[int], depth: int, groups: int, stride: int, batch: int, channels_last: bool
) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(batch, width, depth, 3, 2) for width in widths]
    if channels_last:
        parts = [part.contiguous(memory_format=torch.channels_last_3d) for part in parts]
    ours = [part.clone().requires_grad_() for part in parts]
    plain = [part.clone().requires_grad_() for part in parts]

    result = shift_concat(ours, groups, stride)
    wanted = expected(plain, groups, stride)

    assert torch.equal(result, wanted)
    upstream = torch.randn_like(wanted)
    for mine, theirs in zip(
        torch.autograd.grad(result, ours, upstream),
        torch.autograd.grad(wanted, plain, upstream),
        strict=True,
    ):
        assert torch.equal(mine, theirs)
        layout = torch.channels_last_3d if channels_last else torch.contiguous_format
        assert mine.is_contiguous(memory_format=layout)


@given(channels=st.integers(1, 40), groups=st.integers(1, 9))
def test_groups_are_those_of_torch_chunk(channels: int, groups: int) -> None:
    chunks = torch.chunk(torch.arange(channels), groups)
    wanted = [(int(c[0]), int(c[-1]) + 1, k - groups // 2) for k, c in enumerate(chunks)]
    assert chunk_shifts(channels, groups) == wanted


def test_a_single_channel_moves_as_a_whole() -> None:
    x = torch.arange(1.0, 5.0).view(1, 1, 4, 1, 1)
    assert shift_concat([x], 3).flatten().tolist() == [2, 3, 4, 0]
    assert shift_concat([x], 5).flatten().tolist() == [3, 4, 0, 0]


def test_the_result_is_channels_last() -> None:
    y = shift_concat([torch.randn(2, 4, 3, 5, 6), torch.randn(2, 3, 3, 5, 6)], 3)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


def test_parts_of_different_precision_are_promoted() -> None:
    parts = [torch.ones(1, 2, 2, 2, 2), torch.ones(1, 2, 2, 2, 2, dtype=torch.bfloat16)]
    parts = [part.requires_grad_() for part in parts]
    y = shift_concat(parts, 1)
    assert y.dtype == torch.float32
    y.sum().backward()
    assert [part.grad.dtype for part in parts] == [torch.float32, torch.bfloat16]


def test_only_the_gradients_that_are_asked_for_are_made() -> None:
    image = torch.randn(1, 2, 3, 2, 2)
    maps = torch.randn(1, 2, 3, 2, 2, requires_grad=True)
    shift_concat([image, maps], 3).sum().backward()
    assert image.grad is None
    assert maps.grad is not None


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2)])
def test_gradcheck(groups: int, stride: int) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(2, c, 5, 2, 2, dtype=torch.double, requires_grad=True) for c in (3, 2)]
    assert torch.autograd.gradcheck(lambda *p: shift_concat(p, groups, stride), parts)
