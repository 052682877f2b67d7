"""Ctrl-C and a polite kill end a training after the step under way, saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from e2enet.events import Cancelled
from e2enet.training.loop.trainer import Trainer

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def saved_first(trainer: Trainer) -> Iterator[None]:
    """Let SIGINT and SIGTERM interrupt a trainer; a second one ends the block at once.

    Outside of the main thread, where Python knows no signals, nothing changes.

    Raises:
        Cancelled: at the second signal, saying what is lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def interrupt(number: int, frame: Any) -> None:
        for one in _SIGNALS:
            signal.signal(one, _at_once)
        trainer.interrupt()

    try:
        for number in _SIGNALS:
            signal.signal(number, interrupt)
        yield
    except KeyboardInterrupt as error:
        epoch = len(trainer.rows)
        raise Cancelled(
            "Stopped at once: "
            + (f"the steps after epoch {epoch}" if epoch else "all steps so far")
            + " may be lost.",
            help=f"Go on from the checkpoint in {trainer.folder} with --resume.",
        ) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _at_once(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
