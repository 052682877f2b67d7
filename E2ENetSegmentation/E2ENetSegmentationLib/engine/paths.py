"""Where the engine, its packages, the models and the trainings lie.

The layout differs between the source tree (`engine/e2enet` beside the module's folder) and an
installed extension (`E2ENetSegmentationEngine/e2enet` beside the module's script), so both are
looked for on the way up from this file.
"""

import importlib
import sys
from pathlib import Path

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
    """A module of the engine that needs only the standard library, such as bundle or events."""
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


def dataFolder() -> Path:
    """The user's data folder of the engine, never inside Slicer's installation."""
    return engineModule("folders").user_folder()


def modelsFolder() -> Path:
    """Imported and trained models."""
    return dataFolder() / "models"


def packagesFolder() -> Path:
    """The engine's Python packages, a folder for each kind of Python."""
    return dataFolder() / "python"


def trainingsFolder() -> Path:
    """Datasets, checkpoints and state of trainings that run or wait."""
    return dataFolder() / "trainings"
