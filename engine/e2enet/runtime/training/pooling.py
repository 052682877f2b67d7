"""Max pooling that keeps nothing but its input for the backward pass."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor


def max_pool(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """(B, C, D, H, W) -> (B, C, D / sd, H / sh, W / sw), as `torch.nn.functional.max_pool3d`.

    PyTorch keeps the place of every maximum in eight bytes; here they are found once more.
    """
    return cast(Tensor, _MaxPool.apply(x, stride))


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: tuple[int, int, int]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.stride = stride
        return F.max_pool3d(x, stride, stride)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        stride = list(ctx.stride)
        _, places = F.max_pool3d(x, stride, stride, return_indices=True)
        back = torch.ops.aten.max_pool3d_with_indices_backward
        return back(grad, x, stride, stride, [0, 0, 0], [1, 1, 1], False, places), None
