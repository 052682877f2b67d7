"""The folder of a report: new, and there as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2enet.events import BadInput
from e2enet.files import move_folder, output_errors, scratch_folder


def check_folder(folder: Path) -> None:
    """Refuse a report's folder that would overwrite something.

    Raises:
        BadInput: it exists, or its parent does not.
    """
    if folder.exists():
        raise BadInput(
            f"{folder} exists; a report overwrites nothing.",
            help="Name a new folder.",
            code="output-exists",
        )
    if not folder.absolute().parent.is_dir():
        raise BadInput(
            f"{folder} cannot be made: {folder.absolute().parent} does not exist.",
            code="output-folder",
        )


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to write into, which becomes `folder` when the block ends well.

    Raises:
        BadInput: as `check_folder`, or it cannot be written.
    """
    check_folder(folder)
    with output_errors(folder), scratch_folder(folder.absolute().parent) as scratch:
        temporary = scratch / folder.name
        temporary.mkdir()
        yield temporary
        move_folder(temporary, folder)
