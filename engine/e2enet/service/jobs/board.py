"""What changes while jobs run, for those who watch; nothing here outlives the server."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any


class Board:
    """The progress of running jobs, and a signal for every change; for one event loop."""

    def __init__(self) -> None:
        self._progress: dict[str, dict[str, Any]] = {}
        self._removed: dict[str, asyncio.Event] = {}
        self._begun = time.monotonic()
        self._seen: dict[str, float] = {}
        self._change = asyncio.Event()
        self.closed = False

    def close(self) -> None:
        """The server ends: streams end, and no other job is begun."""
        self.closed = True
        self.changed()

    def changed(self) -> None:
        """Wake up everybody who waits for a change."""
        self._change.set()
        self._change = asyncio.Event()

    @property
    def change(self) -> asyncio.Event:
        """Set with the next change."""
        return self._change

    async def wait(self, seconds: float, change: asyncio.Event | None = None) -> None:
        """Until something changes (after `change` was read), or so many seconds."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for((change or self._change).wait(), seconds)

    def saw(self, id: str) -> None:
        """Somebody asks after a job."""
        self._seen[id] = time.monotonic()

    def unseen_s(self, id: str) -> float:
        """Seconds since somebody has asked after a job, or since the server was started."""
        return time.monotonic() - self._seen.get(id, self._begun)

    def begin(self, id: str) -> None:
        """Somebody works on a job from now on."""
        self._removed[id] = asyncio.Event()
        self.changed()

    def progress(self, id: str, event: dict[str, Any]) -> None:
        """A running job tells how far it is."""
        self._progress[id] = event
        self.changed()

    def progress_of(self, id: str) -> dict[str, Any] | None:
        """The last that a job told: stage, done, total, eta_s."""
        return self._progress.get(id)

    async def removed(self, id: str) -> None:
        """Return when somebody deletes a job that is worked on."""
        await self._removed[id].wait()

    def remove(self, id: str) -> bool:
        """Tell whoever works on a job that it is deleted; whether anybody does."""
        self._seen.pop(id, None)
        event = self._removed.get(id)
        if event:
            event.set()
        self.changed()
        return bool(event)

    def forget(self, id: str) -> None:
        """The work on a job has ended."""
        self._progress.pop(id, None)
        self._removed.pop(id, None)
        self.changed()
