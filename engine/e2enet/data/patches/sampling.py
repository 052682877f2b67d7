"""Training patches: which case, where, and how each draw depends on nothing but its number.

Reference: Isensee et al., nnU-Net, Nature Methods 2021, methods, "Patch sampling".
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from e2enet.data.preprocessing.store import PreprocessedCase
from e2enet.events import BadInput

Triple = tuple[int, int, int]
# (epoch, iteration in the epoch, sample in the batch)
Key = tuple[int, int, int]

FOREGROUND_SHARE = 0.33
TRAINING, VALIDATION = 0, 1


class Augment(Protocol):
    """What a sampler asks of an augmentation (`e2enet.data.patches.augmentation.Augmentation`)."""

    def __call__(
        self,
        image: np.ndarray,
        label: np.ndarray,
        *,
        start: Sequence[int],
        patch: Sequence[int],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Cut, and change, the patch that begins at `start` in a whole case."""


def random_state(seed: int, key: Key, *, stream: int = TRAINING) -> np.random.Generator:
    """The random state of one sample: a function of (seed, stream, epoch, iteration, sample)."""
    return np.random.default_rng(np.random.SeedSequence((seed, stream, *key)))


def crop(array: np.ndarray, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """A box of (…, D, H, W) that may reach over the border, where zeros are.

    Args:
        array: (…, D, H, W), perhaps mapped from disk; only the box is read.
        start: first voxel (D, H, W), may be negative.
        size: (D, H, W).

    Returns:
        A new array (…, *size).
    """
    spatial = array.shape[-3:]
    low = [max(0, s) for s in start]
    high = [min(n, s + k) for n, s, k in zip(spatial, start, size, strict=True)]
    source: Any = (..., *(slice(a, b) for a, b in zip(low, high, strict=True)))
    if all(b - a == k for a, b, k in zip(low, high, size, strict=True)):
        return np.array(array[source])
    out = np.zeros((*array.shape[:-3], *size), dtype=array.dtype)
    if all(a < b for a, b in zip(low, high, strict=True)):
        target: Any = (
            ...,
            *(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True)),
        )
        out[target] = array[source]
    return out


