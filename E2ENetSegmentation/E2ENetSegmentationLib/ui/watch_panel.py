"""What tabs share in which something runs: a timer looks at it, its words are shown and kept."""

import contextlib

from E2ENetSegmentationLib.engine.events import deviceOf, progressPercent, progressText
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.ui.panel import Panel

POLL_MILLISECONDS = 100


class WatchPanel(Panel):
    """A tab with one run at a time: something with poll(), cancel() and lines.

    Subclasses name their progressBar (beside status label and log), start runs with `_watch` and
    take what came out in `_finished`.
    """

    progressBar = None

    def __init__(self, ui, core, host) -> None:
        super().__init__(ui, core, host)
        self._run = None
        self._starting = False
        self._looking = False
        self._seenLines = 0
        self._usedDevice = ""  # what computes, once the engine has told
        self._timer = host.timer(POLL_MILLISECONDS, self.poll)

    @property
    def running(self) -> bool:
        return self._run is not None

    @property
    def busy(self) -> bool:
        """Whether something runs or is about to: a second click changes nothing."""
        return self.running or self._starting

    @contextlib.contextmanager
    def starting(self):
        """Busy from the first click on: questions, installations and files come before a run."""
        self._starting = True
        self.update()
        try:
            yield
        finally:
            self._starting = False
            self.update()

    def _watch(self, run) -> None:
        """Follow a run that was started."""
        self._run, self._seenLines, self._usedDevice = run, 0, ""
        if self.progressBar is not None:
            self.progressBar.value = 0
        self.say(_("Starting the engine…"))
        self.update()
        self._timer.start()

    def onEvent(self, event: dict) -> None:
        """Show what the engine says."""
        self._usedDevice = deviceOf(event) or self._usedDevice
        if event["event"] == "progress":
            if self.progressBar is not None:
                self.progressBar.value = progressPercent(event)
            self.say(self._progress(progressText(event, self._usedDevice)))
        elif event["event"] == "warning":
            self.log(str(event.get("message", "")))

    def _progress(self, text: str) -> str:
        """The line about the progress; a subclass may say more."""
        return text

    def poll(self) -> None:
        """Called by the timer while a run goes on.

        A dialog, or DICOM's import, has an event loop of its own in which the timer goes on: what
        is being looked at already is not looked at again.
        """
        if not self.running:
            self._timer.stop()
        elif not self._looking:
            self._looking = True
            try:
                self._follow()
            finally:
                self._looking = False

    def _follow(self) -> None:
        run, goesOn = self._run, None  # None: it failed, and that was said
        with self.sentences():
            try:
                goesOn = run.poll()
            except Refused as refusal:
                if not self._passOver(run, refusal):
                    raise
                goesOn = False
            finally:
                for line in run.lines[self._seenLines :]:
                    self.log(line)
                self._seenLines = len(run.lines)
        if goesOn:
            return
        run.cancel()
        if self._run is not run:
            return  # ended meanwhile, in such a loop
        self._run = None
        if goesOn is not None:
            with self.sentences():
                self._finished(run)
        if not self.running:
            self._end()

    def _passOver(self, run, refusal: Refused) -> bool:
        """Whether a run that failed is one of several, and the others go on; a subclass may."""
        return False

    def _finished(self, run) -> None:
        """Take what came out of a run; another one may be started."""
        raise NotImplementedError

    def cancel(self, text: str = "") -> None:
        """End what runs, if anything does, and say so."""
        if self.running:
            self._run.cancel()
            self._end(text)

    def _end(self, text: str = "") -> None:
        """Nothing runs any more."""
        self._timer.stop()
        self._run = None
        self.update()
        if text:
            self.say(text)
            self.log(text)

    def cleanup(self) -> None:
        """Slicer exits or the module is reloaded."""
        self._timer.stop()
        if self.running:
            self._run.cancel()
            self._run = None
