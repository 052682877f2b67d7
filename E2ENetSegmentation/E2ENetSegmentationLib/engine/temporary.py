"""Folders of one run each, and the room that a disk must have for one."""

import os
import shutil
import tempfile
from pathlib import Path

import slicer

from E2ENetSegmentationLib.engine.alive import isAlive
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused

PREFIX = "E2ENet-"
MINIMUM_FREE_BYTES = 64 << 20


def temporaryFolder() -> Path:
    """A fresh folder for one run; who asks for it removes it.

    Raises:
        Refused: It cannot be made.
    """
    base = slicer.app.temporaryPath if hasattr(slicer, "app") else tempfile.gettempdir()
    try:
        os.makedirs(base, exist_ok=True)
        _removeLeftovers(Path(base))
        return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=base))
    except OSError as error:
        raise Refused(
            _("No temporary folder can be made: {reason}.").format(reason=error.strerror or error),
            _("Free some disk space, or choose another temporary folder in Slicer's settings."),
        ) from error


def isFull(folder, needed: int = 0) -> bool:
    """Whether the disk of a folder lacks the room for so many bytes and a little more."""
    return shutil.disk_usage(folder).free < needed + MINIMUM_FREE_BYTES


def diskFull(folder) -> Refused:
    return Refused(
        _("The disk of the temporary folder {folder} is full.").format(folder=folder),
        _("Free some space, or choose another temporary folder in Slicer's settings."),
        "disk-full",
    )


def _removeLeftovers(base: Path) -> None:
    """Remove the folders of a Slicer that crashed: their names hold its process number."""
    for folder in base.glob(f"{PREFIX}*-*"):
        number = folder.name[len(PREFIX) :].split("-")[0]
        if number.isdigit() and not isAlive(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
