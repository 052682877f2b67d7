"""How long and how hard to train."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train; the released recipe by default.

    Args:
        epochs: of `iterations_per_epoch` optimiser steps each.
        validation_iterations: batches of the online Dice after each epoch.
        lr: initial learning rate of the poly schedule.
        momentum: of Nesterov SGD.
        clip: largest norm of the gradient.
        batch_dice: as in `e2enet.training.loop.loss.dice_ce`.
    """

    epochs: int = 1000
    iterations_per_epoch: int = 250
    validation_iterations: int = 50
    lr: float = 0.01
    momentum: float = 0.99
    weight_decay: float = 3e-5
    clip: float = 12.0
    batch_dice: bool = False

    @property
    def total(self) -> int:
        """Optimiser steps of the whole training."""
        return self.epochs * self.iterations_per_epoch
