"""Changes that make a patch look like a scan from another hospital.

nnU-Net's recipe was tuned where training and test scans come from the same sites. Here a patch is
changed further, as an acquisition would: another contrast, a bias field, a brain that was stripped
of its skull, outliers, thick slices with or without gaps, coarser pixels, blur, noise, a smaller
field of view. All distances are in mm. Mean and standard deviation of each channel stay those of
the patch, up to a small change, because normalisation would have removed any difference.

After the simulation of resolution and contrast by Billot et al. (SynthSeg, Medical Image Analysis
2023), and the stacked transforms of Zhang et al. (IEEE TMI 2020), applied to real images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Share of the samples that an effect falls on at level 1, in the order in which they act.
PROBABILITIES = {
    "contrast": 0.4,
    "bias": 0.4,
    "strip": 0.15,
    "outliers": 0.15,
    "slices": 0.4,
    "pixels": 0.25,
    "blur": 0.15,
    "noise": 0.2,
    "field_of_view": 0.1,
}
CONTRAST_STD = 0.8  # of the logarithm of a contrast map's slope
CONTRAST_KNOTS = 6
BIAS_STD = (0.05, 0.3)  # of the logarithm of the bias field
BIAS_KNOTS = 4  # an axis
SLICE_MM = (2.0, 6.0)  # distance between slices
GAP = 0.5  # the thinnest slice as a share of that distance
PIXEL_MM = (1.2, 2.5)
BLUR_MM = (0.5, 1.5)  # standard deviation
NOISE_STD = (0.05, 0.3)  # in standard deviations of the image
OUTLIER_STD = (4.0, 10.0)  # above the mean, in standard deviations
OUTLIER_MM = (1.0, 5.0)  # radius
STRIP_MM = (2.0, 15.0)  # from the labels to the surface of what is left
CUT = 0.25  # most of an axis that a smaller field of view loses
MEAN_STD, LOG_SCALE_STD = 0.1, 0.1  # change of mean and deviation at the end


class Robustness:
    """Changes an image and its label at random as another scanner would have.

    Args:
        spacing: (D, H, W) in mm.
        level: 0 never … 1; the share of `PROBABILITIES` that is used.
        step: of the numbers in the label maps (`e2enet.data.datasets.targets.Targets`), None
            where they are label values: multiples of it are background.
    """

    def __init__(self, spacing: Sequence[float], level: float, *, step: int | None = None) -> None:
        self.step = step
        self.spacing = tuple(float(v) for v in spacing)
        self.level = level
        self.effects: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
            "contrast": self.contrast,
            "bias": self.bias,
            "strip": self.strip,
            "outliers": self.outliers,
            "slices": self.slices,
            "pixels": self.pixels,
            "blur": self.blur,
            "noise": self.noise,
            "field_of_view": self.field_of_view,
        }

    def __call__(self, x: Tensor, y: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Image (C, D, H, W) float32, normalised, 0 outside of the case; label (D, H, W)."""
        chance = rng.random(len(PROBABILITIES))
        drawn = [
            name
            for share, (name, p) in zip(chance, PROBABILITIES.items(), strict=True)
            if share < p * self.level
        ]
        if not drawn:
            return x, y
        inside = (x != 0).any(dim=0)
        if not inside.any():
            return x, y
        before = _statistics(x, inside)
        for name in drawn:
            x, y = self.effects[name](x, y, inside, rng)
        return _with_statistics(x, inside & (x != 0).any(dim=0), before, rng), y

    def _labelled(self, y: Tensor) -> Tensor:
        return y > 0 if self.step is None else y % self.step > 0

    def contrast(
        self, x: Tensor, y: Tensor, inside: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """A smooth monotonous map of the intensities, another for each channel."""
        return torch.stack([_mapped(channel, inside, rng) for channel in x]), y

    def bias(
        self, x: Tensor, y: Tensor, inside: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """A smooth factor exp(field), above the darkest tissue."""
        field = smooth_field(y.shape, rng, knots=BIAS_KNOTS) * rng.uniform(*BIAS_STD)
        floor = _floor(x, inside)
        return (x - floor) * field.exp() + floor, y

    def strip(
        self, x: Tensor, y: Tensor, inside: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Everything beyond a wavy surface, some mm off the labels, gets the darkest value."""
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        height = sum(
            torch.arange(n, dtype=torch.float32)
            .mul(s * u)
            .reshape([-1 if k == a else 1 for k in range(3)])
            for a, (n, s, u) in enumerate(zip(y.shape, self.spacing, direction, strict=True))
        )
        assert isinstance(height, Tensor)
        height = height + 2.0 * smooth_field(y.shape, rng, knots=6)
        shown = height[self._labelled(y) & inside]
        top = float(shown.max()) if len(shown) else float(height[inside].mean())
        gone = (height > top + rng.uniform(*STRIP_MM)) & inside
        return torch.where(gone, _floor(x, inside), x), y

    def outliers(
        self, x: Tensor, y: Tensor, inside: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """One to three balls outside of the labels, bright (vessels, fat) or dark (CSF, metal)."""
        outside = ~self._labelled(y)
        free = torch.nonzero(inside & outside)
        if not len(free):
            return x, y
        (mean, std), floor = _statistics(x, inside), _floor(x, inside)
        grids = torch.meshgrid(
            *(torch.arange(n) * s for n, s in zip(y.shape, self.spacing, strict=True)),
            indexing="ij",
        )
        for _ in range(int(rng.integers(1, 4))):
            at = free[int(rng.integers(len(free)))]
            squared = sum(
                (grid - float(k) * s) ** 2
                for grid, k, s in zip(grids, at, self.spacing, strict=True)
            )
            ball = (squared < rng.uniform(*OUTLIER_MM) ** 2) & inside & outside
            bright = mean + std * rng.uniform(*OUTLIER_STD)
            x = torch.where(ball, bright if rng.random() < 0.5 else floor, x)
        return x, y

    def slices(
        self, x: Tensor, y: Tensor, inside: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Thick slices along one axis, half of the time with gaps, and back to the grid.

        Back by interpolation or, as preprocessing does with slices that are more than three times
        as far apart as pixels, by the nearest slice.
        """
        axes = [axis for axis in range(3) if 1.5 * self.spacing[axis] < SLICE_MM[1]]
        if not axes:
            return x, y
        axis = axes[int(rng.integers(len(axes)))]
        distance = rng.uniform(max(SLICE_MM[0], 1.5 * self.spacing[axis]), SLICE_MM[1])
        width = distance * (rng.uniform(GAP, 1) if rng.random() < 0.5 else 1)
        matrix = acquisition(
            x.shape[1 + axis],
            distance=distance / self.spacing[axis],
            width=width / self.spacing[axis],
            offset=rng.random(),
            nearest=rng.random() < 0.5,
        )
        return along(x, {axis: matrix}), y

    def pixels(
        self, x: Tensor, y: Tensor, inside: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Larger pixels in one of the three planes."""
        through, size = int(rng.integers(3)), rng.uniform(*PIXEL_MM)
        matrices = {
            axis: acquisition(
                x.shape[1 + axis],
                distance=size / self.spacing[axis],
                width=size / self.spacing[axis],
                offset=rng.random(),
                nearest=False,
            )
            for axis in range(3)
            if axis != through and size > self.spacing[axis]
        }
        return along(x, matrices), y

    def blur(
        self, x: Tensor, y: Tensor, inside: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """A Gaussian of another width along each axis."""
        sizes = [
            (n, rng.uniform(*BLUR_MM) / s) for n, s in zip(x.shape[1:], self.spacing, strict=True)
        ]
        return along(x, {axis: gaussian(n, sigma) for axis, (n, sigma) in enumerate(sizes)}), y

    def noise(
        self, x: Tensor, y: Tensor, inside: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """White Gaussian noise."""
        _, std = _statistics(x, inside)
        noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
        return torch.where(inside, x + noise * std * rng.uniform(*NOISE_STD), x), y

    def field_of_view(
        self, x: Tensor, y: Tensor, inside: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """The image ends earlier at one side; what lay beyond is no longer in image or label."""
        axis, share = int(rng.integers(3)), rng.uniform(0, CUT)
        occupied = torch.nonzero(inside.any(dim=[k for k in range(3) if k != axis]))[:, 0]
        first, last = int(occupied[0]), int(occupied[-1])
        lost = int(share * (last - first + 1))
        low, high = (first, first + lost) if rng.random() < 0.5 else (last + 1 - lost, last + 1)
        x, y = x.clone(), y.clone()
        x.narrow(1 + axis, low, high - low).zero_()
        y.narrow(axis, low, high - low).zero_()
        return x, y


def smooth_field(shape: Sequence[int], rng: np.random.Generator, *, knots: int) -> Tensor:
    """Standard normal values on a grid of `knots` an axis, interpolated to `shape` (D, H, W)."""
    values = torch.from_numpy(rng.standard_normal((1, 1, knots, knots, knots), dtype=np.float32))
    return F.interpolate(values, size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]


def acquisition(n: int, *, distance: float, width: float, offset: float, nearest: bool) -> Tensor:
    """What a stack of slices, put back onto n voxels, makes of a line: an (n, n) matrix.

    Args:
        n: voxels along the axis.
        distance: between the centres of slices, in voxels.
        width: of a slice, a box profile, in voxels.
        offset: of the first slice, 0 … 1 distances from the border.
        nearest: a voxel takes the nearest slice instead of interpolating between two.
    """
    count = int(np.ceil(n / distance)) + 1
    centres = (np.arange(count) + offset - 0.5) * distance
    centres = centres[(centres > -0.5) & (centres < n - 0.5)]
    if len(centres) < 2:
        return torch.eye(n)
    edges = np.arange(n + 1) - 0.5
    reach = np.clip(edges[None], (centres - width / 2)[:, None], (centres + width / 2)[:, None])
    profile = np.maximum(np.diff(reach, axis=1), 0)
    profile /= profile.sum(axis=1, keepdims=True)
    at = np.clip((np.arange(n) - centres[0]) / (centres[1] - centres[0]), 0, len(centres) - 1)
    if nearest:
        at = np.floor(at + 0.5)
    left = np.minimum(at.astype(int), len(centres) - 2)
    weight = (at - left)[:, None]
    return torch.from_numpy(profile[left] * (1 - weight) + profile[left + 1] * weight).float()


def gaussian(n: int, sigma: float) -> Tensor:
    """Blurring of n voxels by a Gaussian of `sigma` voxels, cut at the borders: (n, n)."""
    at = np.arange(n)
    weights = np.exp(-((at[:, None] - at[None]) ** 2) / (2 * sigma**2))
    return torch.from_numpy(weights / weights.sum(axis=1, keepdims=True)).float()


def along(x: Tensor, matrices: dict[int, Tensor]) -> Tensor:
    """Apply an (n, n) matrix along each named axis (0 = D, 1 = H, 2 = W) of (C, D, H, W)."""
    if 0 in matrices:
        x = torch.matmul(matrices[0], x.flatten(2)).view(x.shape)
    if 1 in matrices:
        x = torch.matmul(matrices[1], x)
    if 2 in matrices:
        x = torch.matmul(x, matrices[2].T)
    return x


def _mapped(x: Tensor, inside: Tensor, rng: np.random.Generator) -> Tensor:
    values = x.numpy()
    low, high = np.quantile(values[inside.numpy()][::7], (0.005, 0.995))
    if high <= low:
        return x
    # Slopes change smoothly from knot to knot, so the map is smooth too.
    fine = np.linspace(0, 1, 64)
    knots = rng.normal(0, CONTRAST_STD, CONTRAST_KNOTS)
    slopes = np.exp(np.interp(fine, np.linspace(0, 1, CONTRAST_KNOTS), knots))
    curve = np.concatenate([[0], np.cumsum((slopes[1:] + slopes[:-1]) / 2)])
    curve *= (high - low) / curve[-1]
    step = (high - low) / 63
    # Straight on beyond the curve's ends, with the slope that it has there.
    at = np.concatenate([[low - 1e3 * step], low + fine * (high - low), [high + 1e3 * step]])
    ends = 1e3 * (curve[1] - curve[0]), 1e3 * (curve[-1] - curve[-2])
    to = np.concatenate([[low - ends[0]], low + curve, [high + ends[1]]])
    return torch.where(inside, torch.from_numpy(np.interp(values, at, to).astype(np.float32)), x)


def _statistics(x: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation inside, each (C, 1, 1, 1)."""
    values = x[:, inside]
    return (
        values.mean(dim=1).reshape(-1, 1, 1, 1),
        values.std(dim=1, correction=0).reshape(-1, 1, 1, 1),
    )


def _floor(x: Tensor, inside: Tensor) -> Tensor:
    """The darkest value inside, but for outliers: (C, 1, 1, 1)."""
    values = x[:, inside][:, ::7]
    return torch.quantile(values[:, : 1 << 20], 0.005, dim=1).reshape(-1, 1, 1, 1)


def _with_statistics(
    x: Tensor, inside: Tensor, wanted: tuple[Tensor, Tensor], rng: np.random.Generator
) -> Tensor:
    """Mean and deviation as `wanted`, up to a small random change; 0 where it is not inside."""
    shift, stretch = rng.normal(0, MEAN_STD), np.exp(rng.normal(0, LOG_SCALE_STD))
    if not inside.any():
        return torch.zeros_like(x)
    mean, std = _statistics(x, inside)
    scale = torch.where(std > 1e-6, wanted[1] / std.clamp(min=1e-6), torch.ones_like(std))
    x = (x - mean) * scale * float(stretch) + wanted[0] + wanted[1] * float(shift)
    return torch.where(inside, x, torch.zeros_like(x))
