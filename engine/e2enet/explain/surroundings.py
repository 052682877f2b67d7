"""Where an explanation is read: in what the model found, and a little around it.

Far from every structure the maps say nothing of the segmentation, and at the border of a crop they
show the zeros that convolutions put there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from e2enet.inference.localisation.regions import Slices

MARGIN_MM = 6.0


def surroundings(
    label_map: np.ndarray, spacing_zyx: Sequence[float], *, margin: float = MARGIN_MM
) -> np.ndarray | None:
    """The voxels of all structures and those within a distance of them.

    Args:
        label_map: (z, y, x), 0 is background.
        spacing_zyx: In mm.
        margin: In mm, between voxel centres.

    Returns:
        (z, y, x) bool, or None where nothing was found.
    """
    found = bounds(label_map != 0)
    if found is None:
        return None
    around = tuple(
        slice(max(0, part.start - reach), min(size, part.stop + reach))
        for part, size, reach in zip(
            found, label_map.shape, [int(margin / s) for s in spacing_zyx], strict=True
        )
    )
    # SimpleITK measures from a surface, and at the image's edge there is none: one voxel more.
    inside = np.pad(label_map[around] != 0, 1).astype(np.uint8)
    image = sitk.GetImageFromArray(inside)
    image.SetSpacing([float(s) for s in reversed(spacing_zyx)])
    distance = sitk.GetArrayFromImage(
        sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    )
    near = np.zeros(label_map.shape, bool)
    near[around] = distance[1:-1, 1:-1, 1:-1] <= margin + 1e-4
    return near


def bounds(mask: np.ndarray) -> Slices | None:
    """The smallest box around all voxels of a mask (z, y, x), or None where it has none."""
    sides = []
    for axis in range(3):
        places = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        if not places.size:
            return None
        sides.append(slice(int(places[0]), int(places[-1]) + 1))
    return sides[0], sides[1], sides[2]
