"""pip from outside: its command line, and what it says in words for a person."""

import os
import re

from E2ENetSegmentationLib.i18n import tr as _

RAW_PROGRESS = (24, 1)  # pip that can say its progress in numbers
CUDA_WHEELS = "https://download.pytorch.org/whl/cu126"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
NUMBERS = "Progress "  # lines of the raw progress
FILE = r"(?:Downloading|Using cached|Processing) (\S+\.whl)(?!\.)( \([\d.]+ [kMG]?B\))?"


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
    words += [
        "--no-input",
        "--no-compile",
        "--no-warn-conflicts",
        "--disable-pip-version-check",
        "--no-color",
    ]
    words += ["--progress-bar", "raw" if numbers >= RAW_PROGRESS else "off"]
    if wheels:
        words += ["--no-index", "--find-links", str(wheels)]
    elif extraIndex:
        # It is asked for every package: one that cannot be reached must not hold up each of them.
        words += ["--extra-index-url", extraIndex, "--retries", "2"]
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

    Args:
        expected: Bytes that all files have, roughly; pip itself does not know before the end.

    Attributes:
        text: What it does, such as "Downloading numba-0.62.1 (3.8 MB): 40 %".
        percent: How far the whole is.
        error: Its first complaint.
    """

    def __init__(self, expected: int) -> None:
        self.text, self.percent, self.error = "", 0, ""
        self._expected, self._before, self._size = expected, 0.0, 0.0
        self._file = ""

    def feed(self, line: str) -> None:
        """Take one line of pip's output."""
        line, share = line.strip(), 1.0
        if match := re.match(r"Progress (\d+) of (\d+)$", line):
            share = int(match[1]) / max(1, int(match[2]))
            if self._file:
                self.text = f"{self._file}: {share:.0%}"
        elif match := re.match(r"Collecting ([A-Za-z0-9._-]+)", line):
            self.text = _("Finding {name}").format(name=match[1])
        elif match := re.match(FILE, line):
            name = "-".join(os.path.basename(match[1]).split("-")[:2])
            self.text = self._file = _("Downloading {name}").format(name=name + (match[2] or ""))
            self._before, self._size = self._before + self._size, _bytes(match[2] or "")
            share = 0.0 if line.startswith("Downloading") else 1.0
        elif line.startswith("Installing collected packages"):
            self.text, self._before = _("Unpacking"), float(self._expected)
        elif line.startswith("ERROR:"):
            self.error = self.error or line[len("ERROR:") :].strip()
        else:
            return
        done = (self._before + share * self._size) / self._expected
        self.percent = max(self.percent, min(90, int(90 * done)))


def _bytes(text: str) -> float:
    """What pip writes of a size, such as " (52.8 MB)"."""
    match = re.search(r"([\d.]+) ([kMG]?)B", text)
    return float(match[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[match[2]] if match else 0.0
