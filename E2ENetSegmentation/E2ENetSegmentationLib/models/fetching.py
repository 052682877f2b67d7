"""Work of the tab Models in a process beside Slicer: installations, catalogues, samples."""

import json
import shutil

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.engine.process import EngineProcess
from E2ENetSegmentationLib.engine.python import interpreter
from E2ENetSegmentationLib.engine.temporary import temporaryFolder
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.words import spoken

FETCH = paths.LIB / "models" / "fetch.py"


class Fetch:
    """One piece of work: start, poll until it is done; `result` is the program's answer then.

    What was downloaded when it ended too soon is gone on with by the next one.

    Args:
        do: As `fetch.py` knows it: "install", "catalogue" or "sample".
        onEvent: Called with each event.
        names: What the engine reads -> what a person calls it.
        work: What `fetch.py` is told.
    """

    def __init__(self, do: str, onEvent=None, names=None, **work) -> None:
        self.do, self.work = do, work
        self.result = {}
        self._onEvent, self._names = onEvent or (lambda event: None), names or {}
        self._folder, self._process, self._error = None, None, None

    @property
    def lines(self) -> list:
        """What it said beside its events."""
        return self._process.lines if self._process else []

    def start(self) -> None:
        """Begin.

        Raises:
            Refused: It cannot be started.
        """
        text = json.dumps({"do": self.do, **self.work})
        self._folder = temporaryFolder()
        try:
            python = interpreter.current()
            self._process = EngineProcess(
                python.command(FETCH, text),
                self._folder,
                python.environment([paths.engineFolder()]),
            )
            self._process.start()
        except BaseException:
            self.cancel()
            raise

    def poll(self) -> bool:
        """True while it runs.

        Raises:
            Refused: It failed.
        """
        for event in self._process.poll():
            if event["event"] == "error":
                said = [str(event.get(key, "")) for key in ("code", "message", "help")]
                self._error = Refused(*spoken(*said, self._names), said[0])
            elif event["event"] == "result":
                self.result = event
            self._onEvent(event)
        if self._process.running:
            return True
        code = self._process.exitCode
        self.cancel()
        if code != 0:
            raise self._error or Refused(
                _("The download ended unexpectedly; the log says more."), _("Try it again.")
            )
        return False

    def cancel(self) -> None:
        """End it; what has come is kept for the next try."""
        if self._process is not None:
            self._process.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
