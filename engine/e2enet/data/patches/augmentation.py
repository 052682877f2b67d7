"""nnU-Net's augmentation of a patch; the only place where MONAI is imported.

Rotation and scaling are one resampling straight from the case, so that no larger patch has to be
cut first and no corner comes out empty. Noise, blur, contrast and gamma are MONAI's transforms on
torch tensors, each with a random state of its own that is a function of the sample. Everything
runs on one thread: sums over a patch would otherwise depend on the number of threads in their last
bit.

Reference: Isensee et al., nnU-Net, Nature Methods 2021, supplementary note 4; probabilities and
ranges as in nnU-Net v2 (`nnUNetTrainer.get_training_transforms` with batchgeneratorsv2). What
differs, and why:

- Images are interpolated linearly, as batchgeneratorsv2 does; the nnU-Net of the paper used cubic
  splines, which take several times as long and overshoot at the edges of a padded patch.
- Rotations are rigid in mm, not in voxels: anatomy is not sheared where voxels are no cubes.
- A label voxel is the label with the largest interpolated share; batchgeneratorsv2 takes one with
  0.7 or more at once, which gives the same label.
- Rotation and scaling read the case itself, where nnU-Net reads a patch that it has cut before.
- Where the plan asks for `robustness`, that comes between geometry and intensities.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from e2enet.data.datasets.targets import Targets
from e2enet.data.patches.robustness import Robustness
from e2enet.data.patches.sampling import crop
from e2enet.data.planning.plan import ANISOTROPIC, Plan

ROTATION = math.radians(30)
ROTATION_IN_PLANE = math.radians(180)
SCALE = (0.7, 1.4)
P_ROTATION = 0.2
P_SCALE = 0.2
P_MIRROR = 0.5
# Of the whole patch, in the order in which they act.
PROBABILITIES = {
    "noise": 0.1,
    "blur": 0.2,
    "brightness": 0.15,
    "contrast": 0.15,
    "low_resolution": 0.25,
    "inverted_gamma": 0.1,
    "gamma": 0.3,
}
P_CHANNEL = 0.5  # of a channel, for blur and low resolution
NOISE_VARIANCE = (0.0, 0.1)
BLUR = (0.5, 1.0)  # voxels
BRIGHTNESS = (0.75, 1.25)
CONTRAST = (0.75, 1.25)
LOW_RESOLUTION = (0.5, 1.0)
GAMMA = (0.7, 1.5)


class Augmentation:
    """Cuts a patch out of a case and changes it at random.

    Args:
        plan: spacing, patch, mirror axes, left-right pairs and robustness.
        targets: what the numbers of the label maps mean; None where they are label values.

    Raises:
        BadInput: MONAI is not installed, or regions of two sides that cannot change places.
    """

    def __init__(self, plan: Plan, targets: Targets | None = None) -> None:
        self.spacing = np.asarray(plan.spacing)
        # With a flat patch only the plane is turned, scaled and coarsened, as nnU-Net does.
        self.in_plane = max(plan.patch) > ANISOTROPIC * plan.patch[0]
        self.plan = plan
        step = targets.step if targets else None
        self.robustness = (
            Robustness(plan.spacing, plan.robustness, step=step) if plan.robustness else None
        )
        pairs = plan.left_right_pairs
        self.partners = targets.swapped(pairs) if targets and pairs else both_ways(pairs)
        with monai_transforms():  # what it lacks is said before a training begins
            pass

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
            if self.robustness:
                x, y = self.robustness(x, y, rng)
            x = self.intensities(x, rng)
            return self.mirror(x, y, rng)

    def matrix(self, rng: np.random.Generator) -> np.ndarray | None:
        """(3, 3) from patch offsets to case offsets in voxels (D, H, W), or None for no change."""
        turn, zoom = rng.random() < P_ROTATION, rng.random() < P_SCALE
        if not turn and not zoom:
            return None
        matrix = np.eye(3)
        if turn:
            limit = ROTATION_IN_PLANE if self.in_plane else ROTATION
            angles = rng.uniform(-limit, limit, size=3)
            for axis in (0,) if self.in_plane else (0, 1, 2):
                matrix = matrix @ _rotation(axis, angles[axis])
            # Rotate in mm: voxels need not be cubes.
            matrix = matrix * self.spacing[None, :] / self.spacing[:, None]
        if zoom:
            factor = rng.uniform(*SCALE)
            matrix = matrix @ np.diag([1.0 if self.in_plane else factor, factor, factor])
        return matrix

    def intensities(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Noise, blur, brightness, contrast, low resolution, gamma on an image (C, D, H, W)."""
        chance = rng.random(len(PROBABILITIES))
        seeds = rng.integers(2**32, size=len(PROBABILITIES), dtype=np.uint64)
        for number, (name, probability) in enumerate(PROBABILITIES.items()):
            if chance[number] < probability:
                x = self.change(name, x, np.random.default_rng(int(seeds[number])))
        return x

    def change(self, name: str, x: Tensor, rng: np.random.Generator) -> Tensor:
        """One of `PROBABILITIES` on an image (C, D, H, W), each channel by itself."""
        with monai_transforms() as m:
            if name == "noise":  # the only one that all channels share, with its variance
                deviation = math.sqrt(rng.uniform(*NOISE_VARIANCE))
                noise = m.RandGaussianNoise(prob=1, std=deviation, sample_std=False)
                noise.set_random_state(seed=int(rng.integers(2**32)))
                return noise(x)  # type: ignore[no-any-return]
            parts = []
            for channel in x.split(1):
                if name in ("blur", "low_resolution") and rng.random() >= P_CHANNEL:
                    parts.append(channel)
                else:
                    parts.append(self._change_channel(m, name, channel, rng))
            return torch.cat(parts)

    def _change_channel(
        self, m: ModuleType, name: str, x: Tensor, rng: np.random.Generator
    ) -> Tensor:
        if name == "low_resolution":
            factor = rng.uniform(*LOW_RESOLUTION)
            return low_resolution(x, (1.0 if self.in_plane else factor, factor, factor))
        if name == "blur":
            sigma = rng.uniform(*BLUR, size=3)
            if x.shape[1] == 1:
                sigma[0] = 0.0  # the zeros around a single slice would darken it
            return m.GaussianSmooth(sigma=sigma.tolist())(x)  # type: ignore[no-any-return]
        if name == "brightness":
            factor = either_side(BRIGHTNESS, rng)
            return m.ScaleIntensity(minv=None, maxv=None, factor=factor - 1)(x)  # type: ignore[no-any-return]
        if name == "contrast":
            factor = either_side(CONTRAST, rng)
            transform = m.ScaleIntensityFixedMean(
                factor=factor - 1, fixed_mean=True, preserve_range=True
            )
            return transform(x)  # type: ignore[no-any-return]
        inverted = name == "inverted_gamma"
        gamma = either_side(GAMMA, rng)
        transform = m.AdjustContrast(gamma, invert_image=inverted, retain_stats=True)
        return transform(x)  # type: ignore[no-any-return]

    def mirror(self, x: Tensor, y: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Flip along the plan's axes; left and right labels change places where they must."""
        return mirror(x, y, self.plan, rng, self.partners)


def mirror(
    x: Tensor, y: Tensor, plan: Plan, rng: np.random.Generator, partners: Mapping[int, int]
) -> tuple[Tensor, Tensor]:
    """Flip image (C, D, H, W) and label (D, H, W) along each of the plan's axes, half of the time.

    Numbers change places with their partners where left and right do.
    """
    flips = [axis for axis in plan.mirror_axes if rng.random() < P_MIRROR]
    if flips:
        x = torch.flip(x, [axis + 1 for axis in flips])
        y = torch.flip(y, flips)
    if plan.left_right_axis in flips and plan.left_right_pairs:
        y = swap_labels(y, partners)
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


def either_side(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """Uniform below 1 half of the time and above 1 otherwise (nnU-Net's `BGContrast`)."""
    low, high = limits
    return float(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))


def low_resolution(x: Tensor, factors: Sequence[float]) -> Tensor:
    """An image (C, D, H, W) sampled to `factors` of its voxels and interpolated back.

    Down to the nearest voxel and up linearly, as batchgeneratorsv2 does.
    """
    size = [max(1, round(n * f)) for n, f in zip(x.shape[1:], factors, strict=True)]
    small = F.interpolate(x[None], size=size, mode="nearest-exact")
    return F.interpolate(small, size=x.shape[1:], mode="trilinear", align_corners=False)[0]


def both_ways(pairs: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Each value of each pair, and the other one."""
    return {**dict(pairs), **{right: left for left, right in pairs}}


def swap_labels(label: Tensor, partners: Mapping[int, int]) -> Tensor:
    """Each value becomes its partner; one without stays."""
    swapped = label.clone()
    for value, other in partners.items():
        swapped[label == value] = other
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
    with warnings.catch_warnings():
        # A single slice has no extent, so that its coordinate does not matter.
        warnings.filterwarnings("ignore", message=".*affine_grid behavior has changed")
        moved = torch.from_numpy(theta).float()[None]
        grid = F.affine_grid(moved, [1, 1, *patch], align_corners=True)
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


@contextlib.contextmanager
def monai_transforms() -> Iterator[ModuleType]:
    """MONAI's transforms on plain tensors, which take half the time of those with an affine.

    The switch is one for the whole of MONAI, so it is set back for whoever else uses it.

    Raises:
        BadInput: MONAI is not installed.
    """
    try:
        import monai.transforms as transforms
        from monai.data import get_track_meta, set_track_meta
    except ImportError as error:
        from e2enet.events import BadInput

        raise BadInput(
            "Training augments with MONAI, which is not installed.",
            help="pip install 'e2enet[train]'",
            code="needs-monai",
        ) from error
    tracked = get_track_meta()
    set_track_meta(False)
    try:
        yield transforms
    finally:
        set_track_meta(tracked)
