"""Which Python runs the engine, how it is started, and with which packages.

$E2ENET_PYTHON comes first, then the one a person chose on the page Engine, then Slicer's own. The
first is looked after by its owner. The others take the engine's packages from a folder of the
engine's own, one for each kind of Python; nothing is ever installed into an interpreter.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import slicer

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused

VARIABLE, CHOSEN, SLICER = "variable", "chosen", "slicer"
CHOICE = "interpreter.json"
CHILD = paths.LIB / "engine" / "child.py"


@dataclass(frozen=True)
class Interpreter:
    """A Python.

    Attributes:
        program: Its path.
        origin: VARIABLE, CHOSEN or SLICER.
        kind: Version, system and processor, such as "3.12-darwin-arm64"; "" where packages are not
            ours to look after.
    """

    program: str
    origin: str
    kind: str = ""

    @property
    def packages(self) -> Path | None:
        """The folder of its packages; None where it has packages of its own."""
        return paths.packagesFolder() / self.kind if self.kind else None

    @property
    def remedy(self) -> str:
        """What helps when a package is missing or broken."""
        if self.packages is None:
            return _("Install it into {program}.").format(program=self.program)
        return _("Repair the engine under Advanced, Engine.")

    def command(self, name: str, *arguments) -> list:
        """`python child.py NAME …`."""
        words = [self.program, str(CHILD), name, *map(str, arguments)]
        if self.kind.endswith("-arm64") and self.origin == CHOSEN and sys.platform == "darwin":
            # A program for both processors would go on as Intel code below an Intel Slicer.
            return ["/usr/bin/arch", "-arm64", *words]
        return words

    def environment(self, folders=None) -> dict:
        """The variables of its process.

        Slicer's launcher sets PYTHONHOME and library paths for its own Python; another interpreter
        must not see them, so it gets the environment that Slicer itself was started from.

        Args:
            folders: Those of the engine and its packages by default; none for pip.
        """
        environment = dict(os.environ)
        if self.origin != SLICER and hasattr(slicer, "app"):
            environment = dict(slicer.util.startupEnvironment())
            for name in ("PYTHONHOME", "PYTHONNOUSERSITE"):
                environment.pop(name, None)
            environment.update({k: v for k, v in os.environ.items() if k.startswith("E2ENET_")})
        environment.pop("PYTHONPATH", None)
        environment.pop("E2ENET_PATH", None)
        if folders is None:
            folders = [paths.engineFolder(), *([self.packages] if self.packages else [])]
        if folders:
            environment["PYTHONPATH"] = os.pathsep.join(map(str, folders))
        if self.packages:
            environment["PYTHONNOUSERSITE"] = "1"
            if folders:
                environment["E2ENET_PATH"] = environment["PYTHONPATH"]
        environment["PYTHONUNBUFFERED"] = "1"
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # cards have the numbers nvidia-smi shows
        environment["PYTHONIOENCODING"] = "utf-8"
        return environment


def current() -> Interpreter:
    """The one that is used.

    Raises:
        Refused: The one that was named is no program, or is gone.
    """
    named = os.environ.get("E2ENET_PYTHON", "")
    if named:
        found = shutil.which(named)
        if not found:
            raise Refused(
                _("E2ENET_PYTHON names {path}, which is no program.").format(path=named),
                _("Correct the environment variable or remove it, then start Slicer again."),
            )
        return Interpreter(found, VARIABLE)
    record = _choice()
    if record:
        if not shutil.which(record["program"]):
            raise Refused(
                _("The Python {path} is gone.").format(path=record["program"]),
                _("Choose another one under Advanced, Engine, or go back to Slicer's."),
            )
        return Interpreter(record["program"], CHOSEN, record["kind"])
    return slicers()


def slicers() -> Interpreter:
    """Slicer's own Python, or (outside Slicer) this interpreter."""
    program = shutil.which("PythonSlicer") or sys.executable
    return Interpreter(program, SLICER, kindOf(sys.version_info, sys.platform, platform.machine()))


def kindOf(version, system: str, machine: str) -> str:
    """Which packages go with a Python: of its version, system and processor."""
    return f"{version[0]}.{version[1]}-{system}-{machine.lower()}"


def choose(program: str, kind: str = "") -> None:
    """Use another Python from now on; without a kind it has packages of its own."""
    path = paths.packagesFolder() / CHOICE
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps({"program": program, "kind": kind}), encoding="utf-8")
    os.replace(scratch, path)


def useSlicers() -> None:
    """Use Slicer's own Python from now on."""
    (paths.packagesFolder() / CHOICE).unlink(missing_ok=True)


def isTranslated() -> bool:
    """Whether this is an Intel program on an Apple processor."""
    if sys.platform != "darwin" or platform.machine() != "x86_64":
        return False
    asked = ["/usr/sbin/sysctl", "-n", "sysctl.proc_translated"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip() == "1"


def _choice() -> dict:
    """What was chosen; {} for nothing, or for a record that cannot be read."""
    try:
        record = json.loads((paths.packagesFolder() / CHOICE).read_text(encoding="utf-8"))
        return {"program": str(record["program"]), "kind": str(record["kind"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
