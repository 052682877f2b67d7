"""Leaving out what surrounds the patient: the crop to the nonzero region.

nnU-Net crops to voxels that are not zero. Images that were normalised before they were stored
have another value there (BraTS), so here the background of a channel is the value that all eight
corners share, and 0 where they do not share one. Only whole slices of background are cut off.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from e2enet.data.axes import three

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def background_of(array: np.ndarray) -> float:
    """The value of a channel (z, y, x) outside of the patient."""
    corners = array[:: max(1, array.shape[0] - 1), :: max(1, array.shape[1] - 1)]
    corners = corners[..., :: max(1, array.shape[2] - 1)]
    first = float(corners.flat[0])
    return first if bool((corners == first).all()) else 0.0


def occupied(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Where any channel (z, y, x) differs from its background: (z, y, x) bool."""
    result = arrays[0] != background_of(arrays[0])
    for array in arrays[1:]:
        result |= array != background_of(array)
    return result


def bounding_box(mask: np.ndarray) -> Box:
    """The smallest box that holds a mask (z, y, x): (start, stop) for each axis.

    The whole volume where the mask is empty.
    """
    box = []
    for axis in range(3):
        hits = np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis)))
        box.append((int(hits[0]), int(hits[-1]) + 1) if hits.size else (0, mask.shape[axis]))
    return three(box)


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """A mask with its enclosed holes filled, bool."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(mask, np.uint8))
    return sitk.GetArrayFromImage(sitk.BinaryFillhole(image)).astype(bool)
