"""Mutual information of a few thousand points and an image, and which way the points should move.

Mattes et al., "PET-CT image registration in the chest using free-form deformations", IEEE TMI 2003:
a point's bin is certain, an interpolated voxel's is spread by a cubic B-spline, so that the joint
histogram has a derivative. Sums run in a fixed order and without BLAS: whatever the number of
threads, they repeat to the last digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_PADDING = 2  # bins at either end that a B-spline reaches over
_LEAST_INSIDE = 0.25  # of the points


@dataclass(frozen=True)
class Affine:
    """x -> matrix (x - center) + center + translation, in mm (LPS)."""

    matrix: np.ndarray
    translation: np.ndarray
    center: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Where points (…, 3) go."""
        moved = np.einsum("ij,...j->...i", self.matrix, np.subtract(points, self.center))
        return moved + self.center + self.translation  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Field:
    """A scalar image: values (z, y, x), and index = matrix (position - origin), both x, y, z."""

    values: np.ndarray
    matrix: np.ndarray
    origin: np.ndarray


class Information:
    """Mutual information of points that have values with the image they are laid over.

    Args:
        points: (N, 3), mm.
        values: (N,).
        image: What they are laid over.
        bins: Of both axes of the histogram.
    """

    def __init__(self, points: np.ndarray, values: np.ndarray, image: Field, bins: int) -> None:
        self.center = points.mean(axis=0)
        self._image, self._bins = image, bins
        self._points = np.ascontiguousarray((points - self.center).T, np.float32)
        low, high = float(values.min()), float(values.max())
        if not low < high:
            raise RuntimeError("the template is constant")
        step = (high - low) / (bins - 2 * _PADDING)
        rows = ((values - low) / step).astype(np.intp) + _PADDING
        self._rows = np.minimum(rows, bins - _PADDING - 1) * bins
        self._low = float(image.values.min())
        self._step = (float(image.values.max()) - self._low) / (bins - 2 * _PADDING)
        if not self._step > 0:
            raise RuntimeError("the image is constant")
        d, h, w = image.values.shape
        self._voxels = np.ascontiguousarray(image.values, np.float32).ravel()
        self._last = np.array([[w - 1], [h - 1], [d - 1]], np.float32)
        self._corner = np.maximum(self._last - 1, 0).astype(np.intp)
        self._strides = np.array([[1], [w], [h * w]])
        x, y, z = int(w > 1), w * (h > 1), h * w * (d > 1)
        self._neighbours = np.add.outer([0, z], np.add.outer([0, y], [0, x])).reshape(8, 1)

    def __call__(self, affine: Affine) -> tuple[float, np.ndarray, np.ndarray]:
        """Information in nats, and its derivatives by the affine's matrix and translation.

        -inf where too few points lie in the image.
        """
        image, points = self._image, self._points
        matrix = (image.matrix @ affine.matrix).astype(np.float32)
        shift = image.matrix @ (affine.center + affine.translation - image.origin)
        shift = shift + image.matrix @ affine.matrix @ (self.center - affine.center)
        place = np.einsum("ij,jn->in", matrix, points)
        place += shift.astype(np.float32)[:, None]
        inside = ((place >= 0) & (place <= self._last)).all(axis=0)
        count = int(inside.sum())
        if count < _LEAST_INSIDE * inside.size:
            return -math.inf, np.zeros((3, 3)), np.zeros(3)
        if count < inside.size:
            np.clip(place, 0, self._last, out=place)
        corner = np.minimum(place.astype(np.intp), self._corner)
        place -= corner.astype(np.float32)
        corner *= self._strides
        first = corner[0] + corner[1] + corner[2]
        value, gradient = _trilinear(self._voxels.take(first + self._neighbours), place)

        bins = self._bins
        value -= self._low
        value *= 1 / self._step
        value += _PADDING
        first = np.minimum(value.astype(np.intp), bins - _PADDING - 1)
        weights, slopes = _spline((value - first).astype(np.float32))
        where = (self._rows + first - 1)[None] + np.arange(4)[:, None]
        weights *= inside
        joint = np.bincount(where.ravel(), weights.ravel(), bins * bins).reshape(bins, bins) / count
        rows, columns = joint.sum(axis=1), joint.sum(axis=0)
        used = joint > 1e-12
        log = np.zeros_like(joint)
        np.log(joint, where=used, out=log)
        by_column = log - np.log(np.maximum(columns, 1e-300))
        by_row = np.log(np.maximum(rows, 1e-300))[:, None]
        information = float((joint * (by_column - by_row))[used].sum())
        by_column[~used] = 0
        slopes *= by_column.ravel().take(where).astype(np.float32)
        pull = slopes.sum(axis=0)
        pull *= inside
        gradient *= pull
        scale = 1 / (self._step * count)
        out = image.matrix.T * scale
        by_matrix = out @ np.einsum("in,jn->ij", gradient, points)
        by_translation = out @ gradient.sum(axis=1, dtype=np.float64)
        # The affine turns about its own centre, the points are kept about theirs.
        by_matrix = by_matrix + np.outer(by_translation, self.center - affine.center)
        return information, by_matrix, by_translation


def _trilinear(cells: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (N,) and derivatives (3, N) by x, y, z at places (3, N) in cells (8, N)."""
    x, y, z = place
    along_x = cells[1::2] - cells[0::2]
    pairs = along_x * x
    pairs += cells[0::2]
    along_y = pairs[1::2] - pairs[0::2]
    ends = along_y * y
    ends += pairs[0::2]
    along_z = ends[1] - ends[0]
    gradient = np.empty_like(place)
    gradient[2] = along_z
    gradient[1] = along_y[0] + z * (along_y[1] - along_y[0])
    front = along_x[0::2] + y * (along_x[1::2] - along_x[0::2])
    gradient[0] = front[0] + z * (front[1] - front[0])
    along_z *= z
    along_z += ends[0]
    return along_z, gradient


def _spline(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cubic B-spline at -1 - t, -t, 1 - t and 2 - t: (4, N), and its derivatives by t."""
    s = 1 - t
    t2, s2 = t * t, s * s
    weights = np.empty((4, t.size), np.float32)
    weights[0] = s2 * s / 6
    weights[1] = 2 / 3 - t2 * (1 - t / 2)
    weights[2] = 2 / 3 - s2 * (1 - s / 2)
    weights[3] = t2 * t / 6
    slopes = np.empty_like(weights)
    slopes[0] = s2 * -0.5
    slopes[1] = t * (1.5 * t - 2)
    slopes[2] = s * (2 - 1.5 * s)
    slopes[3] = t2 * 0.5
    return weights, slopes
