"""Signals while the network trains."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from e2enet.events import Cancelled
from e2enet.training.loop.orders import saved_first
from e2enet.training.loop.trainer import Trainer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="os.kill sends no SIGINT there")
Make = Callable[..., Trainer]


def signalling(trainer: Trainer, at: int, *numbers: int) -> Trainer:
    """The trainer, sending its own process signals in the midst of a step."""
    step = trainer.step

    def stepping(*args: Any) -> float:
        if trainer.iteration == at:
            for number in numbers:
                os.kill(os.getpid(), number)
        return step(*args)

    trainer.step = stepping  # type: ignore[method-assign]
    return trainer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_first_signal_ends_the_run_saved(make_trainer: Make, number: int, workers: int) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    trainer = signalling(make_trainer(workers=workers), 5, number)
    with saved_first(trainer.orders, trainer.rows):
        assert trainer.run() == "interrupted"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    again = make_trainer()
    again.restore()
    assert again.iteration == 6


def test_the_second_signal_ends_it_at_once_and_says_what_is_lost(make_trainer: Make) -> None:
    trainer = signalling(make_trainer(), 6, signal.SIGINT, signal.SIGINT)
    with (
        pytest.raises(Cancelled, match="the steps after epoch 1 may be lost") as caught,
        saved_first(trainer.orders, trainer.rows),
    ):
        trainer.run()
    assert "--resume" in caught.value.help
    again = make_trainer()
    again.restore()
    assert again.iteration == 4


def test_another_thread_has_no_signals(make_trainer: Make) -> None:
    outcomes: list[str] = []

    def work() -> None:
        trainer = make_trainer(epochs=1, iterations_per_epoch=1)
        with saved_first(trainer.orders, trainer.rows):
            outcomes.append(trainer.run())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcomes == ["finished"]
