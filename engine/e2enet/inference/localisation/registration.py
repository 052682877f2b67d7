"""Lays a template over an image: an affine registration that needs no help.

Mutual information is measured on the template's own voxels only. What lies around them does not
count: a template without a skull must not stretch itself to the outline of a head that has one. The
price is a smaller capture range, so the search starts from many rotations, scales and places, and
what it finds is tried again a little smaller. A few thousand points at 4 mm decide; all that is
done at an image's full resolution is to average it.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from e2enet.data.axes import three
from e2enet.data.images.volume import Grid, Volume
from e2enet.events import Reporter
from e2enet.inference.localisation.climbing import climb_affine, climb_similarity, rotation
from e2enet.inference.localisation.information import Affine, Field, Information

_WORKING_SPACING = 2.0  # mm; finer images are averaged down to it, and bright fat is cut there
_SPACING = 4.0  # mm, of the image and the template that are compared
_BLUR = 2  # times that both are smoothed to see what is far away
_ANGLES = (-0.35, 0.0, 0.35)  # rad, about 20 degrees
_SCALES = (0.75, 0.87, 1.0, 1.15)
_SHIFTS = (-20.0, 0.0, 20.0)  # mm, towards the feet and the crown
_KEPT = 3  # starts of each scale, with different rotations
_GOING_ON = (4, 3)  # of them after a few steps, by what is sharp and by what is blurred
_FINALISTS = 3
_SMALLER = (0.8, 0.9)  # scales at which the best is tried again, should a skull have stretched it
_APART = 6.0  # mm: what lies nearer everywhere is the same
_TISSUE = 0.03  # of the range of intensities: what differs more from the background is tissue
_BRIGHTEST = 2.0  # median distances of tissue from the background that still count
_BINS = 16  # of the histograms that choose the starts


class Template:
    """A template's own voxels as points and values: what is the same for every image.

    Args:
        volume: 0 is what does not belong to the structure.
    """

    def __init__(self, volume: Volume) -> None:
        self.blurred = _template_points(volume, every=2, blur=_BLUR)
        self.few = _template_points(volume, every=2)
        self.all = _template_points(volume)
        self.finest = _template_points(volume, spacing=_WORKING_SPACING, every=2)


class Registration:
    """Registers a template with an image.

    1. Score a lattice of rotations, scales and places on a thousand points.
    2. Climb from the best by a similarity transform, a few steps with blurred images and as many
       with sharp ones, and with sharp ones from the best of both.
    3. Climb from the best of these by an affine transform, on more points, and at last at 2 mm.

    The same images give the same transform to the last digit.

    Args:
        template: What is laid over the image.
        image: Any scalar 3D image.

    Raises:
        RuntimeError: The image is constant.
    """

    def __init__(self, template: Template, image: Volume) -> None:
        working, self._foreground = _working_image(image)
        thin = _thin(working, _SPACING)
        blurred, sharp = _field(_smooth(thin, _BLUR)), _field(thin)
        few, values = template.blurred
        self._blurred = Information(few[::2], values[::2], blurred, 24)
        self._lattice = few[::4], _binned(values[::4]), blurred
        few, values = template.few
        self.center = few.mean(axis=0)
        self._sharp = Information(few[::2], values[::2], sharp, 24)
        self._sharper = Information(few, values, sharp, 24)
        points, values = template.all
        self._fine = Information(points[::4], values[::4], sharp, 32)
        self._score = Information(points, values, sharp, 32)
        points, values = template.finest
        self._finest = Information(points[::3], values[::3], _field(working), 32)

    def run(self, reporter: Reporter) -> tuple[Affine, float]:
        """The transform from template to image, and its mutual information at 4 mm in nats.

        Raises:
            RuntimeError: Nothing was found.
        """
        steps = 5
        reporter.progress("locate", 0, steps)
        starts = self._best_starts()
        reporter.progress("locate", 1, steps)
        going_on = []
        for information, most in zip((self._sharp, self._blurred), _GOING_ON, strict=True):
            found = [climb_similarity(information, start, 4.0, 6) for start in starts]
            going_on += _distinct(found, most)
        reporter.progress("locate", 2, steps)
        found = [climb_similarity(self._sharper, start, 2.0, 12) for _, start in going_on]
        found = _distinct(found, _FINALISTS)
        reporter.progress("locate", 3, steps)
        best = found[0][1]
        for scale in _SMALLER:
            smaller = Affine(scale * best.matrix, best.translation, best.center)
            found.append(climb_similarity(self._sharper, smaller, 4.0, 20))
        reporter.progress("locate", 4, steps)
        finalists = _distinct(found, _FINALISTS)
        found = [climb_affine(self._fine, start, 2.0, 20) for _, start in finalists]
        value, affine = max(found, key=lambda pair: pair[0])
        if not math.isfinite(value):
            raise RuntimeError("no start stayed on the image")
        score = self._score(affine)[0]
        finest = climb_affine(self._finest, affine, 1.0, 25)
        affine = finest[1] if math.isfinite(finest[0]) else affine
        reporter.progress("locate", steps, steps)
        return affine, score

    def _best_starts(self) -> list[Affine]:
        """The best rotations and places of each scale.

        Every scale has its own: a head's outline would else draw all starts to its size.
        """
        points, wanted, image = self._lattice
        points = points - self.center
        given = _binned(image.values).ravel()
        d, h, w = image.values.shape
        last = np.array([w - 1, h - 1, d - 1])
        strides = np.array([1, w, h * w])
        places = [
            np.add(point, (0.0, 0.0, shift))
            for point, shift in itertools.product(_starting_points(self._foreground), _SHIFTS)
        ]
        moves = [(scale, place) for scale in _SCALES for place in places]
        scales = np.array([scale for scale, _ in moves])
        centers = np.array([image.matrix @ (place - image.origin) for _, place in moves])
        scored = []
        for angles in itertools.product(_ANGLES, repeat=3):
            turn = _turned(angles)
            rotated = np.einsum("ij,nj->ni", image.matrix @ turn, points)
            index = rotated * scales[:, None, None] + centers[:, None]
            index = np.clip(np.rint(index), 0, last).astype(np.intp)
            flat = np.einsum("mnk,k->mn", index, strides)
            joint = wanted * _BINS + given[flat] + np.arange(len(moves))[:, None] * _BINS**2
            counts = np.bincount(joint.ravel(), minlength=len(moves) * _BINS**2)
            scores = _mutual_informations(counts.reshape(len(moves), _BINS, _BINS))
            for score, (scale, place) in zip(scores, moves, strict=True):
                scored.append((score, angles, scale, turn, place))
        best: dict[tuple[float, ...], Affine] = {}
        left = dict.fromkeys(_SCALES, _KEPT)
        for _, angles, scale, turn, place in sorted(scored, key=lambda entry: -entry[0]):
            key = (scale, *angles)
            if key in best or not left[scale]:
                continue
            best[key] = Affine(turn * scale, place - self.center, self.center)
            left[scale] -= 1
        return list(best.values())


def _distinct(found: list[tuple[float, Affine]], most: int) -> list[tuple[float, Affine]]:
    """The best ones, without those that lie where a better one does."""
    corners = np.array(list(itertools.product((-60.0, 60.0), repeat=3)))
    kept: list[tuple[float, Affine]] = []
    for value, affine in sorted(found, key=lambda pair: -pair[0]):
        there = affine(corners + affine.center)
        if all(
            np.linalg.norm(there - other(corners + other.center), axis=1).max() > _APART
            for _, other in kept
        ):
            kept.append((value, affine))
    return kept[:most]


def _turned(angles: tuple[float, ...]) -> np.ndarray:
    """About the x axis, the y axis, the z axis."""
    x, y, z = (rotation(np.eye(3)[k] * angle) for k, angle in enumerate(angles))
    return z @ x @ y


def _binned(values: np.ndarray) -> np.ndarray:
    """Values as bin numbers between their extremes."""
    low, high = float(values.min()), float(values.max())
    if not low < high:
        raise RuntimeError("the image is constant")
    return np.minimum((values - low) * (_BINS / (high - low)), _BINS - 1).astype(np.intp)


def _mutual_informations(counts: np.ndarray) -> np.ndarray:
    """Mutual information of each histogram (…, B, B), in nats."""
    joint = counts / counts.sum(axis=(-1, -2), keepdims=True)
    apart = joint.sum(axis=-1, keepdims=True) * joint.sum(axis=-2, keepdims=True)
    used = joint > 0
    ratio = np.divide(joint, apart, where=used, out=np.ones_like(joint))
    return (joint * np.log(ratio)).sum(axis=(-1, -2))  # type: ignore[no-any-return]


def _field(volume: Volume) -> Field:
    grid = volume.grid
    matrix = np.linalg.inv(np.reshape(grid.direction, (3, 3)) * np.asarray(grid.spacing_xyz))
    return Field(volume.array, matrix, np.asarray(grid.origin_xyz))


def _positions(index: np.ndarray, grid: Grid) -> np.ndarray:
    """Positions (N, 3) in mm (LPS) of voxels (N, 3) given as z, y, x."""
    matrix = np.reshape(grid.direction, (3, 3)) * np.asarray(grid.spacing_xyz)
    moved = np.einsum("ij,nj->ni", matrix, index[:, ::-1])
    return moved + np.asarray(grid.origin_xyz)  # type: ignore[no-any-return]


def _template_points(
    template: Volume, *, spacing: float = _SPACING, every: int = 1, blur: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (N, 3) and values (N,) of a template's own voxels, thinned and smoothed."""
    thin = _thin(template, spacing)
    own = _thin(Volume((template.array > 0).astype(np.float32), template.grid), spacing)
    chosen = np.zeros(own.array.shape, bool)
    some = (slice(None, None, every),) * 3
    chosen[some] = own.array[some] >= 0.5
    return _positions(np.argwhere(chosen), thin.grid), _smooth(thin, blur).array[chosen]


