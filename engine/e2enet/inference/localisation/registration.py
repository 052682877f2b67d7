"""Lays a template over an image: an affine registration that needs no help.

Mutual information (Mattes et al., "PET-CT image registration in the chest using free-form
deformations", IEEE TMI 2003) is measured on the template's own voxels only. What lies around them
does not count: a template without a skull must not stretch itself to the outline of a head that
has one. The price is a smaller capture range, so the search starts from many rotations, scales and
places. SimpleITK registers; the choice of the starts is ours.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk

from e2enet.data.axes import three
from e2enet.events import Reporter

_WORKING_SPACING = 2.0  # mm; finer images are averaged down to it
_ANGLES = (-0.35, 0.0, 0.35)  # rad, about 20 degrees
_SCALES = (0.75, 0.87, 1.0, 1.15)
_SHIFTS = (-20.0, 0.0, 20.0)  # mm, towards the feet and the crown
_KEPT = 3  # starts of each scale, with different rotations
_FINALISTS = 3
_TISSUE = 0.03  # of the range of intensities: what differs more from the background is tissue
_BRIGHTEST = 2.0  # median distances of tissue from the background that still count
_BINS = 16  # of the histograms that choose the starts


class Registration:
    """Registers a template (fixed) with an image (moving), coarse to fine.

    1. Score a lattice of rotations, scales and places on a few thousand points.
    2. Refine the best by a similarity transform at 8 mm, the best of these by an affine one at
       4 mm.
    3. Finish the winner at 2 mm on a seeded sample of the voxels.

    The same images give the same transform to the last digit.

    Args:
        template: 0 is what does not belong to the structure.
        image: Any scalar 3D image.

    Raises:
        RuntimeError: The image is constant.
    """

    def __init__(self, template: sitk.Image, image: sitk.Image) -> None:
        self.template = sitk.Cast(template, sitk.sitkFloat32)
        self.mask = template > 0
        self.moving, foreground = _working_image(image)
        self.starts = _starting_points(foreground)
        self.center = tuple(float(v) for v in _points(self.mask).mean(axis=0))
        self._levels: dict[int, tuple[sitk.Image, sitk.Image, sitk.Image]] = {}

    def run(self, reporter: Reporter) -> tuple[sitk.AffineTransform, float]:
        """The transform from template to image, and its mutual information at 4 mm in nats.

        Raises:
            RuntimeError: Nothing was found.
        """
        with _one_thread():
            return self._run(reporter)

    def _run(self, reporter: Reporter) -> tuple[sitk.AffineTransform, float]:
        starts = self._best_starts()
        steps = len(starts) + 3
        reporter.progress("locate", 1, steps)
        candidates = []
        for done, transform in enumerate(starts, 2):
            value = self._refine(transform, shrink=4, step=4.0, iterations=60)
            candidates.append((value, transform))
            reporter.progress("locate", done, steps)
        candidates.sort(key=lambda pair: pair[0])
        finalists = []
        for _, similarity in candidates[:_FINALISTS]:
            affine = sitk.AffineTransform(3)
            affine.SetCenter(similarity.GetCenter())
            affine.SetMatrix(similarity.GetMatrix())
            affine.SetTranslation(similarity.GetTranslation())
            finalists.append((self._refine(affine, shrink=2, step=2.0, iterations=80), affine))
        reporter.progress("locate", steps - 1, steps)
        value, affine = min(finalists, key=lambda pair: pair[0])
        if not math.isfinite(value):
            raise RuntimeError("no start stayed on the image")
        finest = sitk.AffineTransform(affine)
        if math.isfinite(self._refine(finest, shrink=1, step=0.5, iterations=30, share=0.15)):
            affine = finest
        reporter.progress("locate", steps, steps)
        return affine, -value

    def _refine(
        self,
        transform: sitk.Transform,
        *,
        shrink: int,
        step: float,
        iterations: int,
        share: float = 1.0,
    ) -> float:
        """Optimise a transform in place; the metric it reaches (smaller is better)."""
        fixed, moving, mask = self._level(shrink)
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)
        method.SetMetricAsMattesMutualInformation(24 if shrink > 2 else 32)
        method.SetMetricFixedMask(mask)
        method.SetInterpolator(sitk.sitkLinear)
        if share < 1.0:
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentage(share, seed=20231204)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=step,
            minStep=0.02 * step,
            numberOfIterations=iterations,
            relaxationFactor=0.6,
            gradientMagnitudeTolerance=1e-6,
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(transform, inPlace=True)
        try:
            method.Execute(fixed, moving)
        except RuntimeError:  # wandered out of the image
            return math.inf
        return method.GetMetricValue()

    def _level(self, shrink: int) -> tuple[sitk.Image, sitk.Image, sitk.Image]:
        """Template, image and mask smoothed and thinned for one resolution."""
        if shrink not in self._levels:
            fixed, moving, mask = self.template, self.moving, self.mask
            if shrink > 1:
                sigma = 0.5 * _WORKING_SPACING * shrink
                fixed = sitk.Shrink(sitk.SmoothingRecursiveGaussian(fixed, sigma), [shrink] * 3)
                moving = sitk.SmoothingRecursiveGaussian(moving, sigma)
                factors = [
                    max(1, min(int(sigma / s), n // 4))
                    for s, n in zip(moving.GetSpacing(), moving.GetSize(), strict=True)
                ]
                moving = sitk.Shrink(moving, factors)
                mask = sitk.Resample(mask, fixed, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
            self._levels[shrink] = (fixed, moving, mask)
        return self._levels[shrink]

    def _best_starts(self) -> list[sitk.Similarity3DTransform]:
        """The best rotations and places of each scale.

        Every scale has its own: a head's outline would else draw all starts to its size.
        """
        fixed, moving, mask = self._level(4)
        points = _points(mask) - self.center
        wanted = _binned(sitk.GetArrayFromImage(fixed)[sitk.GetArrayFromImage(mask) > 0])
        given = _binned(sitk.GetArrayFromImage(moving))
        to_index = np.linalg.inv(
            np.reshape(moving.GetDirection(), (3, 3)) * np.asarray(moving.GetSpacing())
        )
        last = np.asarray(moving.GetSize()) - 1
        scored = []
        for angles in itertools.product(_ANGLES, repeat=3):
            rotation = sitk.Euler3DTransform()
            rotation.SetRotation(*angles)
            rotated = points @ np.reshape(rotation.GetMatrix(), (3, 3)).T @ to_index.T
            for scale, point, shift in itertools.product(_SCALES, self.starts, _SHIFTS):
                target = np.add(point, (0.0, 0.0, shift))
                index = rotated * scale + to_index @ (target - np.asarray(moving.GetOrigin()))
                x, y, z = np.clip(np.rint(index), 0, last).astype(int).T
                score = _mutual_information(wanted, given[z, y, x])
                scored.append((score, angles, scale, rotation, target))
        best: dict[tuple[float, ...], sitk.Similarity3DTransform] = {}
        left = dict.fromkeys(_SCALES, _KEPT)
        for _, angles, scale, rotation, target in sorted(scored, key=lambda entry: -entry[0]):
            key = (scale, *angles)
            if key in best or not left[scale]:
                continue
            transform = sitk.Similarity3DTransform()
            transform.SetCenter(self.center)
            transform.SetMatrix((np.asarray(rotation.GetMatrix()) * scale).tolist())
            transform.SetTranslation((target - self.center).tolist())
            best[key] = transform
            left[scale] -= 1
        return list(best.values())


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in a fixed order, so that a result repeats to the last digit.

    A filter's own number of threads does not reach the filters it makes inside; the default does.
    """
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _binned(values: np.ndarray) -> np.ndarray:
    """Values as bin numbers between their extremes."""
    low, high = float(values.min()), float(values.max())
    if not low < high:
        raise RuntimeError("the image is constant")
    return np.minimum((values - low) * (_BINS / (high - low)), _BINS - 1).astype(np.intp)


