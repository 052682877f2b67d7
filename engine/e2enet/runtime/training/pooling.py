"""Max pooling by kernels, with its gradient, which keeps nothing but the input."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from e2enet.runtime.kernels import gradients, pointwise
from e2enet.runtime.kernels.memory import identity
from e2enet.runtime.kernels.records import Source
from e2enet.runtime.kernels.vectors import SLACK
from e2enet.runtime.kernels.workers import Workers
from e2enet.runtime.training.tensors import addresses, planar, readable


def max_pool(x: Tensor, stride: tuple[int, int, int], workers: Workers) -> Tensor:
    """(B, C, D, H, W) -> (B, C, D / sd, H / sh, W / sw), as `torch.nn.functional.max_pool3d`.

    PyTorch keeps the place of every maximum in eight bytes; here they are found once more.
    """
    return cast(Tensor, _MaxPool.apply(readable(x), stride, workers))


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: tuple[int, int, int], workers: Workers) -> Tensor:
        height, width = x.shape[3:]
        size = [n // s for n, s in zip(x.shape[2:], stride, strict=True)]
        y = planar(*x.shape[:2], *size)
        inputs, outputs = addresses(x.flatten(0, 1)), addresses(y.flatten(0, 1))
        source = Source(inputs, identity(len(inputs)))
        workers.share(
            len(inputs) * size[0],
            lambda planes, *_: pointwise.pool(
                planes, (size[0], height, width), stride, source, outputs,
                np.empty(width + SLACK, np.float32),
            ),
        )  # fmt: skip
        ctx.save_for_backward(x)
        ctx.stride, ctx.workers = stride, workers
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        grad, dx = readable(grad), planar(*x.shape)
        inputs, targets = addresses(x.flatten(0, 1)), addresses(dx.flatten(0, 1))
        upstream, depth = addresses(grad.flatten(0, 1)), grad.shape[2]
        ctx.workers.share(
            len(inputs) * depth,
            lambda planes, *_: gradients.pool_gradients(
                planes, (depth, *x.shape[3:]), ctx.stride, inputs, upstream, targets
            ),
        )
        return dx, None, None
