"""Which connections of the fusion lattice are alive.

A connection is one (output map, input map) kernel of a fusion convolution or of an upward
transposed convolution. A live kernel is whole, a dead one is all zeros. E2ENet, arXiv 2312.04727,
section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from e2enet.dsff.shares import flow_shares
from e2enet.dsff.sparsity import planned_live
from e2enet.networks import E2ENet, SparseLayer


class Connections:
    """Boolean masks over the first two axes of every sparse weight of a network.

    Args:
        network: Says which layers are sparse (`E2ENet.sparse_layers`).
        masks: Layer name -> mask (weight.shape[0], weight.shape[1]).

    Raises:
        ValueError: A layer has no mask, or one of another shape.
    """

    def __init__(self, network: E2ENet, masks: Mapping[str, Tensor]) -> None:
        self.layers: dict[str, SparseLayer] = network.sparse_layers()
        self.masks: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            shape = tuple(layer.weight.shape[:2])
            mask = masks.get(name)
            if mask is None or tuple(mask.shape) != shape:
                found = "none" if mask is None else f"one of shape {tuple(mask.shape)}"
                raise ValueError(f"Layer {name} needs a mask of shape {shape}; there is {found}.")
            mask = mask.detach().to(layer.weight.device, torch.bool)
            self.masks[name] = mask.clone(memory_format=torch.contiguous_format)

    @classmethod
    def random(
        cls,
        network: E2ENet,
        sparsity: float,
        *,
        level0_density: float | None = None,
        seed: int = 0,
    ) -> Connections:
        """Draw the live connections of each layer uniformly at random.

        Args:
            network: The network.
            sparsity: Feature sparsity S; a layer keeps `round((1 - S) * connections)`.
            level0_density: Density of the level-0 fusion convolutions instead of 1 - S. The
                released code keeps 0.2 there whatever S is; None is uniform.
            seed: The draw is the same for the same seed on any device.

        Raises:
            ValueError: The sparsity or the density lies outside [0, 1).
        """
        generator = torch.Generator().manual_seed(seed)
        live = planned_live(network.sparse_layers(), sparsity, level0_density=level0_density)
        masks = {}
        for name, layer in network.sparse_layers().items():
            mask = torch.zeros(layer.weight.shape[:2], dtype=torch.bool)
            mask.view(-1)[torch.randperm(mask.numel(), generator=generator)[: live[name]]] = True
            masks[name] = mask
        return cls(network, masks)

    @classmethod
    def dense(cls, network: E2ENet) -> Connections:
        """Every connection alive."""
        return cls.random(network, 0.0)

    @classmethod
    def from_weights(cls, network: E2ENet) -> Connections:
        """A kernel that is all zeros is a dead connection."""
        masks = {
            name: layer.weight.detach().flatten(2).ne(0).any(2)
            for name, layer in network.sparse_layers().items()
        }
        return cls(network, masks)

    @property
    def live(self) -> int:
        """Number of live connections."""
        return sum(int(mask.sum()) for mask in self.masks.values())

    @property
    def total(self) -> int:
        """Number of connections, live and dead."""
        return sum(mask.numel() for mask in self.masks.values())

    @property
    def live_by_layer(self) -> dict[str, int]:
        """Number of live connections of each layer."""
        return {name: int(mask.sum()) for name, mask in self.masks.items()}

    @property
    def density(self) -> float:
        """Live share of the connections; 1 for a network that has none to remove."""
        return self.live / self.total if self.total else 1.0

    @property
    def live_parameters(self) -> int:
        """Weights in live kernels of the sparse layers."""
        return sum(
            int(mask.sum()) * self.layers[name].weight[0, 0].numel()
            for name, mask in self.masks.items()
        )

    @torch.no_grad()
    def apply(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Zero dead weights and what the optimiser keeps of them; gradients are left alone."""
        for name, mask in self.masks.items():
            weight = self.layers[name].weight
            dead = ~_broadcast(mask, weight)
            weight.masked_fill_(dead, 0)
            for moments in moments_of(optimizer, weight):
                moments.masked_fill_(dead, 0)

    @torch.no_grad()
    def kernel_l1(self, name: str) -> Tensor:
        """L1 norm of each kernel of a layer, shaped as its mask."""
        weight = self.layers[name].weight
        return weight.detach().flatten(2).abs().sum(2)

    @torch.no_grad()
    def shares(self) -> list[dict[str, Any]]:
        """What each fused node takes from which flow, as `flow_shares` says."""
        return flow_shares(
            self.layers,
            {name: mask.cpu().numpy() for name, mask in self.masks.items()},
            {name: self.kernel_l1(name).cpu().numpy() for name in self.masks},
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Layer name -> mask."""
        return {name: mask.clone() for name, mask in self.masks.items()}

    def load_state_dict(self, masks: Mapping[str, Tensor]) -> None:
        """Take over masks of the same shapes, in place.

        Raises:
            ValueError: A mask is missing or has another shape.
        """
        for name, mask in self.masks.items():
            if name not in masks or masks[name].shape != mask.shape:
                raise ValueError(f"There is no mask of shape {tuple(mask.shape)} for {name}.")
            mask.copy_(masks[name])


def moments_of(optimizer: torch.optim.Optimizer | None, weight: Tensor) -> list[Tensor]:
    """What an optimiser keeps for each element of a weight: SGD's momentum, Adam's two moments.

    Empty before the first step or without an optimiser. Counts of steps are not among them.
    """
    if optimizer is None or weight not in optimizer.state:
        return []
    state = optimizer.state[weight].values()
    return [v for v in state if isinstance(v, Tensor) and v.shape == weight.shape]


def _broadcast(mask: Tensor, weight: Tensor) -> Tensor:
    return mask.view(*mask.shape, *(1,) * (weight.ndim - 2))
