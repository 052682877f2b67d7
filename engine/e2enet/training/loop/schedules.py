"""The learning rate and the loss weights of the recipe."""

from __future__ import annotations

POWER = 0.9


def poly_lr(initial: float, epoch: int, epochs: int) -> float:
    """Learning rate of an epoch: initial * (1 - epoch / epochs)^0.9, as nnU-Net has it."""
    return initial * max(0.0, 1 - epoch / epochs) ** POWER


def supervision_weights(heads: int) -> tuple[float, ...]:
    """Weights of the deep supervision heads, finest first: 2^-h, normalised to sum 1."""
    weights = [2.0**-head for head in range(heads)]
    return tuple(weight / sum(weights) for weight in weights)
