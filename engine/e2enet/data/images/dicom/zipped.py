"""A zip of DICOM files: its plain files under names of our own, gone again after use."""

from __future__ import annotations

import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from e2enet.events import BadInput

MAX_FILES = 100_000
_RATIO = 200  # pixels of images hardly shrink beyond a tenth; a zip bomb does to a thousandth
# What zipfile raises for truncated, changed, encrypted and exotic archives.
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, NotImplementedError,
    RuntimeError, UnicodeDecodeError,
)  # fmt: skip
_NAME = 80  # bytes of a name that are kept; file systems take 255


def is_zip(path: Path) -> bool:
    """Whether a path is a zip by its name."""
    return path.suffix.lower() == ".zip" and path.is_file()


@contextmanager
def folder_of(path: Path) -> Iterator[Path]:
    """The folder of DICOM files that a path stands for: itself, or what its zip holds.

    Args:
        path: A folder, or a zip, which is unpacked beside the system's other temporary files.

    Raises:
        BadInput: The zip is damaged, encrypted, or unpacks to more than there is room for.
    """
    if not is_zip(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="e2enet-") as scratch:
        try:
            _unpack(path, Path(scratch))
        except _UNREADABLE as error:
            raise BadInput(
                f"{path.name} cannot be unpacked: {error}.",
                help="Unpack it yourself and give the folder, or export it again.",
                code="bad-archive",
            ) from error
        yield Path(scratch)


def _unpack(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as opened:
        infos = [info for info in opened.infolist() if not info.is_dir()]
        size = sum(info.file_size for info in infos)
        room = shutil.disk_usage(folder).free
        bomb = size > max(path.stat().st_size, 1 << 16) * _RATIO
        if len(infos) > MAX_FILES or bomb or size > room:
            raise BadInput(
                f"{path.name} would unpack to {len(infos)} files of {size >> 20} MiB, more than "
                f"{'such a zip can hold' if bomb else 'there is room for'}.",
                help="Unpack it yourself and give the folder.",
                code="bad-archive",
            )
        for number, info in enumerate(infos):
            # Numbered, so that no path in the zip leads anywhere and no two names meet.
            name = PurePosixPath(info.filename.replace("\\", "/")).name
            name = name.encode("utf-8", "replace")[-_NAME:].decode("utf-8", "ignore")
            with opened.open(info) as source, (folder / f"{number:05d}_{name}").open("wb") as sink:
                shutil.copyfileobj(source, sink)
