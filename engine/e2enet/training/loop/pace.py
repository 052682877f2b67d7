"""How long a step of a training takes, measured."""

from __future__ import annotations

import statistics
import time

import torch

from e2enet.training.loop.trainer import Trainer


def step_seconds(trainer: Trainer, *, steps: int = 3) -> float:
    """Median seconds of real steps with their patches, after one to warm up.

    The trainer has learned from them and is not meant to go on.
    """
    trainer.connections.apply()
    trainer.network.train()
    seconds = []
    for iteration in range(steps + 1):
        started = time.monotonic()
        keys = [(0, iteration, sample) for sample in range(trainer.training.batch_size)]
        images, labels = zip(*(trainer.training[key] for key in keys), strict=True)
        trainer.step(torch.stack(images), torch.stack(labels), 0)
        seconds.append(time.monotonic() - started)
    return statistics.median(seconds[1:])