def _thin(volume: Volume, spacing: float) -> Volume:
    """The means of blocks of voxels, as many as come nearest to a spacing from below."""
    grid = volume.grid
    factors = [
        min(max(1, int(spacing / s + 0.01)), n)
        for s, n in zip(grid.spacing_zyx, grid.shape, strict=True)
    ]
    array = volume.array
    if max(factors) == 1:
        return volume
    for axis, factor in enumerate(factors):
        if factor > 1:
            end = array.shape[axis] // factor * factor
            # Slices are added several times as fast as numpy reduces short blocks.
            first, second, *others = (
                array[(slice(None),) * axis + (slice(k, end, factor),)] for k in range(factor)
            )
            array = np.add(first, second, dtype=np.float32)
            for other in others:
                array += other
            array /= factor
    middle = (np.array(factors[::-1]) - 1) / 2
    matrix = np.reshape(grid.direction, (3, 3)) * np.asarray(grid.spacing_xyz)
    return Volume(
        array,
        Grid(
            three(reversed(array.shape)),
            three(s * f for s, f in zip(grid.spacing_xyz, factors[::-1], strict=True)),
            three(float(v) for v in matrix @ middle + np.asarray(grid.origin_xyz)),
            grid.direction,
        ),
        volume.name,
    )


def _smooth(volume: Volume, times: int) -> Volume:
    """A quarter, a half, a quarter along each axis, several times."""
    array: np.ndarray = volume.array.astype(np.float32)
    for axis in (0, 1, 2) * times:
        padded = np.pad(array, [(int(k == axis),) * 2 for k in range(3)], "edge")
        before, after = (
            padded[(slice(None),) * axis + (part,)] for part in (slice(0, -2), slice(2, None))
        )
        array = (before + 2 * array + after) / 4
    return Volume(array, volume.grid, volume.name)


