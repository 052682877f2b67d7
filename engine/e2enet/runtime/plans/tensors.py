"""The sparse plan for networks and images of PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from e2enet.networks import E2ENet
from e2enet.runtime.plans.sparse import SparsePlan
from e2enet.runtime.plans.weights import arrays_of


class TensorPlan:
    """Maps (B, C, D, H, W) to the finest logits (B, K, D, H, W), both tensors on the CPU.

    Args:
        network: Its weights, zero where a connection is dead, are copied.
        threads: Threads to compute with.
    """

    def __init__(self, network: E2ENet, threads: int) -> None:
        self.sparse = SparsePlan(network.lattice, arrays_of(network), threads)

    def __call__(self, image: Tensor) -> Tensor:
        return torch.from_numpy(self.sparse(image.detach().float().numpy()))
