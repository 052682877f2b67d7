"""Label maps made in code, written with SimpleITK itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk


def write(path: Path, array: np.ndarray, spacing_zyx: Sequence[float] = (1, 1, 1)) -> Path:
    """A label map file; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.asarray(array, np.uint8))
    image.SetSpacing([float(v) for v in reversed(spacing_zyx)])
    sitk.WriteImage(image, os.fspath(path))
    return path


def box(shape: Sequence[int], *limits: tuple[int, int]) -> np.ndarray:
    """True from the first to before the second of each axis' limits."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*pair) for pair in limits)] = True
    return mask


def ball(shape: Sequence[int], spacing: Sequence[float], centre_mm, radius_mm) -> np.ndarray:
    """An ellipsoid; centre and radius a value an axis, in mm."""
    axes = np.meshgrid(
        *(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij"
    )
    radii = np.broadcast_to(radius_mm, 3)
    return sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre_mm, radii, strict=True)) <= 1
