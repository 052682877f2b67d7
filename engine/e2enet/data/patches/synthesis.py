"""Images made of label maps, another one for every sample: no contrast is like the last.

After Billot et al., SynthSeg, Medical Image Analysis 2023, with the ranges of its released code:
the map is deformed, every tissue gets a Gaussian, then come skull-stripping, a bias field, gamma,
resolution and slice thickness, and left-right flips with sided labels swapped. What differs: only
the patch is made, at the plan's spacing, and resolution is simulated by one matrix an axis
(`e2enet.data.patches.robustness.acquisition`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from e2enet.data.datasets.tissues import Tissues
from e2enet.data.patches.augmentation import both_ways, mirror, single_thread
from e2enet.data.patches.robustness import acquisition, along, gaussian, smooth_field
from e2enet.data.patches.sampling import crop
from e2enet.data.planning.plan import Plan

SCALE, ROTATION, SHEAR = 0.2, math.radians(15), 0.012
DISPLACEMENT_MM = 4.0  # largest standard deviation
DISPLACEMENT_KNOTS = 0.04  # of the size, an axis
MEAN, STD = (0.0, 250.0), (0.0, 35.0)  # of a tissue's Gaussian
P_BACKGROUND = 0.5  # that what lies outside the head has a Gaussian too, instead of 0
P_STRIP = 0.3
BIAS_STD, BIAS_KNOTS = 0.7, 0.025
GAMMA_STD = 0.4  # of the logarithm of the exponent
ISOTROPIC_MM, SLICE_MM = 4.0, 8.0  # coarsest
P_ISOTROPIC = 0.5
BLUR = 0.5  # voxels, of every image


class Synthesis:
    """Cuts a patch out of a label map and makes an image of it.

    Args:
        plan: spacing, mirror axes and left-right pairs.
        tissues: what the maps' values mean.
    """

    def __init__(self, plan: Plan, tissues: Tissues) -> None:
        self.plan = plan
        self.partners = both_ways(plan.left_right_pairs)
        self.spacing = np.asarray(plan.spacing)
        self.tissue = torch.from_numpy(tissues.table(tissues.tissue))
        self.structure = torch.from_numpy(tissues.table(tissues.structure))

    def __call__(
        self,
        image: np.ndarray,
        label: np.ndarray,
        *,
        start: Sequence[int],
        patch: Sequence[int],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Image (1, D, H, W) float32 and label (D, H, W) of a patch.

        Args:
            image: (1, D, H, W), the map's values as numbers.
            label: not needed: it follows from the values.
            start, patch: as `e2enet.data.patches.augmentation.Augmentation`.
            rng: of the sample.
        """
        with single_thread():
            values = self.deform(image, start, patch, rng)
            y = self.structure[values]
            x = self.paint(values, y, rng)
            x = self.scan(x, rng)
            return mirror(x[None], y.to(torch.uint8), self.plan, rng, self.partners)

    def deform(
        self,
        image: np.ndarray,
        start: Sequence[int],
        patch: Sequence[int],
        rng: np.random.Generator,
    ) -> Tensor:
        """The values (D, H, W) under a random affine map and a smooth displacement; nearest."""
        size = np.asarray(patch)
        middle = np.asarray(start) + (size - 1) / 2
        matrix = _affine(rng) * self.spacing[None] / self.spacing[:, None]
        axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch]
        offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        at = offsets @ torch.from_numpy(matrix.T).float()
        strength = rng.uniform(0, DISPLACEMENT_MM)
        knots = max(2, round(DISPLACEMENT_KNOTS * max(patch)))
        for axis in range(3):
            field = smooth_field(patch, rng, knots=knots) * strength
            at[..., axis] += field / self.spacing[axis]
        # Only the part of the map that is read is taken from the disk.
        at = at + torch.from_numpy(middle).float()
        low = at.amin(dim=(0, 1, 2)).floor().int().tolist()
        high = at.amax(dim=(0, 1, 2)).ceil().int().tolist()
        box = [b - a + 1 for a, b in zip(low, high, strict=True)]
        part = torch.from_numpy(crop(image, low, box)).float()
        scale = torch.tensor([max(1, n - 1) for n in box])
        grid = (2 * (at - torch.tensor(low)) / scale - 1).flip(-1)[None]
        moved = F.grid_sample(part[None], grid, mode="nearest", align_corners=True)
        return moved[0, 0].round().long()

    def paint(self, values: Tensor, structure: Tensor, rng: np.random.Generator) -> Tensor:
        """An image (D, H, W) in which each tissue has a Gaussian of its own."""
        count = int(self.tissue.max()) + 1
        means = torch.from_numpy(rng.uniform(*MEAN, count)).float()
        stds = torch.from_numpy(rng.uniform(*STD, count)).float()
        if rng.random() >= P_BACKGROUND:
            means[self.tissue[0]] = stds[self.tissue[0]] = 0
        tissue = self.tissue[values]
        noise = torch.from_numpy(rng.standard_normal(tuple(values.shape), dtype=np.float32))
        x = (means[tissue] + stds[tissue] * noise).clamp(min=0)
        if rng.random() < P_STRIP:
            x = torch.where(structure > 0, x, torch.zeros_like(x))
        return x

    def scan(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Bias field, gamma, resolution, and mean 0 and standard deviation 1: (D, H, W)."""
        knots = max(2, math.ceil(BIAS_KNOTS * max(x.shape)))
        x = x * (smooth_field(x.shape, rng, knots=knots) * rng.uniform(0, BIAS_STD)).exp()
        top = x.max().clamp(min=1e-6)
        x = (x / top) ** math.exp(rng.normal(0, GAMMA_STD))
        x = along(x[None], self.resolution(tuple(x.shape), rng))[0]
        return (x - x.mean()) / x.std().clamp(min=1e-6)

    def resolution(self, shape: tuple[int, ...], rng: np.random.Generator) -> dict[int, Tensor]:
        """A matrix an axis: blurred everywhere, and coarse on all axes or thick on one."""
        finest = float(self.spacing.min())
        if rng.random() < P_ISOTROPIC:
            sizes = [rng.uniform(finest, max(finest, ISOTROPIC_MM))] * 3
        else:
            sizes = list(self.spacing)
            axis = int(rng.integers(3))
            sizes[axis] = rng.uniform(self.spacing[axis], max(self.spacing[axis], SLICE_MM))
        matrices = {}
        for axis, (n, size) in enumerate(zip(shape, sizes, strict=True)):
            distance = size / self.spacing[axis]
            matrices[axis] = gaussian(n, BLUR)
            if distance > 1:
                width = distance * rng.uniform(0.5, 1)
                coarse = acquisition(
                    n, distance=distance, width=width, offset=rng.random(), nearest=False
                )
                matrices[axis] = coarse @ matrices[axis]
        return matrices


def _affine(rng: np.random.Generator) -> np.ndarray:
    """(3, 3): scale, shear and rotation in mm."""
    matrix = np.diag(rng.uniform(1 - SCALE, 1 + SCALE, 3))
    shear = np.eye(3) + rng.uniform(-SHEAR, SHEAR, (3, 3)) * (1 - np.eye(3))
    matrix = shear @ matrix
    for axis, angle in enumerate(rng.uniform(-ROTATION, ROTATION, 3)):
        a, b = [k for k in range(3) if k != axis]
        rotation = np.eye(3)
        rotation[a, a] = rotation[b, b] = math.cos(angle)
        rotation[a, b], rotation[b, a] = -math.sin(angle), math.sin(angle)
        matrix = rotation @ matrix
    return matrix