def _mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """Mutual information of two lists of bin numbers, in nats."""
    joint = np.bincount(first * _BINS + second, minlength=_BINS**2).reshape(_BINS, _BINS)
    joint = joint / joint.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    used = joint > 0
    return float((joint[used] * np.log(joint[used] / apart[used])).sum())


def _points(mask: sitk.Image) -> np.ndarray:
    """Positions of a mask's voxels in array order: (N, 3), LPS, mm."""
    index = np.argwhere(sitk.GetArrayViewFromImage(mask))[:, ::-1]
    matrix = np.reshape(mask.GetDirection(), (3, 3)) * np.asarray(mask.GetSpacing())
    return index @ matrix.T + np.asarray(mask.GetOrigin())


def _working_image(image: sitk.Image) -> tuple[sitk.Image, sitk.Image]:
    """The image at about 2 mm without extreme values, and its foreground mask.

    The foreground is what differs from the image's border, so that an inverted image has one too.
    Fat is several times as bright as a brain in many T1 scans, and would leave the brain only two
    or three bins of a histogram: what is more than twice as far from the background as the median
    tissue is as good as that.
    """
    image = sitk.Cast(image, sitk.sitkFloat32)
    factors = [max(1, int(_WORKING_SPACING / s + 0.01)) for s in image.GetSpacing()]
    factors = [min(f, n) for f, n in zip(factors, image.GetSize(), strict=True)]
    if max(factors) > 1:
        image = sitk.BinShrink(image, factors)
    array = sitk.GetArrayViewFromImage(image)
    low, high = (float(v) for v in np.percentile(array, (0.1, 99.8)))
    if not low < high:
        raise RuntimeError("the image is constant")
    border = np.concatenate([np.take(array, (0, -1), axis=k).ravel() for k in range(3)])
    background = min(max(float(np.median(border)), low), high)
    tissue = array[np.abs(array - background) > _TISSUE * (high - low)]
    reach = _BRIGHTEST * float(np.median(np.abs(tissue - background))) if tissue.size else 0.0
    if reach > 0:
        low, high = max(low, background - reach), min(high, background + reach)
    image = sitk.Clamp(image, lowerBound=low, upperBound=high)
    return image, sitk.OtsuThreshold(sitk.Abs(image - background), 0, 1, 128)


def _starting_points(foreground: sitk.Image) -> list[tuple[float, float, float]]:
    """Guesses where the template's centre lies: the foreground's centre, and below the crown.

    With the neck and shoulders in view, the centre of mass is far below the brain; the crown is
    where it belongs. The guess leaves 75 mm between crown and centre.
    """
    points = _points(foreground)
    middle = points.mean(axis=0)
    crown = float(np.percentile(points[:, 2], 99.9))
    upper = points[points[:, 2] > crown - 130.0].mean(axis=0)
    starts = [middle, np.array([upper[0], upper[1], crown - 75.0])]
    if np.linalg.norm(starts[0] - starts[1]) < 10.0:
        starts = starts[:1]
    return [three(float(v) for v in start) for start in starts]
