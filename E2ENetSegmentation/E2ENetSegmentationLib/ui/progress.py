"""One bar for a whole run: its stages one after the other, and what is left where that is known."""

import time

from E2ENetSegmentationLib.engine.events import durationText, stageName
from E2ENetSegmentationLib.i18n import tr as _

# Where each stage begins and ends on the bar, in percent. What comes before is the engine's start.
SEGMENTING = {
    "read": (5, 8),
    "upload": (8, 10),
    "waiting": (10, 10),
    "locate": (10, 45),
    "inference": (45, 95),
    "write": (95, 100),
}
EXPLAINING = {
    "read": (5, 10),
    "locate": (10, 30),
    "inference": (30, 45),
    "importance": (45, 90),
    "write": (90, 95),
    "figures": (95, 100),
}
AFTER = 90  # percent; a stage that goes so far is followed by moments only


class Progress:
    """Follows the events of one or several runs.

    Args:
        total: How many runs there will be.
        places: Of the stages.
        clock: Seconds from any origin.

    Attributes:
        device: What computes, once the engine has told.
    """

    def __init__(self, total: int = 1, places=SEGMENTING, clock=time.monotonic) -> None:
        self._total, self._places, self._clock = total, places, clock
        self.device = ""
        self._done = 0
        self._seconds = []  # of each run that is over
        self._started = clock()
        self._share = 0.0  # of the run under way, 0 to 1
        self._stage, self._left = "", None

    def feed(self, event: dict) -> None:
        """Take an event of the engine: how far it is, or what it computes on."""
        if event["event"] == "metric":
            self.device = str(event.get("device", ""))
            return
        total, done = event.get("total") or 0, event.get("done") or 0
        if event.get("stage") == "cases":
            self._reach(done, total)
            return
        self._stage = str(event.get("stage", ""))
        begin, end = self._places.get(self._stage, (0, 0))
        if end and total > 0:
            share = (begin + (end - begin) * min(1.0, done / total)) / 100
            self._share = max(self._share, share)  # a bar that goes back tells nothing
        left = event.get("eta_s")
        known = end >= AFTER and isinstance(left, (int, float)) and done < total
        self._left = float(left) if known else None

    def next(self) -> None:
        """A run is over."""
        now = self._clock()
        self._seconds.append(now - self._started)
        self._started, self._share, self._left = now, 0.0, None
        self._done += 1

    def _reach(self, done: int, total: int) -> None:
        """One run of the engine on several cases says which it has come to."""
        if self._total != total:  # its first word: what it leaves out took no time
            self._total, self._done, self._started = max(1, total), done, self._clock()
        while self._done < done:
            self.next()

    @property
    def percent(self) -> int:
        return min(100, round(100 * (self._done + self._share) / self._total))

    @property
    def left(self):
        """Seconds left of all runs, or None while that is not known.

        Of the run under way what the engine says; of those to come the mean of those that are over.
        """
        waiting = max(0, self._total - self._done - 1)
        if not self._seconds:
            return self._left if waiting <= 0 else None
        mean = sum(self._seconds) / len(self._seconds)
        rest = self._left
        if rest is None:
            rest = max(0.0, mean - (self._clock() - self._started))
        return rest + waiting * mean

    @property
    def text(self) -> str:
        """One line: which run, what it does, on which device, the time left."""
        text = stageName(self._stage, self.device)
        if self._total > 1:
            text = f"{min(self._done + 1, self._total)}/{self._total}  {text}"
        if self.left is None:
            return text
        return _("{stage}, {time} left").format(stage=text, time=durationText(self.left))