@dataclass(frozen=True)
class PatchSampler(Dataset):
    """Patches by key (epoch, iteration, sample); the same key always gives the same patch.

    A case is drawn uniformly. The last third of a batch is centred on a voxel of a label that is
    drawn among those the case has; the others lie anywhere in the case, as far over its border as
    the patch is larger than it.

    Args:
        cases: what to sample from, in a fixed order.
        patch: (D, H, W) voxels.
        batch_size: samples in a batch; decides which of them are forced onto foreground.
        seed: of everything random.
        augment: None leaves patches as they are.
        stream: `TRAINING`, or `VALIDATION`: then cases take turns and the patches are the same in
            every epoch, so that the curve moves for the network's sake only.
        foreground_share: share of samples forced onto foreground.
    """

    cases: tuple[PreprocessedCase, ...]
    patch: Triple
    batch_size: int
    seed: int
    augment: Augment | None = None
    stream: int = TRAINING
    foreground_share: float = FOREGROUND_SHARE

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """Image (C, D, H, W) float32 and label (D, H, W) uint8 or int16 of one patch."""
        _, iteration, sample = key
        if self.stream == VALIDATION:
            number = iteration * self.batch_size + sample
            rng = random_state(self.seed, (0, iteration, sample), stream=self.stream)
            case = self.cases[number % len(self.cases)]
        else:
            rng = random_state(self.seed, key, stream=self.stream)
            case = self.cases[int(rng.integers(len(self.cases)))]
        start = self.locate(case, rng, forced=self.is_forced(iteration, sample))
        if self.augment is None:
            image = torch.from_numpy(crop(case.image, start, self.patch))
            return image, torch.from_numpy(crop(case.label, start, self.patch))
        return self.augment(case.image, case.label, start=start, patch=self.patch, rng=rng)

    def is_forced(self, iteration: int, sample: int) -> bool:
        """Whether a sample has to show foreground: the last third of a batch.

        Of batches of one, every third is: rounding would leave none.
        """
        if self.batch_size == 1:
            return iteration % 3 == 2
        return sample >= round(self.batch_size * (1 - self.foreground_share))

    def locate(self, case: PreprocessedCase, rng: np.random.Generator, *, forced: bool) -> Triple:
        """First voxel of a patch (D, H, W); negative where the patch reaches over the border."""
        low, high = [], []
        for n, size in zip(case.shape, self.patch, strict=True):
            missing = max(0, size - n)
            low.append(-(missing // 2))
            high.append(n + missing // 2 + missing % 2 - size)
        values = sorted(case.foreground)
        if not forced or not values:
            start = [int(rng.integers(a, b + 1)) for a, b in zip(low, high, strict=True)]
            return start[0], start[1], start[2]
        points = _points(_ByName(case))[values[int(rng.integers(len(values)))]]
        voxel = points[int(rng.integers(len(points)))]
        # Only the lower border counts, as in nnU-Net: an object at the upper border is centred.
        start = [max(a, int(v) - n // 2) for a, v, n in zip(low, voxel, self.patch, strict=True)]
        return start[0], start[1], start[2]


class _ByName:
    """A case as a key: it holds a dictionary, so it cannot be one itself."""

    def __init__(self, case: PreprocessedCase) -> None:
        self.case = case

    def __hash__(self) -> int:
        return hash((self.case.folder, self.case.name))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByName) and self.case == other.case


@functools.lru_cache(maxsize=256)
def _points(key: _ByName) -> dict[int, np.ndarray]:
    return key.case.points()


class BatchKeys:
    """The keys of every batch from one iteration on to the end, in order.

    Args:
        first: iteration to start at, counted over all epochs.
        total: iterations of all epochs.
        per_epoch: iterations of an epoch.
        samples: numbers of the batch's samples, all or one rank's.
    """

    def __init__(self, *, first: int, total: int, per_epoch: int, samples: Sequence[int]) -> None:
        self.first, self.total = first, total
        self.per_epoch, self.samples = per_epoch, samples

    def __len__(self) -> int:
        return self.total - self.first

    def __iter__(self) -> Iterator[list[Key]]:
        for number in range(self.first, self.total):
            epoch, iteration = divmod(number, self.per_epoch)
            yield [(epoch, iteration, sample) for sample in self.samples]


class _Told(Dataset):
    """A sampler that returns what it refuses: PyTorch would make one text of it, traceback and all.

    Args:
        sampler: of the patches.
    """

    def __init__(self, sampler: PatchSampler) -> None:
        self.sampler = sampler

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor] | BadInput:
        try:
            return self.sampler[key]
        except BadInput as error:
            return error


def _collated(samples: list[Any]) -> Any:
    refused = [sample for sample in samples if isinstance(sample, BadInput)]
    return refused[0] if refused else default_collate(samples)


class PatchLoader:
    """Batches of image (B, C, D, H, W) and label (B, D, H, W), in order; raises what is refused.

    Args:
        loader: makes them.
    """

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._loader:
            if isinstance(batch, BadInput):
                raise batch
            yield batch


def patch_loader(
    sampler: PatchSampler, keys: BatchKeys, *, workers: int, pin_memory: bool
) -> PatchLoader:
    """Batches made in `workers` processes.

    How many there are has no effect on what comes out; 0 makes them between steps.
    """
    workers = min(workers, len(keys))
    loader = DataLoader(
        _Told(sampler),
        batch_sampler=keys,  # type: ignore[arg-type]
        collate_fn=_collated,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=_leave_signals_to_the_parent,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else torch's global random state would be advanced
    )
    return PatchLoader(loader)


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal, but the step under way needs its patches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
