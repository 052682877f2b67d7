"""What every run in a temporary folder shares: all or nothing, and nothing of it stays behind."""

import shutil

from E2ENetSegmentationLib.engine.process import EngineProcess
from E2ENetSegmentationLib.engine.run import EngineRun
from E2ENetSegmentationLib.engine.temporary import temporaryFolder


class Job:
    """Work of a process in a folder of its own, which goes away however the work ends.

    Subclasses start the process in `_begin` and take its answer in `_answered`.

    Args:
        onEvent: Called with each event of the engine.

    Attributes:
        result: What came of it, once it is done.
    """

    def __init__(self, onEvent=None) -> None:
        self.result = None
        self._onEvent = onEvent
        self._folder = None
        self._engine = None

    @property
    def running(self) -> bool:
        return self._engine is not None and self._engine.running

    @property
    def lines(self) -> list:
        """What the engine said beside its events."""
        return self._engine.lines if self._engine else []

    def start(self) -> None:
        """Check everything and start the engine.

        Raises:
            Refused: It cannot be done; nothing was left behind.
        """
        try:
            self._folder = self._newFolder()
            self._begin()
        except BaseException:
            self.cancel()
            raise

    def poll(self) -> bool:
        """Let it go on; True while it runs. Afterwards `result` is there.

        Raises:
            Refused: It failed; the scene is as it was.
            Cancelled: The engine says that it was cancelled.
        """
        try:
            if self._engine.poll() or self._answered():
                return True
        except BaseException:
            self.cancel()
            raise
        self._clean()
        return False

    def cancel(self) -> None:
        """End the engine and remove its files."""
        if self._engine is not None:
            self._engine.cancel()
        self._clean()

    def _newFolder(self):
        return temporaryFolder()

    def _begin(self) -> None:
        """Start the engine with `_ask`, or a program of the Lib with `_run`."""
        raise NotImplementedError

    def _answered(self) -> bool:
        """Take the engine's answer and set `result`; True if it was asked something else."""
        raise NotImplementedError

    def _ask(self, arguments, names=None) -> None:
        """Start a verb; `names` says what a person calls what the engine reads."""
        self._engine = EngineRun.verb(arguments, self._folder, self._onEvent, names)
        self._engine.start()

    def _run(self, command, environment, names=None) -> None:
        """Start a program that speaks in events as the engine does."""
        process = EngineProcess(command, self._folder, environment)
        self._engine = EngineRun(process, self._onEvent, names)
        self._engine.start()

    def _clean(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
