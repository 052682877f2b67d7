"""Climbs from a transform to the next one of the most information."""

from __future__ import annotations

import math

import numpy as np

from e2enet.inference.localisation.descent import climb
from e2enet.inference.localisation.information import Affine, Information

_IDENTITY = np.eye(3)
_RADIUS = 45.0  # mm: at this distance from its centre a turn or a scale counts as a movement


def climb_similarity(
    information: Information, start: Affine, step: float, iterations: int
) -> tuple[float, Affine]:
    """Turn, scale and move.

    Args:
        information: What is to be as large as it can be.
        start: Where to begin.
        step: Length of the first step in mm.
        iterations: At most.

    Returns:
        The information in nats, -inf where there is none at the start, and the transform.
    """

    def moved(numbers: np.ndarray) -> Affine:
        turned = math.exp(numbers[3] / _RADIUS) * rotation(numbers[:3] / _RADIUS)
        return Affine(turned @ start.matrix, start.translation + numbers[4:], start.center)

    def function(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        affine = moved(numbers)
        value, by_matrix, by_translation = information(affine)
        # A further turn t changes the matrix by cross(t) matrix, a further scale s by s matrix.
        change = by_matrix @ affine.matrix.T
        turn = np.array(
            [change[2, 1] - change[1, 2], change[0, 2] - change[2, 0], change[1, 0] - change[0, 1]]
        )
        turn = _further(numbers[:3] / _RADIUS).T @ turn
        scale = np.trace(change)
        return value, np.array([*(turn / _RADIUS), scale / _RADIUS, *by_translation])

    value, numbers = climb(function, np.zeros(7), step=step, tolerance=0.05, iterations=iterations)
    return value, moved(numbers)


def climb_affine(
    information: Information, start: Affine, step: float, iterations: int
) -> tuple[float, Affine]:
    """Change all twelve numbers; as `climb_similarity`."""

    def moved(numbers: np.ndarray) -> Affine:
        matrix = start.matrix + numbers[:9].reshape(3, 3) / _RADIUS
        return Affine(matrix, start.translation + numbers[9:], start.center)

    def function(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        value, by_matrix, by_translation = information(moved(numbers))
        return value, np.concatenate([by_matrix.ravel() / _RADIUS, by_translation])

    value, numbers = climb(function, np.zeros(12), step=step, tolerance=0.02, iterations=iterations)
    return value, moved(numbers)


def rotation(vector: np.ndarray) -> np.ndarray:
    """About a vector (3,), by its length in rad: (3, 3), after Rodrigues."""
    angle, cross = _cross(vector)
    return _IDENTITY + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def _further(vector: np.ndarray) -> np.ndarray:
    """By what a rotation turns further where its vector grows: the left Jacobian of SO(3).

    Barfoot, State Estimation for Robotics (2017), section 7.1.
    """
    angle, cross = _cross(vector)
    if angle < 1e-6:
        return _IDENTITY + angle / 2 * cross
    share = math.sin(angle) / angle
    return _IDENTITY + (1 - math.cos(angle)) / angle * cross + (1 - share) * cross @ cross


def _cross(vector: np.ndarray) -> tuple[float, np.ndarray]:
    """Length of a vector, and the matrix of its direction's cross product."""
    x, y, z = vector.tolist()
    angle = math.sqrt(x * x + y * y + z * z)
    if angle > 0:
        x, y, z = x / angle, y / angle, z / angle
    return angle, np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
