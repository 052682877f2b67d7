"""Installs the engine's packages into a folder of their own: all of them, or nothing changes.

pip installs into a fresh folder beside the old one, the interpreter then really imports what was
installed and compiles the engine's kernels, so that the first segmentation need not, and only then
the folders change places. Repair is the same: no file of a damaged installation is kept.
"""

import os
import shutil
from pathlib import Path

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.engine.alive import isAlive
from E2ENetSegmentationLib.engine.job import Job
from E2ENetSegmentationLib.engine.process import EngineProcess
from E2ENetSegmentationLib.engine.python import pip
from E2ENetSegmentationLib.engine.python.inspection import Inspection
from E2ENetSegmentationLib.engine.python.requirements import nameOf, replace
from E2ENetSegmentationLib.engine.run import EngineRun
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused

PREFIX = ".installing-"
_underWay = []  # one at a time: two would work on the same folder


class Installation(Job):
    """One installation, step after step; Cancel leaves everything as it was.

    Args:
        interpreter: `Interpreter` with a folder for packages.
        lines: Requirement lines, all that is wanted.
        expected: Bytes to download, roughly.
        wheels: A folder of wheel files to use in place of the network; a path or "".
        extraIndex: An index beside the one pip is set up for.
        onProgress: Called with a line for a person and the percentage of the whole.

    Attributes:
        result: What was `Seen` of it, once it is done.
    """

    def __init__(self, interpreter, lines, *, expected, wheels="", extraIndex="", onProgress=None):
        super().__init__()
        self._interpreter, self._wanted = interpreter, list(lines)
        self._expected, self._wheels, self._extraIndex = expected, wheels, extraIndex
        self._onProgress = onProgress or (lambda text, percent: None)
        self._next = None  # what to do with the answer of the step under way
        self._seen = None
        self._lines = []  # of the steps that are over

    @property
    def target(self) -> Path:
        return self._interpreter.packages

    @property
    def lines(self) -> list:
        """What pip and the interpreter said, for the log."""
        now = [line for line in super().lines if not line.startswith(pip.NUMBERS)]
        return self._lines + now

    @property
    def _folders(self) -> list:
        """Where the new packages are to be found, and the engine."""
        return [paths.engineFolder(), self._folder / "packages"]

    def start(self) -> None:
        """Begin.

        Raises:
            Refused: Another one is under way, or the folder cannot be made.
        """
        if _underWay:
            raise Refused(_("The engine is being installed already."))
        if self._wheels and not Path(self._wheels).is_dir():
            raise Refused(_("There is no folder {path}.").format(path=self._wheels))
        super().start()

    def _newFolder(self) -> Path:
        """Beside the packages: only there it can change places with them in one step."""
        root = self.target.parent
        folder = root / f"{PREFIX}{os.getpid()}"
        try:
            root.mkdir(parents=True, exist_ok=True)
            _removeLeftovers(root)
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "temporary").mkdir(parents=True)
        except OSError as error:
            raise _failed(error.strerror or str(error)) from error
        return folder

    def _begin(self) -> None:
        _underWay.append(self)
        self._goOn(Inspection(self._interpreter, [], ()), self._install)

    def _answered(self) -> bool:
        answer, self._next = self._next, None
        answer(self._engine)
        return self._next is not None

    def _goOn(self, step, then) -> None:
        """Start the next step."""
        self._lines, self._engine, self._next = self.lines, step, then
        step.start()

    def _clean(self) -> None:
        super()._clean()
        if self in _underWay:
            _underWay.remove(self)

    def _install(self, inspection) -> None:
        """The interpreter answers: it has pip, or not."""
        version = inspection.result.pip
        if not version:
            raise Refused(
                _("{program} has no pip.").format(program=self._interpreter.program),
                _("Choose another Python, or install pip into it."),
            )
        arguments = pip.arguments(
            self._wanted,
            self._folder / "packages",
            version,
            wheels=self._wheels,
            extraIndex=self._extraIndex,
        )
        environment = pip.environment(self._interpreter.environment(()), self._folder / "temporary")
        command = self._interpreter.command("pip", *arguments)
        process = EngineProcess(command, self._folder, environment)
        said = pip.Progress(self._expected)
        self._goOn(_Pip(process, said, self._onProgress), self._try)

    def _try(self, _pip) -> None:
        """What was installed has to run before it replaces anything."""
        self._onProgress(_("Trying it"), 95)
        names = [nameOf(line) for line in self._wanted]
        self._goOn(Inspection(self._interpreter, names, self._folders), self._prepare)

    def _prepare(self, inspection) -> None:
        """The engine examines itself, which compiles its kernels; what it says is for the log."""
        lacking = [name for name, found in inspection.result.packages.items() if not found]
        problems = inspection.result.broken + lacking
        if problems:
            raise _failed(_("{package} does not run").format(package=problems[0]))
        self._seen = inspection.result
        self._onProgress(_("Preparing the engine"), 97)
        command = self._interpreter.command("e2enet", "doctor")
        environment = self._interpreter.environment(self._folders)
        self._goOn(_Examination(EngineProcess(command, self._folder, environment)), self._replace)

    def _replace(self, _examination) -> None:
        try:
            replace(self.target, self._folder / "packages")
        except OSError as error:
            raise Refused(
                _("The old packages in {folder} are in use: {reason}.").format(
                    folder=self.target, reason=error.strerror or error
                ),
                _("End what the engine computes, and try again."),
            ) from error
        self.result = self._seen


class _Examination(EngineRun):
    """The engine's look at itself. What it misses may have nothing to do with the packages."""

    def poll(self) -> bool:
        try:
            return super().poll()
        except Refused:
            return False


class _Pip(EngineRun):
    """pip as a step: what it says are lines, no events."""

    def __init__(self, process, said, onProgress) -> None:
        super().__init__(process)
        self._said, self._onProgress = said, onProgress
        self._read = 0

    def poll(self) -> bool:
        goesOn = super().poll()
        self._follow()
        return goesOn

    def _follow(self) -> None:
        before = self._said.text
        for line in self.lines[self._read :]:
            self._said.feed(line)
        self._read = len(self.lines)
        if self._said.text != before:
            self._onProgress(self._said.text, self._said.percent)

    def _failure(self) -> Exception:
        self._follow()
        return _failed(self._said.error or (self.lines[-1] if self.lines else _("pip was ended")))


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
