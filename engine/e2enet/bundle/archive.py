"""Zip files that came from outside: checked whole before a byte is written.

Standard library only, as `bundle.py`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from e2enet.events import BadInput
from e2enet.files import replacing, scratch_folder

MAX_BYTES = 4 << 30  # no model comes near; a zip bomb does
MAX_MODEL_BYTES = 16 << 20  # model.json is read whole
MAX_FILES = 1000
_METHOD = zipfile.ZIP_DEFLATED

# What zipfile raises for truncated, changed, encrypted and exotic archives.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    UnicodeDecodeError,
)


def extract_checked(archive: Path, folder: Path) -> None:
    """Unpack a bundle's zip into a folder that does not exist yet.

    The zip may hold the bundle's files at its top or in one folder. Paths, sizes and the SHA-256 of
    every file that model.json lists are checked first; then everything is written under a temporary
    name and renamed.

    Raises:
        BadInput: It is no zip, holds no model, or something in it is wrong; nothing was written.
        OSError: It cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(archive, opened)
            _check_hashes(archive, opened, members)
            with scratch_folder(folder.parent) as scratch:
                for name, info in members.items():
                    target = scratch.joinpath(*PurePosixPath(name).parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with opened.open(info) as source, target.open("wb") as sink:
                        shutil.copyfileobj(source, sink)
                scratch.chmod(0o755)
                try:
                    scratch.rename(folder)
                except OSError:
                    if not folder.is_dir():  # else somebody unpacked the same file meanwhile
                        raise
    except _UNREADABLE as error:
        raise _refused(archive, f"is not a readable zip: {error}") from error


def pack(folder: Path, archive: Path) -> None:
    """Write a bundle's folder as a zip, all or nothing. Raises OSError."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with replacing(archive) as temporary, zipfile.ZipFile(temporary, "w", _METHOD) as opened:
        for path in files:
            opened.write(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")


def _members(archive: Path, opened: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Path inside the bundle -> member, after every path and size was looked at."""
    infos = [info for info in opened.infolist() if not info.is_dir()]
    if len(infos) > MAX_FILES or sum(info.file_size for info in infos) > MAX_BYTES:
        raise _refused(archive, "unpacks to more than a model ever holds")
    for info in infos:
        path = PurePosixPath(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        outside = path.is_absolute() or ".." in path.parts or not path.parts
        if outside or "\\" in info.filename or ":" in info.filename:
            raise _refused(archive, f"holds the path {info.filename!r}, which leads outside")
        if kind not in (0, stat.S_IFREG):
            raise _refused(archive, f"holds {info.filename!r}, which is not a plain file")
    paths = [PurePosixPath(info.filename) for info in infos]
    roots = [path.parent for path in paths if path.name == "model.json"]
    root = min(roots, key=lambda path: len(path.parts), default=None)
    if root is None or len(root.parts) > 1:
        raise _refused(archive, "holds no model.json")
    inside = [info for info in infos if PurePosixPath(info.filename).is_relative_to(root)]
    members = {PurePosixPath(i.filename).relative_to(root).as_posix(): i for i in inside}
    if len({name.casefold() for name in members}) != len(inside):
        raise _refused(archive, "holds a file twice")
    return members


def _check_hashes(
    archive: Path, opened: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]
) -> None:
    if members["model.json"].file_size > MAX_MODEL_BYTES:
        raise _refused(archive, "holds a model.json that is far too large")
    try:
        model: Any = json.loads(opened.read(members["model.json"]))
        listed = {str(name): str(entry["sha256"]) for name, entry in model["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _refused(archive, "holds a model.json that lists no files") from None
    for name in sorted({*listed, *members} - {"model.json"}):
        if name not in members:
            raise _refused(archive, f"lacks {name}")
        if name not in listed:
            raise _refused(archive, f"holds {name}, which its model.json does not list")
        digest = hashlib.sha256()
        with opened.open(members[name]) as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != listed[name]:
            raise _refused(archive, f"holds a {name} that was changed or damaged")


def _refused(archive: Path, what: str) -> BadInput:
    return BadInput(
        f"{archive} {what}.",
        help="Export or download the model again.",
        code="bad-archive",
    )
