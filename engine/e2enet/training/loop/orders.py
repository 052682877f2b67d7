"""What ends a training early, saved: a control file, Ctrl-C, a polite kill."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from e2enet.events import Cancelled
from e2enet.training.loop.ranks import Ranks

CONTROL = "control"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Outcome = Literal["finished", "paused", "stopped", "interrupted"]


class Orders:
    """What somebody asks of a training: the file "control" in its folder, or `interrupt`.

    Args:
        folder: where the file lies; it holds the word "pause" or "stop".
        ranks: the processes that train together. The first one reads the file.
    """

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self.folder, self.ranks = folder, ranks
        self._interrupted = False

    def interrupt(self) -> None:
        """Ask to save and return after the step under way; a signal handler may call this."""
        self._interrupted = True

    def agreed(self) -> Outcome | None:
        """What is asked of any of the ranks; all of them stop at the same step."""
        orders: tuple[Outcome | None, ...] = (None, "paused", "stopped", "interrupted")
        asked = self._asked() if self.ranks.first or self._interrupted else None
        return orders[self.ranks.largest(orders.index(asked))]

    def _asked(self) -> Outcome | None:
        """A control file is taken away once it is read."""
        if self._interrupted:
            return "interrupted"
        path = self.folder / CONTROL
        try:
            word = path.read_text(encoding="utf-8").strip().lower()
        except OSError:
            return None
        if word not in ("pause", "stop"):
            return None  # still being written
        path.unlink(missing_ok=True)
        return "paused" if word == "pause" else "stopped"


@contextmanager
def saved_first(orders: Orders, epochs: Sequence[Any]) -> Iterator[None]:
    """Let SIGINT and SIGTERM interrupt a training; a second one ends the block at once.

    Outside of the main thread, where Python knows no signals, nothing changes.

    Args:
        orders: the training's.
        epochs: one entry a finished epoch; grows while it trains.

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
        orders.interrupt()

    try:
        for number in _SIGNALS:
            signal.signal(number, interrupt)
        yield
    except KeyboardInterrupt as error:
        done = len(epochs)
        raise Cancelled(
            "Stopped at once: "
            + (f"the steps after epoch {done}" if done else "all steps so far")
            + " may be lost.",
            help=f"Go on from the checkpoint in {orders.folder} with --resume.",
        ) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _at_once(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
