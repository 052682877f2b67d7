"""Distances between the surfaces of two structures, in mm.

A surface is the voxels of a structure that have a face in common with a voxel outside of it
(voxel boundary, each counting once, as in MONAI and in the CHAOS challenge). Whether the edge of
the image counts as outside differs between tools, so it is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk


@dataclass(frozen=True)
class SurfaceDistances:
    """Distance of each surface voxel to the nearest one of the other surface, in mm.

    Args:
        to_reference: of the prediction's surface voxels.
        to_prediction: of the reference's surface voxels.
    """

    to_reference: np.ndarray
    to_prediction: np.ndarray

    @property
    def largest(self) -> float:
        """The largest distance of both directions: Hausdorff's."""
        return float(max(self.to_reference.max(), self.to_prediction.max()))

    def percentile(self, q: float) -> float:
        """The larger of both directions' percentiles (interpolated linearly)."""
        return float(max(np.percentile(self.to_reference, q), np.percentile(self.to_prediction, q)))

    @property
    def pooled_mean(self) -> float:
        """Mean over the surface voxels of both: the larger surface weighs more."""
        total = self.to_reference.sum() + self.to_prediction.sum()
        return float(total / (self.to_reference.size + self.to_prediction.size))

    @property
    def mean_of_means(self) -> float:
        """Mean of both directions' means: both surfaces weigh the same."""
        return float(self.to_reference.mean() + self.to_prediction.mean()) / 2

    def within(self, tolerance: float) -> float:
        """Share of the surface voxels of both that are at most `tolerance` mm away."""
        near = np.count_nonzero(self.to_reference <= tolerance)
        near += np.count_nonzero(self.to_prediction <= tolerance)
        return float(near / (self.to_reference.size + self.to_prediction.size))


def surface(mask: np.ndarray, *, edge: bool) -> np.ndarray:
    """The voxels of a structure that have a face in common with its outside.

    Args:
        mask: (D, H, W) bool. An axis of length 1 has no outside: a single image has outlines.
        edge: whether what lies beyond the array is outside.
    """
    inner = mask.copy()
    for axis in range(mask.ndim):
        here, there = _along(axis, slice(1, None)), _along(axis, slice(None, -1))
        inner[here] &= mask[there]
        inner[there] &= mask[here]
        if edge and mask.shape[axis] > 1:
            inner[_along(axis, slice(0, 1))] = False
            inner[_along(axis, slice(-1, None))] = False
    return mask & ~inner


def surface_distances(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float], *, edge: bool
) -> SurfaceDistances | None:
    """Distances between two structures' surfaces.

    Args:
        prediction, reference: (D, H, W) bool of one shape.
        spacing: (D, H, W) in mm.
        edge: as `surface`.

    Returns:
        None where one has no surface: it is empty or, without `edge`, fills the array.
    """
    ours, theirs = surface(prediction, edge=edge), surface(reference, edge=edge)
    if not ours.any() or not theirs.any():
        return None
    # One map at a time: each takes four bytes a voxel.
    to_reference = _distance_map(theirs, spacing)[ours]
    to_prediction = _distance_map(ours, spacing)[theirs]
    # Without the noise of single precision: 2 mm are within a tolerance of 2 mm.
    return SurfaceDistances(
        *(np.round(found.astype(np.float64), 5) for found in (to_reference, to_prediction))
    )


def _distance_map(surface: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    # The filter is exact (Maurer et al., IEEE TPAMI 2003), but measures to the border of what it is
    # given. Within the margin a surface is nothing but border.
    image = sitk.GetImageFromArray(np.pad(surface, 1).astype(np.uint8))
    image.SetSpacing([float(v) for v in reversed(spacing)])
    distance = sitk.SignedMaurerDistanceMap(
        image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )
    inside = (slice(1, -1),) * surface.ndim
    return np.abs(sitk.GetArrayViewFromImage(distance)[inside])


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (*[slice(None)] * axis, part)
