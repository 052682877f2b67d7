"""What image files are called. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".png")


def image_stem(path: str | os.PathLike[str]) -> str:
    """The name of an image file without its ending, or of a folder.

    Example:
        >>> image_stem("scans/head.v2.nii.gz")
        'head.v2'
    """
    path = Path(path)
    for ending in IMAGE_ENDINGS:
        if path.name.lower().endswith(ending) and len(path.name) > len(ending):
            return path.name[: -len(ending)]
    # A folder may have dots in its name.
    return path.name if path.is_dir() or not path.stem else path.stem


def is_image_name(path: Path) -> bool:
    """Whether a file is an image by its name, and not a hidden or temporary one."""
    return path.name.lower().endswith(IMAGE_ENDINGS) and not path.name.startswith(".")
