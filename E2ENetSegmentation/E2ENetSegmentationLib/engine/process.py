"""The engine's process: started, read and ended without blocking and without Qt.

Its output goes to files which `poll` reads on. That works alike on Linux, Windows and macOS, never
fills a pipe, needs no thread (Slicer's Python threads starve while the application is idle), and
leaves a log when something went wrong.
"""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.engine.events import EventReader
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused

_running: "weakref.WeakSet[EngineProcess]" = weakref.WeakSet()


def engineCommand(arguments) -> list:
    """`python child.py VERB …` with the interpreter that is to be used."""
    paths.engineFolder()  # refuses in a sentence, before a process says it in a traceback
    return [paths.pythonExecutable(), str(paths.LIB / "engine" / "child.py"), *map(str, arguments)]


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
        self._reader = EventReader()
        self._files = [self.folder / "engine-events.txt", self.folder / "engine-messages.txt"]
        self._positions = [0, 0]

    def start(self) -> None:
        """Start it.

        Raises:
            Refused: The program cannot be started.
        """
        options = {}
        if os.name == "nt":
            options["creationflags"] = subprocess.CREATE_NO_WINDOW
        else:
            options["start_new_session"] = True  # a process group of its own, ended as a whole
        try:
            with self._files[0].open("wb") as events, self._files[1].open("wb") as messages:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.PIPE,
                    stdout=events,
                    stderr=messages,
                    cwd=str(self.folder),
                    env=self.environment or paths.childEnvironment(),
                    **options,
                )
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
        self._endTree()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._close(self._process.returncode if self._process.returncode is not None else -1)

    def _close(self, code: int) -> None:
        self.exitCode = code
        _running.discard(self)
        if code != 0:
            self._endTree()  # a killed engine may leave workers
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def _endTree(self) -> None:
        if os.name == "nt":
            subprocess.run(
                ["taskkill", "/F", "/T", "/PID", str(self._process.pid)],
                capture_output=True,
                creationflags=subprocess.CREATE_NO_WINDOW,
            )
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

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


def isAlive(pid: int) -> bool:
    """Whether a process of that number exists (used to find trainings that were cut off)."""
    if sys.platform == "win32":
        listing = subprocess.run(
            ["tasklist", "/FI", f"PID eq {pid}", "/NH"],
            capture_output=True,
            text=True,
            creationflags=subprocess.CREATE_NO_WINDOW,
        ).stdout
        return str(pid) in listing
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
