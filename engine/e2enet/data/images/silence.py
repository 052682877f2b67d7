"""Keeps the image libraries quiet: they print warnings of no use to a person."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

import SimpleITK as sitk

sitk.ProcessObject.SetGlobalWarningDisplay(False)
_lock = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the image libraries' own prints on stderr from a person (they print in C)."""
    with _lock:
        try:
            sys.stderr.flush()
            saved = os.dup(2)
        except (OSError, ValueError, AttributeError):
            yield
            return
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(sink)
