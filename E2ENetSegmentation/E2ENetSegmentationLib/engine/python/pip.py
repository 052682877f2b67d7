"""pip from outside: its command line, and what it says in words for a person."""

import os
import re

from E2ENetSegmentationLib.i18n import tr as _

RAW_PROGRESS = (24, 1)  # pip that can say its progress in numbers
CUDA_WHEELS = "https://download.pytorch.org/whl/cu126"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
NUMBERS = "Progress "  # lines of the raw progress
FILE = r"(?:Downloading|Using cached|Processing) (\S+\.whl)(?!\.)( \([^)]*\))?"


def arguments(lines, target, version: str, *, wheels: str = "", extraIndex: str = "") -> list:
    """Arguments of pip for an installation of its own.

    Args:
        lines: Requirement lines.
        target: The folder to install into.
        version: Of that pip.
        wheels: A folder of wheel files to use in place of the network.
        extraIndex: An index beside the one that pip is set up for.
    """
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    words = ["install", "--target", str(target), "--no-user", "--only-binary", ":all:"]
    words += ["--no-input", "--no-warn-conflicts", "--disable-pip-version-check", "--no-color"]
    words += ["--progress-bar", "raw" if numbers >= RAW_PROGRESS else "off"]
    if wheels:
        words += ["--no-index", "--find-links", str(wheels)]
    elif extraIndex:
        words += ["--extra-index-url", extraIndex]
    return [*words, *lines]


def environment(base: dict, scratch) -> dict:
    """The variables of pip's process: proxies and pip's own settings stay as they are.

    It unpacks on the disk of the target, so that files are moved and not copied, and a Cancel
    removes them with the rest.
    """
    changed = {name: str(scratch) for name in ("TMPDIR", "TEMP", "TMP")}
    return {**base, **changed, "PIP_REQUIRE_VIRTUALENV": "0"}


def torchIndex(system: str, hasNvidia: bool) -> str:
    """Where PyTorch for this computer lies: PyPI has CUDA's on Linux, that for CPUs elsewhere."""
    if system == "win32" and hasNvidia:
        return CUDA_WHEELS
    if system.startswith("linux") and not hasNvidia:
        return CPU_WHEELS
    return ""


class Progress:
    """Reads what pip says.

    Attributes:
        text: What it does, such as "Downloading numba-0.62.1 (3.8 MB), 4 of 17: 40 %".
        percent: How far the whole is, counted in files.
        error: Its first complaint.
    """

    def __init__(self) -> None:
        self.text, self.percent, self.error = "", 0, ""
        self._names, self._files, self._share = set(), 0, 0.0
        self._file = ""

    def feed(self, line: str) -> None:
        """Take one line of pip's output."""
        line = line.strip()
        if match := re.match(r"Progress (\d+) of (\d+)$", line):
            self._share = int(match[1]) / max(1, int(match[2]))
            if self._file:
                self.text = f"{self._file}: {self._share:.0%}"
        elif match := re.match(r"Collecting ([A-Za-z0-9._-]+)", line):
            self._names.add(match[1].lower())
            self.text = _("Finding {name}").format(name=match[1])
        elif match := re.match(FILE, line):
            self._files, self._share = self._files + 1, 0.0
            self.text = self._file = _("Downloading {name}, {n} of {total}").format(
                name="-".join(os.path.basename(match[1]).split("-")[:2]) + (match[2] or ""),
                n=self._files,
                total=max(self._files, len(self._names)),
            )
        elif line.startswith("Installing collected packages"):
            self.text, self._files, self._share = _("Unpacking"), len(self._names), 1.0
        elif line.startswith("ERROR:"):
            self.error = self.error or line[len("ERROR:") :].strip()
        done = max(0, self._files - 1) + (self._share if self._files else 0)
        self.percent = max(self.percent, min(90, int(90 * done / max(1, len(self._names)))))
