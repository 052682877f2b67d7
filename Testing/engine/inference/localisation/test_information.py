"""Mutual information against its definition, its derivatives against small steps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from e2enet.inference.localisation.information import Affine, Field, Information

BINS = 12


def spline(t: float) -> float:
    """The cubic B-spline."""
    t = abs(t)
    if t < 1:
        return 2 / 3 - t * t + t**3 / 2
    return (2 - t) ** 3 / 6 if t < 2 else 0.0


def defined(information: Information, points, values, image: Field, affine: Affine) -> float:
    """Point by point and bin by bin, in double precision."""
    joint = np.zeros((BINS, BINS))
    low, high = image.values.min(), image.values.max()
    for point, value in zip(points, values, strict=True):
        x, y, z = image.matrix @ (affine(point) - image.origin)
        sizes = image.values.shape
        if not all(0 <= v <= n - 1 for v, n in zip((z, y, x), sizes, strict=True)):
            continue
        found = 0.0
        for dz, dy, dx in np.ndindex(2, 2, 2):
            at = [math.floor(z) + dz, math.floor(y) + dy, math.floor(x) + dx]
            weight = (1 - abs(z - at[0])) * (1 - abs(y - at[1])) * (1 - abs(x - at[2]))
            if weight > 0:
                found += weight * image.values[tuple(at)]
        row = int((value - values.min()) / (values.max() - values.min()) * (BINS - 4)) + 2
        place = (found - low) / (high - low) * (BINS - 4) + 2
        for column in range(BINS):
            joint[min(row, BINS - 3), column] += spline(column - place)
    joint /= joint.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    used = joint > 0
    return float((joint[used] * np.log(joint[used] / apart[used])).sum())


@pytest.fixture(scope="module")
def scene() -> tuple[Information, np.ndarray, np.ndarray, Field, Affine]:
    """A smooth image, an oblique grid, and points of which some miss it."""
    random = np.random.default_rng(2)
    z, y, x = np.indices((9, 11, 10)) / 3.0
    image = np.sin(x + 0.3 * y) + np.cos(y - 0.5 * z) + 0.2 * z
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    field = Field(image.astype(np.float32), np.linalg.inv(turn * (1.0, 1.5, 2.0)), np.ones(3))
    points = np.einsum("ij,nj->ni", turn * (1.0, 1.5, 2.0), random.uniform(0, 9, (400, 3)))
    values = random.normal(size=400) + points[:, 0]
    matrix = np.eye(3) + random.normal(0, 0.03, (3, 3))
    affine = Affine(matrix, np.array([0.5, 0.8, 1.3]), points.mean(axis=0) + 2.0)
    return Information(points, values, field, BINS), points, values, field, affine


def test_is_what_the_definition_says(scene) -> None:
    information, points, values, field, affine = scene
    assert information(affine)[0] == pytest.approx(
        defined(information, points, values, field, affine), abs=1e-5
    )


def test_the_derivatives_are_those_of_small_steps(scene) -> None:
    """Where no point crosses the image's border, which is a jump."""
    _, points, values, field, affine = scene
    places = np.einsum("ij,nj->ni", field.matrix, affine(points) - field.origin)
    inside = ((places > 0.2) & (places < np.array(field.values.shape[::-1]) - 1.2)).all(axis=1)
    assert 50 < inside.sum() < 400
    information = Information(points[inside], values[inside], field, BINS)
    _, by_matrix, by_translation = information(affine)
    step = 1e-3
    for place in np.ndindex(3, 3):
        nudge = np.zeros((3, 3))
        nudge[place] = step / 5
        ahead, behind = (
            information(replace(affine, matrix=affine.matrix + sign * nudge))[0] for sign in (1, -1)
        )
        assert (ahead - behind) / (0.4 * step) == pytest.approx(
            by_matrix[place], abs=0.05 * np.abs(by_matrix).max()
        )
    for axis in range(3):
        nudge = np.eye(3)[axis] * step
        ahead, behind = (
            information(replace(affine, translation=affine.translation + sign * nudge))[0]
            for sign in (1, -1)
        )
        assert (ahead - behind) / (2 * step) == pytest.approx(
            by_translation[axis], abs=0.05 * np.abs(by_translation).max()
        )


def test_far_away_there_is_nothing(scene) -> None:
    information, *_, affine = scene
    far = replace(affine, translation=np.full(3, 500.0))
    assert information(far)[0] == -math.inf


def test_refuses_what_is_constant(scene) -> None:
    _, points, values, field, _ = scene
    with pytest.raises(RuntimeError, match="template"):
        Information(points, np.ones_like(values), field, BINS)
    with pytest.raises(RuntimeError, match="image"):
        Information(points, values, replace(field, values=np.ones_like(field.values)), BINS)
