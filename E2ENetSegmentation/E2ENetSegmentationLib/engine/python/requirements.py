"""Requirement lines, such as "numba>=0.61,<0.70", and what a folder of packages has of them."""

import importlib.metadata
import re
import shutil
from pathlib import Path

SEGMENT, TRAIN = "segment", "train"  # on a CPU; with PyTorch: graphics cards, Explain, Fine-tune
FILES = {SEGMENT: ("requirements.txt",), TRAIN: ("requirements.txt", "requirements-torch.txt")}


def requirements(folder, purpose: str) -> list:
    """The lines of a purpose, from the files in the module's Resources."""
    lines = []
    for name in FILES[purpose]:
        for line in (Path(folder) / name).read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                lines.append(line.strip())
    return lines


def nameOf(requirement: str) -> str:
    """The package a line is about."""
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0]


def installed(folder) -> dict:
    """Name in lower case -> version of the packages in a folder."""
    if not Path(folder).is_dir():
        return {}
    found = {}
    for distribution in importlib.metadata.distributions(path=[str(folder)]):
        name = distribution.metadata["Name"]
        if name:
            found[name.lower()] = distribution.version
    return found


def missing(lines, folder) -> list:
    """The lines that a folder does not satisfy."""
    have = installed(folder)
    return [line for line in lines if not satisfies(line, have.get(nameOf(line).lower(), ""))]


def satisfies(requirement: str, version: str) -> bool:
    """Whether a version ("" for none) is what a line with >=, <, or == asks for."""
    if not version:
        return False
    for sign, limit in re.findall(r"(>=|<|==)\s*([0-9][0-9A-Za-z.+]*)", requirement):
        have, wanted = _numbers(version), _numbers(limit)
        width = max(len(have), len(wanted))
        have += (0,) * (width - len(have))
        wanted += (0,) * (width - len(wanted))
        if not {">=": have >= wanted, "<": have < wanted, "==": have == wanted}[sign]:
            return False
    return True


def _numbers(version: str) -> tuple:
    """The leading numbers: 2.13.0+cpu is (2, 13, 0), 5.0rc1 is (5, 0)."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in leading[0].split(".")) if leading else ()


def remove(folder) -> None:
    """Remove a folder of packages as a whole.

    Raises:
        OSError: A file of it is in use; nothing was removed.
    """
    if Path(folder).exists():
        shutil.rmtree(_setAside(Path(folder)), ignore_errors=True)


def replace(folder, fresh) -> None:
    """Put a fresh folder in the place of an old one, if there is one.

    Raises:
        OSError: A file is in use; the old folder is where it was.
    """
    folder = Path(folder)
    old = _setAside(folder) if folder.exists() else None
    try:
        Path(fresh).rename(folder)
    except OSError:
        if old is not None:
            old.rename(folder)
        raise
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _setAside(folder: Path) -> Path:
    """Rename it: either all of it goes, or (a file is in use on Windows) nothing."""
    aside = folder.with_name(f".removed-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    return aside
