"""Looking at a Python by running it: what it is, and which packages it can really import."""

import shutil

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.engine.process import EngineProcess
from E2ENetSegmentationLib.engine.python.interpreter import kindOf
from E2ENetSegmentationLib.engine.temporary import temporaryFolder
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused

LOOK = paths.LIB / "engine" / "python" / "look.py"
OLDEST = (3, 10)


class Seen:
    """What was seen.

    Attributes:
        version: (3, 12, 4).
        kind: Of its packages, see `kindOf`.
        pip: Version of its pip, "" without one.
        packages: Name -> {"version", "file"} or {"version", "error"} or {}.
        size: Bytes of the packages in a folder of ours.
        cards: Graphics processors that PyTorch can use.
    """

    def __init__(self, event: dict) -> None:
        self.version = tuple(event["version"])
        self.kind = kindOf(self.version, event["system"], event["machine"])
        self.pip = event["pip"]
        self.packages = dict(event["packages"])
        self.cards = list(event["cards"])
        self.size = int(event["size"])

    @property
    def broken(self) -> list:
        """A line for each package that is there and cannot be imported."""
        return [f"{n}: {p['error']}" for n, p in self.packages.items() if "error" in p]


class Inspection:
    """Runs an interpreter; `poll` until it is done, then `seen` has the answer.

    Args:
        interpreter: `Interpreter`.
        names: Packages to import.
        folders: Those of the engine and the packages, where they are not the interpreter's own.
    """

    def __init__(self, interpreter, names, folders=None) -> None:
        self.seen = None
        self._interpreter, self._names, self._folders = interpreter, list(names), folders
        self._folder, self._process = None, None

    @property
    def lines(self) -> list:
        """What it said beside its answer."""
        return self._process.lines if self._process else []

    def start(self) -> None:
        """Run it.

        Raises:
            Refused: It cannot be started.
        """
        self._folder = temporaryFolder()
        try:
            self._process = EngineProcess(
                self._interpreter.command(LOOK, *self._names),
                self._folder,
                self._interpreter.environment(self._folders),
            )
            self._process.start()
        except BaseException:
            self.cancel()
            raise

    def poll(self) -> bool:
        """True while it runs.

        Raises:
            Refused: It is no Python, or one that is too old.
        """
        events = self._process.poll()
        for event in events:
            if event["event"] == "result":
                self.seen = Seen(event)
        if self._process.running:
            return True
        self.cancel()
        if self.seen is None:
            reason = self.lines[-1].strip() if self.lines else str(self._process.exitCode)
            raise Refused(
                _("{program} cannot run as Python: {reason}.").format(
                    program=self._interpreter.program, reason=reason.rstrip(".")
                )
            )
        if self.seen.version < OLDEST:
            raise Refused(
                _("{program} is Python {version}; the engine needs 3.10 or later.").format(
                    program=self._interpreter.program,
                    version=".".join(map(str, self.seen.version)),
                )
            )
        return False

    def cancel(self) -> None:
        """End it and remove its files."""
        if self._process is not None:
            self._process.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
