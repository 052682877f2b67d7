"""The optimiser of a recipe, and its state by the names of the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from e2enet.training.loop.recipe import Recipe


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
        )
    return torch.optim.SGD(
        network.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )


def optimizer_state(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Any]:
    """{parameter: {what: tensor}}; what has no step behind it is left out."""
    return {
        name: dict(optimizer.state[parameter])
        for name, parameter in network.named_parameters()
        if parameter in optimizer.state
    }


def load_optimizer_state(
    optimizer: torch.optim.Optimizer,
    network: nn.Module,
    state: Mapping[str, Any],
    device: torch.device,
) -> None:
    """Go on where `optimizer_state` was taken."""
    for name, parameter in network.named_parameters():
        for key, value in state.get(name, {}).items():
            # Adam counts its steps in a tensor that stays on the CPU.
            kept = value if key == "step" or value is None else value.to(device)
            optimizer.state[parameter][key] = kept
