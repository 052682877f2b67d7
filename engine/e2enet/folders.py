"""Where a user's own files lie. Standard library only."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def user_folder() -> Path:
    """What a person keeps here, such as models that were installed."""
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "e2enet"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "e2enet"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "e2enet"


def cache_folder() -> Path:
    """What can be made again: kernels, preprocessed cases, unpacked models.

    $E2ENET_CACHE, or the user's cache folder.
    """
    home = Path.home()
    if given := os.environ.get("E2ENET_CACHE"):
        return Path(given)
    if sys.platform == "win32":
        return user_folder() / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "e2enet"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "e2enet"
