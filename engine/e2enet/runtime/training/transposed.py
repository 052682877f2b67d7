"""`UpConv` by sparse kernels, with its gradient."""

from __future__ import annotations

import functools
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from e2enet.dsff import Connections
from e2enet.networks.e2enet import UpConv
from e2enet.runtime.kernels import gradients, pointwise
from e2enet.runtime.kernels.accumulation import PITCH
from e2enet.runtime.kernels.layers import PointLayer, point_layer
from e2enet.runtime.kernels.memory import identity
from e2enet.runtime.kernels.records import Lists, Source
from e2enet.runtime.kernels.voxels import FLOAT
from e2enet.runtime.kernels.workers import Workers
from e2enet.runtime.training.tensors import addresses, planar, readable


class SparseUp:
    """`UpConv.forward` by sparse kernels.

    Args:
        up: Its weight is used.
        name, connections: Its mask is the one of this name.
        workers: Threads.
    """

    def __init__(self, up: UpConv, name: str, connections: Connections, workers: Workers) -> None:
        self.up, self.workers = up, workers
        self._name, self._connections = name, connections

    @property
    def mask(self) -> Tensor:
        """(input, output) which connections live now."""
        return self._connections.masks[self._name]

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C_in, D, H, W) -> (B, C_out, D * sd, H * sh, W * sw)."""
        x = readable(x)
        y = cast(Tensor, _Expansion.apply(self, self.up.weight, x))
        # Eight times as large as what it is made of, and quick to make.
        y.remake = functools.partial(_expanded, self, self.up.weight.detach(), x.detach())  # type: ignore[attr-defined]
        return y

    def expand(self, layer: PointLayer, x: Tensor, y: Tensor) -> None:
        """Write the upward maps y of a sample x."""
        inputs, outputs = addresses(x)[layer.read], addresses(y)
        source = Source(inputs, identity(len(inputs)))
        scratch = [pointwise.scratch([layer]) for _ in range(self.workers.threads)]
        self.workers.share(
            -(-x[0].numel() // PITCH),
            lambda blocks, thread, _: pointwise.expand(
                blocks, (0, *x.shape[1:]), layer.box, source, layer.live, layer.factors,
                outputs, FLOAT, scratch[thread],
            ),
        )  # fmt: skip

    def contract(
        self, lists: Lists, factors: np.ndarray, x: Tensor, grad: Tensor, dx: Tensor
    ) -> np.ndarray:
        """Write the gradient dx of a sample x; returns the gradients of the factors.

        Args:
            lists, factors: Of `gradients.contract`.
            x, grad, dx: The sample, the gradient of its upward maps, and of itself.
        """
        box = self.up.stride
        inputs, upstream, targets = addresses(x), addresses(grad), addresses(dx)
        blocks = -(-x[0].numel() // PITCH)
        # One sum a thread, and always the same share of the work in it: sums can be repeated.
        threads = min(self.workers.threads, blocks)
        borders = [blocks * n // threads for n in range(threads + 1)]
        sums = np.zeros((threads, len(factors)), np.float32)
        places = int(np.prod(box))
        scratch = [gradients.box_scratch(len(grad), places) for _ in range(threads)]
        self.workers.share(
            threads,
            lambda portions, thread, _: [
                gradients.contract(
                    (borders[n], borders[n + 1]), tuple(x.shape[1:]), box, inputs, upstream,
                    lists, factors, targets, sums[n], scratch[thread],
                )
                for n in range(*portions)
            ],
        )  # fmt: skip
        return sums.sum(0)  # type: ignore[no-any-return]


def _expanded(up: SparseUp, weight: Tensor, x: Tensor) -> Tensor:
    """The upward maps (B, C_out, D * sd, H * sh, W * sw) of x."""
    batch, _, *size = x.shape
    box, outputs = up.up.stride, weight.shape[1]
    y = planar(batch, outputs, *(n * s for n, s in zip(size, box, strict=True)))
    layer = point_layer(weight.numpy(), box, np.ones(outputs, bool))
    for sample in range(batch):
        up.expand(layer, x[sample], y[sample])
    return y


class _Expansion(torch.autograd.Function):
    """A transposed convolution whose kernel is its stride."""

    @staticmethod
    def forward(ctx: Any, up: SparseUp, weight: Tensor, x: Tensor) -> Tensor:
        y = _expanded(up, weight.detach(), x)
        ctx.save_for_backward(weight, x)
        ctx.up, ctx.mask = up, up.mask.clone()
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        weight, x = ctx.saved_tensors
        batch, maps = x.shape[:2]
        grad = readable(grad)
        inputs, outputs = (axis.astype(np.int64) for axis in np.nonzero(ctx.mask.numpy()))
        lists = Lists(outputs, np.searchsorted(inputs, np.arange(maps + 1)))
        kernels = weight.detach().numpy()[inputs, outputs]
        factors = np.ascontiguousarray(kernels.reshape(-1))
        dx = planar(*x.shape)
        sums = np.zeros(len(factors), np.float32)
        for sample in range(batch):
            sums += ctx.up.contract(lists, factors, x[sample], grad[sample], dx[sample])
        grad_weight = torch.zeros_like(weight)
        grad_weight[inputs, outputs] = torch.from_numpy(sums.reshape(kernels.shape))
        return None, grad_weight, dx
