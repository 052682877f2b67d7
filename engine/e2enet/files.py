"""Files and folders that appear whole or not at all. Standard library only.

Everything is written under a hidden temporary name beside its target and renamed: whenever the
process dies or the disk fills up, a name holds the old content or the new one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from e2enet.events import BadInput

NOT_WRITABLE = "output-not-writable"
PART = ".part"  # ends every temporary name
_KEPT = 50  # characters of a name; with all of a name that just fits nothing could be added
_LITTER_S = 3600.0  # whatever is prepared in one takes seconds
_ATTEMPTS, _BETWEEN_ATTEMPTS_S = 100, 0.1
_SPACE = "Check that there is space on the disk and that the folder may be written to."


def sha256(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file that is on the disk when this returns, also after a power cut.

    For one writer at a time: its temporary name is always the same, so that runs which are killed
    leave no litter that piles up.

    Args:
        path: In a folder that exists.
        content: Text is written as UTF-8.

    Raises:
        OSError: It cannot be written; `path` holds what it held.
    """
    temporary = path.with_name(f".{_short(path.name)}{PART}")
    try:
        with temporary.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        _replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename itself has to reach the disk as well
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def replacing(path: Path, ending: str = "") -> Iterator[Path]:
    """A temporary name to write to, which takes the place of `path` when the block ends well.

    Args:
        path: In a folder that exists.
        ending: What the temporary name must end in, for writers that go by it.

    Raises:
        OSError: It cannot take the place.
    """
    temporary = path.with_name(f".{_short(path.name)}.{os.getpid()}{PART}{ending}")
    try:
        yield temporary
        _replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder in `parent` to prepare files in; gone at the end, whatever is still in it.

    `parent` is made if it is missing; if the block fails, it and the folders made for it go too.

    Raises:
        OSError: It cannot be made.
    """
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    scratch = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".e2enet-", suffix=PART, dir=parent))
        yield scratch
        made = []
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        for folder in made:
            with suppress(OSError):  # somebody else may have put something in
                folder.rmdir()


def remove_litter(parent: Path) -> None:
    """Remove scratch folders of killed processes; those of one that still works are younger."""
    for path in parent.glob(f".e2enet-*{PART}"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _LITTER_S:
                shutil.rmtree(path)


def move_folder(source: Path, target: Path) -> None:
    """Rename a folder to a name in the same file system; an older folder there is replaced.

    Raises:
        OSError: It cannot be; then `target` is what it was.
    """
    if not target.exists():
        source.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=".e2enet-", suffix=PART, dir=target.parent))
    target.rename(old / "old")
    try:
        source.rename(target)
    except OSError:
        (old / "old").rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def check_writable(path: Path) -> None:
    """Refuse, before any work, a file or folder that nothing could be written to or made at.

    Raises:
        BadInput: The nearest folder that is there may not be written to, or is a file.
    """
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if path.is_dir():
        parent = path
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise not_writable(
            path, f"{parent} is no folder that may be written to", help="Choose another folder."
        )


@contextmanager
def output_errors(path: str | os.PathLike[str], help: str = _SPACE) -> Iterator[None]:
    """Answers what the system says while an output is written with one sentence.

    Args:
        path: What was asked for; the sentence names it.
        help: What would help.

    Raises:
        BadInput: In the place of an OSError, or of what a part of the output was answered with.
    """
    try:
        yield
    except OSError as error:
        raise not_writable(path, error.strerror or str(error), help=help) from error
    except BadInput as error:
        if error.code != NOT_WRITABLE:
            raise
        raise not_writable(path, help=help) from error


def not_writable(path: str | os.PathLike[str], why: str = "", *, help: str = _SPACE) -> BadInput:
    """What is answered when `path` cannot be written."""
    reason = f": {why}" if why else ""
    return BadInput(f"{os.fspath(path)} cannot be written{reason}.", help=help, code=NOT_WRITABLE)


def _short(name: str) -> str:
    """A name itself, or what of a long one is left with what tells it from others."""
    if len(name) <= _KEPT:
        return name
    return f"{name[: _KEPT - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _replace(temporary: Path, path: Path) -> None:
    """Rename; on Windows that fails for the moment in which somebody reads the old file."""
    for _attempt in range(_ATTEMPTS):
        try:
            os.replace(temporary, path)
            return
        except PermissionError:
            if os.name != "nt":
                raise
            time.sleep(_BETWEEN_ATTEMPTS_S)
    os.replace(temporary, path)
