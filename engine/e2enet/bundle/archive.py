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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from e2enet.events import BadInput
from e2enet.files import replacing, scratch_folder

MAX_BYTES = 4 << 30  # no model comes near; a zip bomb does
MAX_MODEL_BYTES = 16 << 20  # model.json is read whole
MAX_FILES = 1000
_DATE = (1980, 1, 1, 0, 0, 0)  # a zip cannot be without one

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
    with _opened(archive) as opened:
        models = _checked(archive, opened)
        if len(models) > 1:
            raise BadInput(
                f"{archive} holds {len(models)} models: {', '.join(models)}.",
                help="Install it; then each can be named.",
                code="several-models",
            )
        with scratch_folder(folder.parent) as scratch:
            _write(opened, next(iter(models.values())), scratch)
            scratch.chmod(0o755)
            try:
                scratch.rename(folder)
            except OSError:
                if not folder.is_dir():  # else somebody unpacked the same file meanwhile
                    raise


def extract_all(archive: Path, folder: Path) -> list[Path]:
    """Unpack every bundle of a zip into a folder of its own, after all were checked.

    Args:
        archive: A bundle's zip, or one with several in a folder each, as `pack` writes it.
        folder: Exists; what was there stays.

    Returns:
        The folders that were made, named 0, 1, ….

    Raises:
        BadInput: Something in it is wrong; nothing was written.
        OSError: It cannot be written.
    """
    with _opened(archive) as opened:
        targets = []
        for number, members in enumerate(_checked(archive, opened).values()):
            targets.append(folder / str(number))
            _write(opened, members, targets[-1])
        return targets


def pack(folders: Path | Sequence[Path], archive: Path) -> None:
    """Write bundles as one zip, each in a folder of its name, all or nothing. Raises OSError.

    The same files make the same bytes on every computer: their hash says whether two zips are the
    same. Weights do not get smaller by packing, so nothing is compressed.
    """
    folders = [folders] if isinstance(folders, Path) else folders
    with replacing(archive) as temporary, zipfile.ZipFile(temporary, "w") as opened:
        for folder in folders:
            inside = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
            for name, path in sorted(inside.items()):
                if path.is_file():
                    info = zipfile.ZipInfo(f"{folder.name}/{name}", _DATE)
                    info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
                    info.file_size = path.stat().st_size
                    with path.open("rb") as source, opened.open(info, "w") as sink:
                        shutil.copyfileobj(source, sink)


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as opened:
            yield opened
    except _UNREADABLE as error:
        raise _refused(archive, f"is not a readable zip: {error}") from error


def _write(opened: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], folder: Path) -> None:
    for name, info in members.items():
        target = folder.joinpath(*PurePosixPath(name).parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(info) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)


def _checked(archive: Path, opened: zipfile.ZipFile) -> dict[str, dict[str, zipfile.ZipInfo]]:
    """Folder -> path inside the bundle -> member, after all was looked at."""
    models = _members(archive, opened)
    for members in models.values():
        _check_hashes(archive, opened, members)
    return models


def _members(archive: Path, opened: zipfile.ZipFile) -> dict[str, dict[str, zipfile.ZipInfo]]:
    """Folder -> path inside the bundle -> member, after every path and size was looked at."""
    infos = [info for info in opened.infolist() if not info.is_dir()]
    if len(infos) > MAX_FILES or sum(info.file_size for info in infos) > MAX_BYTES:
        raise _refused(archive, "unpacks to more than a model ever holds")
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not is_inside(info.filename):
            raise _refused(archive, f"holds the path {info.filename!r}, which leads outside")
        if kind not in (0, stat.S_IFREG):
            raise _refused(archive, f"holds {info.filename!r}, which is not a plain file")
    paths = [PurePosixPath(info.filename) for info in infos]
    roots = sorted({path.parent for path in paths if path.name == "model.json"})
    roots = [root for root in roots if not root.parts] or [r for r in roots if len(r.parts) == 1]
    if not roots:
        raise _refused(archive, "holds no model.json")
    models = {}
    for root in roots:
        inside = [info for info in infos if PurePosixPath(info.filename).is_relative_to(root)]
        members = {PurePosixPath(i.filename).relative_to(root).as_posix(): i for i in inside}
        if len({name.casefold() for name in members}) != len(inside):
            raise _refused(archive, "holds a file twice")
        models[root.as_posix()] = members
    return models


def is_inside(name: str) -> bool:
    """Whether a name that came from outside is a plain path below the folder it is written to."""
    path = PurePosixPath(name)
    leads_out = path.is_absolute() or ".." in path.parts or not path.parts
    return not leads_out and "\\" not in name and ":" not in name and name.isprintable()


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
