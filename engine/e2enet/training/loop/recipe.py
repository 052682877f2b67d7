"""How long and how hard to train."""

from __future__ import annotations

from dataclasses import dataclass

from e2enet.training.loop.schedules import OptimizerName


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train; the released recipe by default.

    Args:
        epochs: of `iterations_per_epoch` optimiser steps each.
        validation_iterations: batches of the online Dice after each epoch.
        lr: initial learning rate of the poly schedule.
        optimizer: "sgd" (with Nesterov momentum, the released recipe) or "adamw" (Loshchilov and
            Hutter, ICLR 2019), which learns rare structures sooner in a short training.
        momentum: of SGD.
        warmup: iterations over which AdamW's learning rate rises.
        clip: largest norm of the gradient.
        batch_dice: as in `e2enet.training.loop.loss.dice_ce`.
    """

    epochs: int = 1000
    iterations_per_epoch: int = 250
    validation_iterations: int = 50
    lr: float = 0.01
    optimizer: OptimizerName = "sgd"
    momentum: float = 0.99
    warmup: int = 50
    weight_decay: float = 3e-5
    clip: float = 12.0
    batch_dice: bool = False

    @property
    def total(self) -> int:
        """Optimiser steps of the whole training."""
        return self.epochs * self.iterations_per_epoch
