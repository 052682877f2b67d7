"""Work of the tab Models in a process beside Slicer: installations, catalogues, samples."""

import json

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.engine.job import Job
from E2ENetSegmentationLib.engine.python import interpreter

FETCH = paths.LIB / "models" / "fetch.py"


class Fetch(Job):
    """One piece of work; `result` is the program's answer.

    What was downloaded when it ended too soon is gone on with by the next one.

    Args:
        do: As `fetch.py` knows it: "install", "catalogue" or "sample".
        onEvent: Called with each event.
        names: What the engine reads -> what a person calls it.
        work: What `fetch.py` is told.
    """

    def __init__(self, do: str, onEvent=None, names=None, **work) -> None:
        super().__init__(onEvent)
        self.do, self.work = do, work
        self._names = names

    def _begin(self) -> None:
        text = json.dumps({"do": self.do, **self.work})
        python = interpreter.current()
        environment = python.environment([paths.engineFolder()])
        self._run(python.command(FETCH, text), environment, self._names)

    def _answered(self) -> bool:
        self.result = self._engine.result
        return False
