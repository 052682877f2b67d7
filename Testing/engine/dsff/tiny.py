"""A few sparse layers that are no E2ENet: all that connections and evolution ask of a network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from e2enet.networks import SparseLayer
from torch import Tensor, nn


class Tiny(nn.Module):
    """Two fusion convolutions and one transposed convolution, with ReLU between them."""

    def __init__(self, first: int = 12, wide: int = 8, narrow: int = 6, last: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv3d(first, wide, (1, 3, 3), padding=(0, 1, 1))
        self.second = nn.Conv3d(wide, narrow, (1, 3, 3), padding=(0, 1, 1))
        self.up = nn.ConvTranspose3d(narrow, last, 2, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.relu(self.second(F.relu(self.first(x)))))

    def sparse_layers(self) -> dict[str, SparseLayer]:
        inputs = self.first.in_channels
        layers = [
            SparseLayer(
                "first", "fusion", 1, 1, 0, self.first,
                {"forward": (0, inputs // 3), "upward": (inputs // 3, inputs)},
            ),
            SparseLayer("second", "fusion", 1, 1, 1, self.second),
            SparseLayer("up", "up", 1, 1, 0, self.up, {"upward": (0, self.up.in_channels)}),
        ]  # fmt: skip
        return {layer.name: layer for layer in layers}


def train_step(network: Tiny, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """One step of the recipe, without the masks."""
    optimizer.zero_grad()
    F.mse_loss(network(x), y).backward()
    nn.utils.clip_grad_norm_(network.parameters(), 12)
    optimizer.step()


def recipe(network: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=0.99, nesterov=True, weight_decay=3e-5
    )
