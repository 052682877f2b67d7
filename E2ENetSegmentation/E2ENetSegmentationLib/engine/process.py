"""The engine's process: started, read and ended without blocking and without Qt.

Its output goes to files which `poll` reads on. That works alike on Linux, Windows and macOS, never
fills a pipe, needs no thread (Slicer's Python threads starve while the application is idle), and
leaves a log when something went wrong.
"""

import atexit
import contextlib
import subprocess
import weakref
from pathlib import Path

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.engine.alive import startOf
from E2ENetSegmentationLib.engine.events import EventReader
from E2ENetSegmentationLib.engine.python import interpreter
from E2ENetSegmentationLib.engine.tree import newTree
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused

_running: "weakref.WeakSet[EngineProcess]" = weakref.WeakSet()


def engineCommand(arguments) -> list:
    """`python child.py e2enet VERB …` with the interpreter that is to be used."""
    paths.engineFolder()  # refuses in a sentence, before a process says it in a traceback
    return interpreter.current().command("e2enet", *arguments)


class EngineProcess:
    """One run of the engine.

    Args:
        command: Program and arguments.
        folder: An existing folder for its output files.
        environment: Variables; those of the engine by default.
    """

    def __init__(self, command, folder, environment=None) -> None:
        self.command = list(command)
        self.folder = Path(folder)
        self.environment = environment
        self.exitCode = None
        self.lines = []  # what is no event: warnings of libraries, tracebacks
        self._process = None
        self._tree = None
        self._reader = EventReader()
        self._files = [self.folder / "engine-events.txt", self.folder / "engine-messages.txt"]
        self._positions = [0, 0]

    def start(self) -> None:
        """Start it.

        Raises:
            Refused: The program cannot be started.
        """
        try:
            self._tree = newTree()
            with self._files[0].open("wb") as events, self._files[1].open("wb") as messages:
                self._process = subprocess.Popen(
                    self.command,
                    stdout=events,
                    stderr=messages,
                    cwd=str(self.folder),
                    env=self.environment or interpreter.current().environment(),
                    **self._tree.options(),
                )
            self._tree.adopt(self._process)
        except OSError as error:
            raise Refused(
                _("The engine cannot be started: {reason}.").format(
                    reason=error.strerror or str(error)
                )
            ) from error
        _running.add(self)

    @property
    def running(self) -> bool:
        return self._process is not None and self.exitCode is None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def started(self) -> str:
        """When it started, in the system's own words; with the number it names one process."""
        return startOf(self._process.pid)

    def poll(self) -> list:
        """Events since the last call; sets `exitCode` once the process has ended."""
        ended = self._process.poll() if self.running else None
        events = self._read()
        if ended is not None:
            self._close(ended)
        return events

    def kill(self) -> None:
        """End the process and everything it started; returns when it is gone."""
        if not self.running:
            return
        self._tree.end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._close(self._process.returncode if self._process.returncode is not None else -1)

    def askToEnd(self, seconds: float) -> None:
        """Ask it to end, where the system can, and wait for that at most so long."""
        if self.running and self._tree.ask():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=seconds)

    def _close(self, code: int) -> None:
        self.exitCode = code
        _running.discard(self)
        if code != 0:
            self._tree.end()  # a killed engine may leave workers
        self._tree.close()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _read(self) -> list:
        events = []
        for index, path in enumerate(self._files):
            try:
                with path.open("rb") as stream:
                    stream.seek(self._positions[index])
                    data = stream.read()
            except OSError:
                continue
            self._positions[index] += len(data)
            if index == 0:
                found, other = self._reader.feed(data)
                events += found
                self.lines += other
            else:
                self.lines += [
                    line for line in data.decode("utf-8", "replace").splitlines() if line.strip()
                ]
        return events


@atexit.register
def endAll() -> None:
    """End every engine that still runs; also called when the module is torn down."""
    for process in list(_running):
        process.kill()
