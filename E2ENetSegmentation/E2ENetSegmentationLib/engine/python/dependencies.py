"""The engine's packages: asked for before the first run, installed after a person said yes."""

import sys
import time
from pathlib import Path

from E2ENetSegmentationLib.engine import devices
from E2ENetSegmentationLib.engine.python import interpreter, pip
from E2ENetSegmentationLib.engine.python.installation import Installation
from E2ENetSegmentationLib.engine.python.requirements import (
    SEGMENT,
    TRAIN,
    missing,
    nameOf,
    requirements,
)
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Cancelled, Refused

__all__ = ["SEGMENT", "TRAIN", "Dependencies"]
SECONDS_BETWEEN_LOOKS = 0.05
# Downloads as measured in November 2026 on Linux; PyTorch differs by system.
SEGMENT_BYTES, TORCH_BYTES, CUDA_BYTES = 165 * 10**6, 220 * 10**6, 2900 * 10**6


class Dependencies:
    """Finds and installs what is missing.

    Args:
        folder: Holds requirements.txt and requirements-torch.txt.
        host: Asks the person and shows how far it is.
    """

    def __init__(self, folder, host) -> None:
        self.folder = Path(folder)
        self.host = host

    def missing(self, purpose: str) -> list:
        """Requirement lines that the engine's folder does not satisfy.

        Raises:
            Refused: The interpreter that was named is gone.
        """
        packages = interpreter.current().packages
        return missing(requirements(self.folder, purpose), packages) if packages else []

    def names(self, purpose: str) -> list:
        """Names of the packages of a purpose."""
        return [nameOf(line) for line in requirements(self.folder, purpose)]

    @property
    def purpose(self) -> str:
        """What is installed, or what to install when nothing is."""
        return TRAIN if not self.missing(TRAIN) else SEGMENT

    def expected(self, purpose: str) -> int:
        """Bytes that a purpose takes to download, roughly."""
        if purpose == SEGMENT:
            return SEGMENT_BYTES
        return SEGMENT_BYTES + (CUDA_BYTES if devices.hasNvidia() else TORCH_BYTES)

    def size(self, purpose: str) -> str:
        """The same in words."""
        size = self.expected(purpose)
        if size < 10**9:
            return _("about {n} MB").format(n=round(size / 10**7) * 10)
        return _("about {n} GB").format(n=round(size / 10**9))

    def installation(self, purpose: str, onProgress=None) -> Installation:
        """The installation of all that a purpose needs, not started.

        Raises:
            Refused: The interpreter has packages of its own, or there is no PyTorch for it.
        """
        python = interpreter.current()
        if python.packages is None:
            raise Refused(
                _("{program} has packages of its own; they are left alone.").format(
                    program=python.program
                ),
                _("Install there what is missing."),
            )
        if purpose == TRAIN and python.kind.endswith("-darwin-x86_64"):
            raise Refused(
                _("There is no PyTorch any more for Intel programs on a Mac."),
                _("Choose a native Python under Advanced, Engine; segmenting works without."),
            )
        index = pip.torchIndex(sys.platform, devices.hasNvidia()) if purpose == TRAIN else ""
        return Installation(
            python,
            requirements(self.folder, purpose),
            expected=self.expected(purpose),
            wheels=self.host.setting("wheelsFolder"),
            extraIndex=index,
            onProgress=onProgress,
        )

    def ensure(self, purpose: str, device: str = "auto") -> None:
        """Install what is missing, after asking; returns when it can be used.

        Args:
            device: One other than the processor needs PyTorch.

        Raises:
            Refused: The person said no, or it failed.
            Cancelled: The person ended it.
        """
        if device not in ("auto", "cpu"):
            purpose = TRAIN
        if not self.missing(purpose):
            return
        question = _(
            "E2ENet needs Python packages ({names}): {size} to download.\n"
            "They go into a folder of their own; Slicer's Python stays as it is, and removing the "
            "folder removes them.\n\nInstall them now?"
        ).format(names=", ".join(self.names(purpose)), size=self.size(purpose))
        if not self.host.confirm(question):
            raise Refused(
                _("Without its Python packages the engine cannot compute."),
                _("Click again to install them, or choose another Python under Advanced, Engine."),
                "dependency",
            )
        self._install(purpose)

    def _install(self, purpose: str) -> None:
        """Install behind a window with a bar and Cancel."""
        window = self.host.progress(_("Installing the engine's packages"))
        installation = None
        try:
            installation = self.installation(purpose, window.show)
            installation.start()
            while installation.poll():
                self.host.processEvents()
                if window.cancelled:
                    raise Cancelled()
                time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            if installation is not None:
                installation.cancel()
            window.close()
