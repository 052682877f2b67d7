"""Progress and failure as events: one JSON object a line for a program, nothing for a library.

Every long piece of work takes a `Reporter` and tells it how far it is. The base class keeps quiet,
`JsonReporter` writes JSON lines for a parent process, `e2enet.cli.console` draws a progress bar.
Standard library only: the Slicer panel imports this before anything is installed.
"""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any, TextIO


class BadInput(Exception):
    """Something a person gave us cannot be used.

    Args:
        message: One sentence that names the file and says what is wrong.
        help: What would help.
        code: Stable identifier for programs, in kebab case.
    """

    def __init__(self, message: str, *, help: str = "", code: str = "bad-input") -> None:
        super().__init__(f"{message} {help}".strip())
        self.message = message
        self.help = help
        self.code = code


class Cancelled(Exception):
    """The person or the parent process asked to stop.

    Args:
        message: One sentence.
        help: How to go on.
    """

    def __init__(self, message: str = "Cancelled.", *, help: str = "") -> None:
        super().__init__(f"{message} {help}".strip())
        self.message = message
        self.help = help


class Reporter:
    """Receives events and drops them: what library use gets unless it asks for more."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` steps of `stage` are finished."""

    def metric(self, name: str, **values: Any) -> None:
        """A measured value, such as the loss of an epoch."""

    def result(self, **values: Any) -> None:
        """The outcome: files written, volumes, figures."""

    def warning(self, code: str, message: str) -> None:
        """Something a person should know although the work goes on."""

    def error(self, code: str, message: str, help: str = "") -> None:
        """The work has ended without a result."""

    def close(self) -> None:
        """Nothing more is told for now: what stands on the screen is taken away."""


class JsonReporter(Reporter):
    """Writes one JSON object a line and flushes after each.

    Args:
        stream: Where the lines go, standard output by default.
        clock: Seconds from any origin; tests pass their own.
    """

    def __init__(self, stream: TextIO | None = None, clock: Any = time.monotonic) -> None:
        self._stream = stream or sys.stdout
        self._eta = RemainingTime(clock)

    def progress(self, stage: str, done: int, total: int) -> None:
        eta = self._eta.after(stage, done, total)
        self._write("progress", stage=stage, done=done, total=total, eta_s=eta)

    def metric(self, name: str, **values: Any) -> None:
        self._write("metric", name=name, **values)

    def result(self, **values: Any) -> None:
        self._write("result", **values)

    def warning(self, code: str, message: str) -> None:
        self._write("warning", code=code, message=message)

    def error(self, code: str, message: str, help: str = "") -> None:
        self._write("error", code=code, message=message, help=help)

    def _write(self, event: str, **values: Any) -> None:
        line = json.dumps({"event": event, **_finite(values)}, default=_plain, allow_nan=False)
        self._stream.write(line + "\n")
        self._stream.flush()


class RemainingTime:
    """Estimates the seconds left of a stage from the pace since its first report."""

    def __init__(self, clock: Any = time.monotonic) -> None:
        self._clock = clock
        self._started: dict[str, tuple[float, int]] = {}
        self._last: dict[str, int] = {}

    def after(self, stage: str, done: int, total: int) -> float | None:
        """Seconds left when `done` of `total` are finished; None while nothing is known."""
        now = self._clock()
        if done < self._last.get(stage, done):  # the stage runs again, for the next case
            del self._started[stage]
        self._last[stage] = done
        start, first = self._started.setdefault(stage, (now, done))
        if done <= first:
            return None
        return round((now - start) / (done - first) * (total - done), 1)


def _plain(value: Any) -> Any:
    """Arrays, tensors and their scalars as numbers, anything else, such as a path, as text."""
    return _finite(value.tolist()) if hasattr(value, "tolist") else str(value)


def _finite(value: Any) -> Any:
    """NaN and infinity are not JSON: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
