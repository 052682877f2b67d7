"""Instance normalisation with leaky ReLU for maps whose channels are last in memory.

PyTorch's instance norm first copies such maps to the planar layout; its batch-norm kernels do not,
and for one sample the two are the same. Statistics are taken per column and then combined in double
precision: the batch-norm kernel alone sums a million voxels one after the other in single
precision, which costs three digits (1e-4 of the variance at 64 x 128 x 128) and more time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2enet.networks.lattice import LEAKY_SLOPE, NORM_EPS

_SLAB_BYTES = 1 << 23  # normalised and rectified in one go while it is in the cache


class InstanceNormLeakyReLU(nn.Module):
    """`LeakyReLU(InstanceNorm(x))` of (B, C, D, H, W), affine, without running statistics.

    Without gradients the input is overwritten and returned: a full-resolution map is the largest
    thing in memory.
    """

    def __init__(self, channels: int, eps: float = NORM_EPS, slope: float = LEAKY_SLOPE) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cpu:
            return _PerSample.apply(x, self.weight, self.bias, self.eps, self.slope)  # type: ignore
        # Not F.instance_norm, which refuses maps of a single voxel: the coarsest of a small patch.
        x = torch.instance_norm(
            x, self.weight, self.bias, None, None, True, 0.0, self.eps, torch.backends.cudnn.enabled
        )
        return F.leaky_relu_(x, self.slope)


def statistics(sample: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of a map (C, D, H, W), channels last in memory."""
    channels, depth, height, width = sample.shape
    columns = sample.permute(1, 2, 3, 0).reshape(1, depth * height, 1, width * channels)
    mean, var = torch.batch_norm_update_stats(columns.permute(0, 3, 1, 2), None, None, 0.0)
    mean, var = mean.view(width, channels).double(), var.view(width, channels).double()
    centre = mean.mean(0)
    var = (var + (mean - centre).square()).mean(0)
    return centre.to(sample.dtype), var.to(sample.dtype)


def _rows(sample: Tensor) -> Tensor:
    """(C, D, H, W), channels last in memory -> (1, C, D*H, W) as a view."""
    channels, depth, height, width = sample.shape
    flat = sample.permute(1, 2, 3, 0).reshape(1, depth * height, width, channels)
    return flat.permute(0, 3, 1, 2)


def _slabs(*maps: Tensor) -> Iterator[tuple[Tensor, ...]]:
    rows = [_rows(sample) for sample in maps]
    size = rows[0].shape[1] * rows[0].shape[3] * rows[0].element_size()
    height = max(1, _SLAB_BYTES // size)
    return zip(*(row.split(height, dim=2) for row in rows), strict=True)


class _PerSample(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last_3d)
        keep = any(ctx.needs_input_grad)
        out = torch.empty_like(x) if keep else x
        saved = []
        for source, target in zip(x, out, strict=True):
            mean, var = statistics(source)
            for part, result in _slabs(source, target):
                normed = torch.native_batch_norm(part, weight, bias, mean, var, False, 0.0, eps)[0]
                torch.ops.aten.leaky_relu.out(normed, slope, out=result)
            saved += [mean, torch.rsqrt(var + eps)]
        if keep:
            ctx.save_for_backward(x, out, weight, *saved)
        ctx.eps, ctx.slope = eps, slope
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        x, out, weight, *saved = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last_3d)
        grad_x = torch.empty_like(x)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        for index, (source, result, upstream) in enumerate(zip(x, out, grad, strict=True)):
            # The sign of the output is the sign of the input of the leaky ReLU.
            inner = torch.ops.aten.leaky_relu_backward(
                _rows(upstream), _rows(result), ctx.slope, True
            )
            mean, inverse_std = saved[2 * index : 2 * index + 2]
            gx, gw, gb = torch.ops.aten.native_batch_norm_backward(
                inner, _rows(source), weight, None, None, mean, inverse_std, True, ctx.eps,
                [True, True, True],
            )  # fmt: skip
            _rows(grad_x[index]).copy_(gx)
            grad_weight += gw
            grad_bias += gb
        return grad_x, grad_weight, grad_bias, None, None
