"""The folder that an explanation fills: all of it or nothing, and nobody else's files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from e2enet.events import BadInput
from e2enet.files import check_writable, output_errors, scratch_folder

INDEX = "explain.json"


def check_folder(folder: Path) -> None:
    """Raise BadInput unless an explanation may be written into a folder."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(
            f"{folder} is a file.", help="Name a folder for --output.", code="output-not-folder"
        )
    if folder.is_dir() and any(folder.iterdir()) and not (folder / INDEX).is_file():
        raise BadInput(
            f"{folder} holds other files.",
            help="Name a new folder, or one with an earlier explanation.",
            code="output-not-empty",
        )
    check_writable(folder)


def fill_folder(
    folder: Path, inputs: Sequence[Path], write: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """Write into a hidden folder, then put everything in its place; nothing on failure.

    Args:
        folder: Made if it is missing; the files of an earlier explanation in it go.
        inputs: Files that must not be replaced.
        write: Writes everything into the folder it is given and returns the index.

    Raises:
        BadInput: It cannot be written, or an input would be replaced.
    """
    with output_errors(folder), scratch_folder(folder) as scratch:
        index: dict[str, Any] = write(scratch)
        new = sorted(path.name for path in scratch.iterdir())
        old = _listed(folder / INDEX)
        for path in inputs:
            if path.absolute().parent == folder.absolute() and path.name in {*new, *old}:
                raise BadInput(
                    f"{folder} holds the input itself.",
                    help="Name another folder; the input is never overwritten.",
                    code="output-is-input",
                )
        for name in old:
            (folder / name).unlink(missing_ok=True)
        for name in [*(n for n in new if n != INDEX), INDEX]:
            os.replace(scratch / name, folder / name)
    return index


def _listed(path: Path) -> list[str]:
    """Names of the files of an earlier explanation, all directly in its folder."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        names = [
            *index["flow"].values(),
            index["segmentation"],
            index["report"],
            *(entry["path"] for entry in (*index["volumes"], *index["figures"])),
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [
        n for n in names if isinstance(n, str) and n not in ("", ".", "..") and Path(n).name == n
    ]