def _working_image(image: Volume) -> tuple[Volume, np.ndarray]:
    """The image at about 2 mm without extreme values, and positions (N, 3) of its foreground.

    The foreground is what differs from the image's border, so that an inverted image has one too.
    Fat is several times as bright as a brain in many T1 scans, and would leave the brain only two
    or three bins of a histogram: what is more than twice as far from the background as the median
    tissue is as good as that.
    """
    image = _thin(image, _WORKING_SPACING)
    array = image.array
    some = np.ascontiguousarray(array[::2, ::2, ::2] if min(array.shape) > 1 else array)
    low, high = (float(v) for v in np.percentile(some, (0.1, 99.8)))
    if not low < high:
        raise RuntimeError("the image is constant")
    border = np.concatenate([np.take(array, (0, -1), axis=k).ravel() for k in range(3)])
    background = min(max(float(np.median(border)), low), high)
    tissue = some[np.abs(some - background) > _TISSUE * (high - low)]
    reach = _BRIGHTEST * float(np.median(np.abs(tissue - background))) if tissue.size else 0.0
    if reach > 0:
        low, high = max(low, background - reach), min(high, background + reach)
    image = Volume(np.clip(array, low, high), image.grid, image.name)
    rough = _thin(image, 2 * _SPACING)
    distance = np.abs(rough.array - background)
    inside = np.argwhere(distance > _otsu(distance))
    if not len(inside):
        raise RuntimeError("the image is constant")
    return image, _positions(inside, rough.grid)


def _otsu(values: np.ndarray) -> float:
    """The threshold between two classes (Otsu, IEEE Transactions on SMC 1979)."""
    counts, edges = np.histogram(values, 128)
    middles = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()
    sums = (counts * middles).cumsum()
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + int(np.nanargmax(apart[:-1]))])


def _starting_points(points: np.ndarray) -> list[np.ndarray]:
    """Guesses where the template's centre lies: the foreground's centre, and below the crown.

    With the neck and shoulders in view, the centre of mass is far below the brain; the crown is
    where it belongs. The guess leaves 75 mm between crown and centre.
    """
    middle = points.mean(axis=0)
    crown = float(np.percentile(points[:, 2], 99.9))
    upper = points[points[:, 2] > crown - 130.0].mean(axis=0)
    starts = [middle, np.array([upper[0], upper[1], crown - 75.0])]
    return starts[:1] if np.linalg.norm(starts[0] - starts[1]) < 10.0 else starts
