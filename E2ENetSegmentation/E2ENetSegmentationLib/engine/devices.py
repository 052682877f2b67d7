"""What the engine can compute on, found without torch and without a wait.

nvidia-smi takes seconds on some computers: it is asked once, in the background, and whoever shows
devices is told when it has answered.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

from E2ENetSegmentationLib.engine.tree import CREATE_NO_WINDOW
from E2ENetSegmentationLib.i18n import tr as _

PATIENCE = 20.0  # seconds; a driver that hangs hangs for ever
POLL_MILLISECONDS = 200


class _Question:
    """`nvidia-smi -L`, started once; `answer` is None until it is there."""

    def __init__(self) -> None:
        self.answer = None
        self._process, self._output, self._until = None, None, 0.0

    def ask(self) -> None:
        """Start it, unless that was done."""
        if self._process is not None or self.answer is not None:
            return
        program = shutil.which("nvidia-smi")
        if not program:
            self.answer = ""
            return
        options = {"creationflags": CREATE_NO_WINDOW} if os.name == "nt" else {}
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the answer
        try:
            self._process = subprocess.Popen(
                [program, "-L"],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.DEVNULL,
                **options,
            )
        except OSError:
            self.answer = ""
        self._until = time.monotonic() + PATIENCE

    def look(self) -> None:
        """Take the answer if it is there; no wait."""
        if self.answer is not None or self._process is None:
            return
        code = self._process.poll()
        if code is None and time.monotonic() < self._until:
            return
        if code is None:
            self._process.kill()
        self._output.seek(0)
        self.answer = self._output.read().decode("utf-8", "replace") if code == 0 else ""
        self._output.close()


_question = _Question()


def devices() -> list:
    """(name for a person, value of --device): automatic, CPU, then each graphics card known yet."""
    found = [(_("Automatic"), "auto"), (_("CPU"), "cpu")]
    if hasApple():
        return [*found, (_("Apple graphics processor"), "mps")]
    _question.ask()
    _question.look()
    return found + parseNvidia(_question.answer or "")


def whenKnown(host, callback) -> None:
    """Call once when all devices are known; at once where they are."""
    devices()
    if _question.answer is not None or hasApple():
        callback()
        return

    def look() -> None:
        _question.look()
        if _question.answer is not None:
            timer.stop()
            callback()

    timer = host.timer(POLL_MILLISECONDS, look)
    timer.start()


def hasApple() -> bool:
    """Whether this is a native program on an Apple processor."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def hasNvidia() -> bool:
    """Whether there is a graphics card for CUDA, as far as is known yet."""
    return any(value.startswith("cuda") for _name, value in devices())


def parseNvidia(listing: str) -> list:
    """Lines such as "GPU 0: NVIDIA RTX A4000 (UUID: …)" as (name, "cuda:0")."""
    cards = re.findall(r"^GPU (\d+): (.+?)(?: \(UUID.*)?$", listing, re.MULTILINE)
    return [
        (f"{name} ({index})" if len(cards) > 1 else name, f"cuda:{index}") for index, name in cards
    ]
