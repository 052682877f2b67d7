"""What the engine can compute on, found without torch."""

import os
import platform
import re
import shutil
import subprocess
import sys

from E2ENetSegmentationLib.i18n import tr as _


def devices() -> list:
    """(name for a person, value of --device): automatic, CPU, then each graphics card."""
    found = [(_("Automatic"), "auto"), (_("CPU"), "cpu")]
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return [*found, (_("Apple graphics processor"), "mps")]
    return found + parseNvidia(_nvidiaListing())


def parseNvidia(listing: str) -> list:
    """Lines such as "GPU 0: NVIDIA RTX A4000 (UUID: …)" as (name, "cuda:0")."""
    cards = re.findall(r"^GPU (\d+): (.+?)(?: \(UUID.*)?$", listing, re.MULTILINE)
    return [
        (f"{name} ({index})" if len(cards) > 1 else name, f"cuda:{index}") for index, name in cards
    ]


def _nvidiaListing() -> str:
    program = shutil.which("nvidia-smi")
    if not program:
        return ""
    options = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {}
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=5, **options)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
