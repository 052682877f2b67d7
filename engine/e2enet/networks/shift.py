"""Restricted depth-shift: a third dimension for two-dimensional kernels, at no parameter.

E2ENet, arXiv 2312.04727, section 3.2. Channels are split into consecutive groups as `torch.chunk`
does; group k moves by k - groups // 2 slices along depth and zeros enter at the border.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from e2enet.networks.lattice import chunk_shifts


class _Piece(NamedTuple):
    """A run of channels of one input that moves as a whole."""

    part: int
    channels: slice
    target: slice
    shift: int


def shift_concat(parts: Sequence[Tensor], groups: int, depth_stride: int = 1) -> Tensor:
    """Concatenate maps along channels, shift them along depth and keep every n-th slice.

    Equal to `depth_shift(torch.cat(parts, 1))[:, :, ::depth_stride]`, but every value is written
    once, and slices that a strided convolution would skip are never written.

    Args:
        parts: Maps (B, C_j, D, H, W) of equal size but for channels.
        groups: Number of shift groups n; 1 shifts nothing.
        depth_stride: Depth stride of the (1, 3, 3) convolution that follows.

    Returns:
        (B, sum C_j, ceil(D / depth_stride), H, W), channels last in memory.
    """
    return _ShiftConcat.apply(groups, depth_stride, *parts)  # type: ignore[no-any-return]


def _pieces(widths: Sequence[int], groups: int) -> list[_Piece]:
    pieces = []
    shifts = chunk_shifts(sum(widths), groups)
    offset = 0
    for part, width in enumerate(widths):
        for start, stop, shift in shifts:
            first, last = max(start, offset), min(stop, offset + width)
            if first < last:
                channels = slice(first - offset, last - offset)
                pieces.append(_Piece(part, channels, slice(first, last), shift))
        offset += width
    return pieces


def moved_slices(depth: int, stride: int, shift: int) -> tuple[slice, slice]:
    """Output slices that receive something, and the input slices they receive."""
    out_depth = -(-depth // stride)
    first = max(0, -(-shift // stride))
    last = min(out_depth, (depth - 1 + shift) // stride + 1)
    if last <= first:
        return slice(0, 0), slice(0, 0)
    start = first * stride - shift
    return slice(first, last), slice(start, start + (last - first - 1) * stride + 1, stride)


class _ShiftConcat(torch.autograd.Function):
    """The backward pass is the opposite move: each input takes back what it gave."""

    @staticmethod
    def forward(ctx: Any, groups: int, stride: int, *parts: Tensor) -> Tensor:
        batch, _, depth, height, width = parts[0].shape
        widths = [part.shape[1] for part in parts]
        dtype = parts[0].dtype
        for part in parts[1:]:
            dtype = torch.promote_types(dtype, part.dtype)
        out = torch.empty(
            (batch, sum(widths), -(-depth // stride), height, width),
            dtype=dtype,
            device=parts[0].device,
            memory_format=torch.channels_last_3d,
        )
        for piece in _pieces(widths, groups):
            to, of = moved_slices(depth, stride, piece.shift)
            target = out[:, piece.target]
            target[:, :, to] = parts[piece.part][:, piece.channels, of]
            target[:, :, : to.start] = 0
            target[:, :, to.stop :] = 0
        ctx.groups, ctx.stride, ctx.depth, ctx.widths = groups, stride, depth, widths
        ctx.dtypes = [part.dtype for part in parts]
        ctx.planar = [part.is_contiguous() for part in parts]
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        batch, _, _, height, width = grad.shape
        grads: list[Tensor | None] = []
        for channels, dtype, planar, needed in zip(
            ctx.widths, ctx.dtypes, ctx.planar, ctx.needs_input_grad[2:], strict=True
        ):
            if not needed:
                grads.append(None)
                continue
            # In the layout of the part: gradients of other readers are added to it.
            layout = torch.contiguous_format if planar else torch.channels_last_3d
            shape = (batch, channels, ctx.depth, height, width)
            empty = torch.empty(shape, dtype=dtype, device=grad.device, memory_format=layout)
            grads.append(empty.zero_())
        for piece in _pieces(ctx.widths, ctx.groups):
            target = grads[piece.part]
            if target is None:
                continue
            to, of = moved_slices(ctx.depth, ctx.stride, piece.shift)
            target[:, piece.channels, of] = grad[:, piece.target, to].to(target.dtype)
        return (None, None, *grads)
