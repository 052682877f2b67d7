"""One process a folder: a lock that the system takes away from a process that dies."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from e2enet.events import BadInput

LOCK, _USERS = "lock", ".users"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_held: set[Path] = set()  # the system's lock is the process's: a second one in it has to look here


@contextmanager
def locked(folder: Path, work: str = "training") -> Iterator[None]:
    """Keep every other process that works on the same out of a folder.

    The file `lock` stays behind and means nothing by itself: what counts is the system's lock on
    it, which ends with the process however that ends. It is not inherited by worker processes.

    Args:
        folder: exists.
        work: what is under way in it, for the sentence.

    Raises:
        BadInput: somebody works there already, named by process and computer; or the folder cannot
            be written.
    """
    path = Path(os.path.realpath(folder)) / LOCK
    if path in _held:
        raise _in_use(folder, "this process", work)
    try:
        stream = path.open("a+b")
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be written: {error.strerror or error}.",
            code="output-not-writable",
        ) from error
    with stream:
        try:
            _take(stream)
        except OSError as error:
            if error.errno in _NO_LOCKS:  # some network folders: better without than not at all
                yield
                return
            stream.seek(0)
            who = stream.read(200).decode("utf-8", "replace").strip()
            raise _in_use(folder, who, work) from error
        _held.add(path)
        try:
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
            stream.flush()
            yield
        finally:
            _held.discard(path)


@contextmanager
def used(folder: Path) -> Iterator[None]:
    """Say that this process reads a folder, as others may, until the block ends."""
    own = folder / _USERS / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        own.mkdir(parents=True)
    except OSError:  # a folder that nobody may write to is deleted by nobody either
        yield
        return
    try:
        with locked(own):
            yield
    finally:
        shutil.rmtree(own, ignore_errors=True)


def is_used(folder: Path) -> bool:
    """Whether a process says so (`used`); one that was killed does not count."""
    return any(in_use(user) for user in (folder / _USERS).glob("*"))


def in_use(folder: Path) -> bool:
    """Whether a process works in a folder; nothing is changed there."""
    path = Path(os.path.realpath(folder)) / LOCK
    if path in _held:
        return True
    try:
        stream = path.open("r+b")
    except OSError:  # there is none yet, or it is somebody else's to write
        return False
    with stream:
        try:
            _take(stream)  # given back as the file is closed
        except OSError as error:
            return error.errno not in _NO_LOCKS
    return False


def _take(stream: IO[bytes]) -> None:
    """Raises OSError when another process has it. Closing the file gives it back."""
    if sys.platform == "win32":
        import msvcrt

        stream.seek(1 << 20)  # a locked byte cannot be read, and the name before it shall be
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _in_use(folder: Path, who: str, work: str) -> BadInput:
    return BadInput(
        f"The {work} in {folder} is under way already, by {who or 'another process'}.",
        help="Wait until it ends, or stop it first.",
        code="run-in-use",
    )
