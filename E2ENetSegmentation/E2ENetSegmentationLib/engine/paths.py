"""Where the engine, its interpreter, the models and the trainings lie.

The layout differs between the source tree (`engine/e2enet` beside the module's folder) and an
installed extension (`E2ENetSegmentationEngine/e2enet` beside the module's script), so both are
looked for on the way up from this file.
"""

import importlib
import os
import shutil
import sys
from pathlib import Path

import slicer

from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused

LIB = Path(__file__).resolve().parents[1]  # E2ENetSegmentationLib itself
ENGINE_FOLDERS = ("engine", "E2ENetSegmentationEngine")


def engineFolder() -> Path:
    """The folder that holds the package `e2enet`.

    Raises:
        Refused: It is nowhere near the module.
    """
    for parent in LIB.parents:
        for name in ENGINE_FOLDERS:
            if (parent / name / "e2enet" / "__init__.py").is_file():
                return parent / name
    raise Refused(
        _("The engine (folder e2enet) is missing beside the module."),
        _("Install the extension again."),
    )


def engineModule(name: str):
    """A module of the engine that needs only the standard library: bundle, archive or events."""
    folder = str(engineFolder())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(f"e2enet.{name}")


def extensionResources() -> Path:
    """`Resources` of the extension: Models, Samples, Terminology."""
    for parent in LIB.parents:
        if (parent / "Resources" / "Models").is_dir():
            return parent / "Resources"
    return engineFolder().parent / "Resources"


def pythonExecutable() -> str:
    """$E2ENET_PYTHON, or Slicer's own Python, or (outside Slicer) this interpreter.

    Raises:
        Refused: $E2ENET_PYTHON names no file.
    """
    named = os.environ.get("E2ENET_PYTHON", "")
    if named:
        found = shutil.which(named)
        if not found:
            raise Refused(
                _("E2ENET_PYTHON names {path}, which is no program.").format(path=named),
                _("Correct the environment variable or remove it, then start Slicer again."),
            )
        return found
    return shutil.which("PythonSlicer") or sys.executable


def usesOwnInterpreter() -> bool:
    """Whether the engine runs in an interpreter that the user set up and looks after."""
    return bool(os.environ.get("E2ENET_PYTHON"))


def childEnvironment() -> dict:
    """The environment of the engine's process.

    Slicer's launcher sets PYTHONHOME and library paths for its own Python; another interpreter
    must not see them, so it gets the environment that Slicer itself was started from.
    """
    environment = dict(os.environ)
    if usesOwnInterpreter() and hasattr(slicer, "app"):
        environment = dict(slicer.util.startupEnvironment())
        for name in ("PYTHONHOME", "PYTHONNOUSERSITE"):
            environment.pop(name, None)
        environment.update({k: v for k, v in os.environ.items() if k.startswith("E2ENET_")})
    before = environment.get("PYTHONPATH") if not usesOwnInterpreter() else ""
    environment["PYTHONPATH"] = os.pathsep.join(p for p in (str(engineFolder()), before) if p)
    environment["PYTHONUNBUFFERED"] = "1"
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # cards have the numbers nvidia-smi shows
    environment["PYTHONIOENCODING"] = "utf-8"
    return environment


def dataFolder() -> Path:
    """The user's data folder of the engine, never inside Slicer's installation."""
    return engineModule("folders").user_folder()


def modelsFolder() -> Path:
    """Imported and trained models."""
    return dataFolder() / "models"


def trainingsFolder() -> Path:
    """Datasets, checkpoints and state of trainings that run or wait."""
    return dataFolder() / "trainings"
