"""Connected components: what a network labels away from the structure it was asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk


def keep_largest(labels: np.ndarray, values: Sequence[int] | None = None) -> int:
    """Set every voxel outside the largest connected part to 0, in place.

    Voxels are connected when they share a corner.

    Args:
        labels: (z, y, x) whole numbers, 0 for background; may be a view.
        values: those of the structure to clean. None takes all labels as one foreground: parts of
            a structure touch each other.

    Returns:
        Number of voxels that were set to 0.
    """
    foreground = (labels > 0 if values is None else np.isin(labels, values)).astype(np.uint8)
    parts = sitk.ConnectedComponent(sitk.GetImageFromArray(foreground), True)
    largest_first = sitk.GetArrayFromImage(sitk.RelabelComponent(parts))
    smaller = largest_first > 1
    labels[smaller] = 0
    return int(smaller.sum())
