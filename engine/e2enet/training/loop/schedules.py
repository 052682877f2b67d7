"""Learning rates and loss weights of the recipe."""

from __future__ import annotations

from typing import Literal

POWER = 0.9
OptimizerName = Literal["sgd", "adamw"]
# Initial rates; SGD's is that of the released recipe.
LEARNING_RATES: dict[OptimizerName, float] = {"sgd": 0.01, "adamw": 0.002}


def poly_lr(initial: float, epoch: int, epochs: int) -> float:
    """Learning rate of an epoch: initial * (1 - epoch / epochs)^0.9, as nnU-Net has it."""
    return initial * max(0.0, 1 - epoch / epochs) ** POWER


def warm_up(iteration: int, iterations: int) -> float:
    """Factor of the learning rate at an iteration counted from 0: rises evenly to 1, then stays."""
    return min(1.0, (iteration + 1) / iterations) if iterations else 1.0


def supervision_weights(heads: int) -> tuple[float, ...]:
    """Weights of the deep supervision heads, finest first: 2^-h, normalised to sum 1."""
    weights = [2.0**-head for head in range(heads)]
    return tuple(weight / sum(weights) for weight in weights)
