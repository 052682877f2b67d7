"""What happened in a run, as lines in its folder."""

from __future__ import annotations

import datetime
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from e2enet.events import Reporter

LOG = "log.txt"


class Logged(Reporter):
    """Passes everything on to another reporter, and all but progress into a file.

    A log that cannot be written stops nothing.

    Args:
        reporter: Gets every event.
        path: Of the log; new lines are appended.
    """

    def __init__(self, reporter: Reporter, path: Path) -> None:
        self._reporter, self._path = reporter, path

    def progress(self, stage: str, done: int, total: int) -> None:
        self._reporter.progress(stage, done, total)

    def metric(self, name: str, **values: Any) -> None:
        self._write(name, json.dumps(values, default=str))
        self._reporter.metric(name, **values)

    def result(self, **values: Any) -> None:
        self._write("result", json.dumps(values, default=str))
        self._reporter.result(**values)

    def warning(self, code: str, message: str) -> None:
        self._write("warning", message)
        self._reporter.warning(code, message)

    def error(self, code: str, message: str, help: str = "") -> None:
        """Only into the file: whoever raised the error tells it to the person."""
        self._write(code, f"{message} {help}".strip())

    def _write(self, kind: str, text: str) -> None:
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        with suppress(OSError), self._path.open("a", encoding="utf-8") as stream:
            stream.write(f"{now} {kind}: {text}\n")
