"""nnU-Net's augmentation of a patch; the only place where MONAI is imported.

Rotation and scaling are one resampling straight from the case, so that no larger patch has to be
cut first and no corner comes out empty. Noise, blur, contrast, low resolution and gamma are
MONAI's transforms on torch tensors, each with a random state of its own that is a function of the
sample. Everything runs on one thread: sums over a patch would otherwise depend on the number of
threads in their last bit.

Reference: Isensee et al., nnU-Net, Nature Methods 2021, supplementary note 4; probabilities and
ranges as in nnU-Net v2.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from e2enet.data.patches.sampling import crop
from e2enet.data.planning.plan import ANISOTROPIC, Plan

ROTATION = math.radians(30)
SCALE = (0.7, 1.4)
P_ROTATION = 0.2
P_SCALE = 0.2
P_MIRROR = 0.5


class Augmentation:
    """Cuts a patch out of a case and changes it at random.

    Args:
        plan: spacing (rotations are rigid in mm), mirror axes and left-right pairs.

    Raises:
        BadInput: MONAI is not installed.
    """

    def __init__(self, plan: Plan) -> None:
        self.spacing = np.asarray(plan.spacing)
        # With thick slices only the plane is turned, as nnU-Net does.
        self.in_plane = self.spacing[0] > ANISOTROPIC * self.spacing[1:].min()
        self.mirror_axes = plan.mirror_axes
        self.left_right_axis = plan.left_right_axis
        self.swap = plan.left_right_pairs
        _monai()

    def __call__(
        self,
        image: np.ndarray,
        label: np.ndarray,
        *,
        start: Sequence[int],
        patch: Sequence[int],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Image (C, D, H, W) and label (D, H, W) of the patch at `start` of a whole case."""
        with single_thread():
            matrix = self.matrix(rng)
            if matrix is None:
                x = torch.from_numpy(crop(image, start, patch))
                y = torch.from_numpy(crop(label, start, patch))
            else:
                x, y = resample(image, label, start=start, patch=patch, matrix=matrix)
            x = self.intensities(x, rng)
            return self.mirror(x, y, rng)

    def matrix(self, rng: np.random.Generator) -> np.ndarray | None:
        """(3, 3) from patch offsets to case offsets in voxels (D, H, W), or None for no change."""
        turn, zoom = rng.random() < P_ROTATION, rng.random() < P_SCALE
        if not turn and not zoom:
            return None
        matrix = np.eye(3)
        if turn:
            angles = rng.uniform(-ROTATION, ROTATION, size=3)
            for axis in (0,) if self.in_plane else (0, 1, 2):
                matrix = matrix @ _rotation(axis, angles[axis])
            # Rotate in mm: voxels need not be cubes.
            matrix = matrix * self.spacing[None, :] / self.spacing[:, None]
        if zoom:
            shrink = rng.random() < 0.5
            factor = rng.uniform(SCALE[0], 1) if shrink else rng.uniform(1, SCALE[1])
            matrix = matrix @ np.diag([1.0 if self.in_plane else factor, factor, factor])
        return matrix

    def intensities(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Noise, blur, brightness, contrast, low resolution, gamma on an image (C, D, H, W)."""
        m = _monai()
        chance = rng.random(7)
        seeds = rng.integers(2**32, size=7, dtype=np.uint64)

        def run(transform: object, number: int, x: Tensor) -> Tensor:
            transform.set_random_state(seed=int(seeds[number]))  # type: ignore[attr-defined]
            return transform(x)  # type: ignore[operator, no-any-return]

        def channels(transform: object, number: int, x: Tensor) -> Tensor:
            """Blur and low resolution hit each channel with probability a half."""
            hit = np.random.default_rng(int(seeds[number])).random(len(x)) < 0.5
            transform.set_random_state(seed=int(seeds[number]))  # type: ignore[attr-defined]
            parts = [transform(x[c : c + 1]) if hit[c] else x[c : c + 1] for c in range(len(x))]  # type: ignore[operator]
            return torch.cat(parts)

        if chance[0] < 0.1:
            # The variance is uniform in (0, 0.1); MONAI would draw the deviation uniformly.
            deviation = math.sqrt(np.random.default_rng(int(seeds[0])).uniform(0, 0.1))
            x = run(m.RandGaussianNoise(prob=1, std=deviation, sample_std=False), 0, x)
        if chance[1] < 0.2:
            sigma = (0.5, 1.0)
            flat = (0.0, 0.0) if self.in_plane else sigma
            x = channels(m.RandGaussianSmooth(flat, sigma, sigma, prob=1), 1, x)
        if chance[2] < 0.15:
            x = run(m.RandScaleIntensity((-0.25, 0.25), prob=1, channel_wise=True), 2, x)
        if chance[3] < 0.15:
            contrast = m.RandScaleIntensityFixedMean(
                prob=1, factors=(-0.25, 0.25), fixed_mean=True, preserve_range=True
            )
            x = run(contrast, 3, x)
        if chance[4] < 0.25:
            x = channels(m.RandSimulateLowResolution(prob=1, zoom_range=(0.5, 1.0)), 4, x)
        for number, probability, invert in ((5, 0.1, True), (6, 0.3, False)):
            if chance[number] < probability:
                gamma = m.RandAdjustContrast(
                    prob=1, gamma=(0.7, 1.5), invert_image=invert, retain_stats=True
                )
                x = run(gamma, number, x)
        return x

    def mirror(self, x: Tensor, y: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Flip along the plan's axes; left and right labels change places where they must."""
        flips = [axis for axis in self.mirror_axes if rng.random() < P_MIRROR]
        if flips:
            x = torch.flip(x, [axis + 1 for axis in flips])
            y = torch.flip(y, flips)
        if self.left_right_axis in flips and self.swap:
            y = swap_labels(y, self.swap)
        return x.contiguous(), y.contiguous()


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run torch on one thread, then on as many as before."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def swap_labels(label: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Exchange the two values of each pair."""
    swapped = label.clone()
    for left, right in pairs:
        swapped[label == left] = right
        swapped[label == right] = left
    return swapped


def resample(
    image: np.ndarray,
    label: np.ndarray,
    *,
    start: Sequence[int],
    patch: Sequence[int],
    matrix: np.ndarray,
) -> tuple[Tensor, Tensor]:
    """A patch under a linear map about its centre, read from a whole case in one resampling.

    Args:
        image: (C, D, H, W); linear interpolation, zeros outside.
        label: (D, H, W); the label with the largest interpolated share.
        start: first voxel (D, H, W) of the patch without the map.
        patch: (D, H, W).
        matrix: (3, 3) from offsets in the patch to offsets in the case, in voxels.
    """
    half = (np.asarray(patch) - 1) / 2
    centre = np.asarray(start) + half
    reach = np.abs(matrix) @ half
    low = np.floor(centre - reach).astype(int)
    size = np.ceil(centre + reach).astype(int) - low + 1
    box = (low.tolist(), size.tolist())
    # affine_grid works on x, y, z in -1 … 1: middle of the first voxel … middle of the last.
    scale = np.maximum(size - 1, 1)
    theta = np.empty((3, 4))
    theta[:, :3] = (matrix * (2 * half)[None, :] / scale[:, None])[::-1, ::-1]
    theta[:, 3] = (2 * (centre - low) / scale - 1)[::-1]
    grid = F.affine_grid(torch.from_numpy(theta).float()[None], [1, 1, *patch], align_corners=True)
    x = torch.from_numpy(crop(image, *box))[None].float()
    x = F.grid_sample(x, grid, align_corners=True)[0]
    classes = torch.from_numpy(crop(label, *box))
    values = torch.unique(classes).tolist()
    if values == [0]:
        return x, torch.zeros(tuple(patch), dtype=classes.dtype)
    # Outside the case is background: its share is what the others leave.
    values = [value for value in values if value]
    shares = torch.stack([classes == value for value in values]).float()[None]
    shares = F.grid_sample(shares, grid, align_corners=True)[0]
    share, winner = shares.max(dim=0)
    y = torch.tensor(values, dtype=classes.dtype)[winner]
    return x, torch.where(share > 1 - shares.sum(dim=0), y, torch.zeros_like(y))


def _rotation(axis: int, angle: float) -> np.ndarray:
    a, b = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = math.cos(angle)
    matrix[a, b], matrix[b, a] = -math.sin(angle), math.sin(angle)
    return matrix


def _monai():  # type: ignore[no-untyped-def]
    try:
        import monai.transforms as transforms
        from monai.data import set_track_meta
    except ImportError as error:
        from e2enet.events import BadInput

        raise BadInput(
            "Training augments with MONAI, which is not installed.",
            help="pip install 'e2enet[train]'",
            code="needs-monai",
        ) from error
    set_track_meta(False)  # plain tensors: the transforms take half the time
    return transforms
