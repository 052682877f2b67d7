"""Installs the engine's packages into a folder of their own: all of them, or nothing changes.

pip installs into a fresh folder beside the old one, the interpreter then really imports what was
installed, and only then the folders change places. Repair is the same: no file of a damaged
installation is kept.
"""

import os
import shutil
from pathlib import Path

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.engine.alive import isAlive
from E2ENetSegmentationLib.engine.process import EngineProcess
from E2ENetSegmentationLib.engine.python import pip
from E2ENetSegmentationLib.engine.python.inspection import Inspection
from E2ENetSegmentationLib.engine.python.requirements import nameOf, replace
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused

PREFIX = ".installing-"
_underWay = []  # one at a time: two would work on the same folder


class Installation:
    """One installation: start, poll until it is done; Cancel leaves everything as it was.

    Args:
        interpreter: `Interpreter` with a folder for packages.
        lines: Requirement lines, all that is wanted.
        expected: Bytes to download, roughly.
        wheels: A folder of wheel files to use in place of the network; a path or "".
        extraIndex: An index beside the one pip is set up for.
        onProgress: Called with a line for a person and the percentage of the whole.

    Attributes:
        seen: `Seen`, once it is done.
    """

    def __init__(self, interpreter, lines, *, expected, wheels="", extraIndex="", onProgress=None):
        self.seen = None
        self._interpreter, self._wanted = interpreter, list(lines)
        self._expected, self._wheels, self._extraIndex = expected, wheels, extraIndex
        self._onProgress = onProgress or (lambda text, percent: None)
        self._scratch, self._step, self._next = None, None, None
        self._lines = []  # of the steps that are over

    @property
    def target(self) -> Path:
        return self._interpreter.packages

    @property
    def lines(self) -> list:
        """What pip and the interpreter said, for the log."""
        now = self._step.lines if self._step is not None else []
        return self._lines + [line for line in now if not line.startswith(pip.NUMBERS)]

    def start(self) -> None:
        """Begin.

        Raises:
            Refused: Another one is under way, or the folder cannot be made.
        """
        if _underWay:
            raise Refused(_("The engine is being installed already."))
        if self._wheels and not Path(self._wheels).is_dir():
            raise Refused(_("There is no folder {path}.").format(path=self._wheels))
        root = self.target.parent
        try:
            root.mkdir(parents=True, exist_ok=True)
            _removeLeftovers(root)
            self._scratch = root / f"{PREFIX}{os.getpid()}"
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch.mkdir()
            (self._scratch / "temporary").mkdir()
        except OSError as error:
            raise _failed(error.strerror or str(error)) from error
        _underWay.append(self)
        self._begin(Inspection(self._interpreter, [], ()), self._install)

    def poll(self) -> bool:
        """Let it go on; True while it runs.

        Raises:
            Refused: It failed; the installation that was there is untouched.
        """
        step = self._step
        try:
            if not step.poll():
                self._next(step)
        except BaseException:
            self.cancel()
            raise
        return self._step is not None

    def cancel(self) -> None:
        """End it; what was downloaded goes."""
        if self._step is not None:
            self._step.cancel()
            self._lines, self._step = self.lines, None
        if self in _underWay:
            _underWay.remove(self)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def _begin(self, step, then) -> None:
        self._lines, self._step, self._next = self.lines, step, then
        try:
            step.start()
        except BaseException:
            self.cancel()
            raise

    def _install(self, inspection) -> None:
        """The interpreter answers: it has pip, or not."""
        version = inspection.seen.pip
        if not version:
            raise Refused(
                _("{program} has no pip.").format(program=self._interpreter.program),
                _("Choose another Python, or install pip into it."),
            )
        arguments = pip.arguments(
            self._wanted,
            self._scratch / "packages",
            version,
            wheels=self._wheels,
            extraIndex=self._extraIndex,
        )
        environment = pip.environment(
            self._interpreter.environment(()), self._scratch / "temporary"
        )
        command = self._interpreter.command("pip", *arguments)
        process = EngineProcess(command, self._scratch, environment)
        said = pip.Progress(self._expected)
        self._begin(_Pip(process, said, self._onProgress), self._try)

    def _try(self, _pip) -> None:
        """What was installed has to run before it replaces anything."""
        self._onProgress(_("Trying it"), 95)
        folders = [paths.engineFolder(), self._scratch / "packages"]
        names = [nameOf(line) for line in self._wanted]
        self._begin(Inspection(self._interpreter, names, folders), self._replace)

    def _replace(self, inspection) -> None:
        lacking = [name for name, found in inspection.seen.packages.items() if not found]
        problems = inspection.seen.broken + lacking
        if problems:
            raise _failed(_("{package} does not run").format(package=problems[0]))
        try:
            replace(self.target, self._scratch / "packages")
        except OSError as error:
            raise Refused(
                _("The old packages in {folder} are in use: {reason}.").format(
                    folder=self.target, reason=error.strerror or error
                ),
                _("End what the engine computes, and try again."),
            ) from error
        self.seen = inspection.seen
        self.cancel()  # only the scratch folder is left


class _Pip:
    """pip's process as a step."""

    def __init__(self, process, said, onProgress) -> None:
        self._process, self._said, self._onProgress = process, said, onProgress
        self._read = 0

    @property
    def lines(self) -> list:
        return self._process.lines

    def start(self) -> None:
        self._process.start()

    def poll(self) -> bool:
        self._process.poll()
        before = self._said.text
        for line in self._process.lines[self._read :]:
            self._said.feed(line)
        self._read = len(self._process.lines)
        if self._said.text != before:
            self._onProgress(self._said.text, self._said.percent)
        if self._process.running:
            return True
        if self._process.exitCode != 0:
            reason = self._said.error or (self.lines[-1] if self.lines else _("pip was ended"))
            raise _failed(reason)
        return False

    def cancel(self) -> None:
        self._process.kill()


def _failed(reason: str) -> Refused:
    return Refused(
        _("The packages could not be installed: {reason}.").format(reason=reason.rstrip(".")),
        _(
            "Check the network and its proxy, or choose a folder of wheels under Advanced, "
            "Engine; the log says more."
        ),
        "dependency",
    )


def _removeLeftovers(root: Path) -> None:
    """Remove the folders of a Slicer that crashed: their names hold its process number."""
    for folder in root.glob(f"{PREFIX}*"):
        number = folder.name[len(PREFIX) :]
        if number.isdigit() and not isAlive(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
