"""The preprocessed dataset as training reads it: numpy and json only.

A folder holds, for every case, `CASE.npy` (C, D, H, W) float32, `CASE_label.npy` (D, H, W) uint8
or int16 (`e2enet.data.datasets.targets` says what its numbers mean), `CASE_points.npy` (N, 4) int32
with rows (label, d, h, w), and `CASE.json`, which is written last: a case without it does not
exist. `dataset.json` names the cases.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from e2enet.data.axes import three
from e2enet.events import BadInput


@dataclass(frozen=True)
class PreprocessedCase:
    """One case, normalised and resampled to the plan.

    Args:
        name: the case's name.
        folder: where its files lie.
        shape: (D, H, W).
        channels: number of channels C.
        foreground: voxels of each label that occurs (background left out).
        case_spacing: (D, H, W) spacing of the case itself before resampling, in mm.
    """

    name: str
    folder: Path
    shape: tuple[int, int, int]
    channels: int
    foreground: dict[int, int]
    case_spacing: tuple[float, float, float]

    @property
    def image(self) -> np.ndarray:
        """(C, D, H, W) float32, mapped from disk and read-only."""
        return self._load("")

    @property
    def label(self) -> np.ndarray:
        """(D, H, W) uint8 or int16, mapped from disk and read-only."""
        return self._load("_label")

    def points(self) -> dict[int, np.ndarray]:
        """Up to 10000 voxels of each label that occurs: {label: (n, 3) int32 of (d, h, w)}."""
        rows = np.array(self._load("_points"))
        return {int(value): rows[rows[:, 0] == value, 1:] for value in np.unique(rows[:, 0])}

    def _load(self, suffix: str) -> np.ndarray:
        path = self.folder / f"{self.name}{suffix}.npy"
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BadInput(
                f"{path.name} in the preprocessed dataset is missing or damaged.",
                help=f"Delete the folder {self.folder} and start again.",
                code="damaged-cache",
            ) from error


@dataclass(frozen=True)
class PreprocessedDataset:
    """All preprocessed cases of a dataset.

    Args:
        folder: where they lie.
        cases: {name: case}, sorted by name.
        labels: {name: value}, background included.
        channel_names: one name a channel.
    """

    folder: Path
    cases: dict[str, PreprocessedCase]
    labels: dict[str, int]
    channel_names: tuple[str, ...]

    @classmethod
    def open(cls, folder: str | os.PathLike) -> PreprocessedDataset:
        """Open a folder that `preprocess_dataset` has written.

        Raises:
            BadInput: not such a folder, or a case is missing from it.
        """
        folder = Path(folder)
        try:
            record = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
            cases = {name: read_case_record(folder, name) for name in sorted(record["cases"])}
            return cls(folder, cases, dict(record["labels"]), tuple(record["channel_names"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{folder} is not a complete preprocessed dataset.",
                help="Run the preprocessing again; finished cases are kept.",
                code="damaged-cache",
            ) from error

    @property
    def names(self) -> tuple[str, ...]:
        """The cases' names, sorted."""
        return tuple(self.cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[PreprocessedCase]:
        return iter(self.cases.values())

    def __getitem__(self, name: str) -> PreprocessedCase:
        return self.cases[name]


def read_case_record(folder: Path, name: str) -> PreprocessedCase:
    """The case that `CASE.json` describes. Raises OSError, ValueError, KeyError or TypeError."""
    record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return PreprocessedCase(
        name,
        folder,
        three(int(n) for n in record["shape"]),
        int(record["channels"]),
        {int(value): int(count) for value, count in record["foreground"].items()},
        three(float(v) for v in record["case_spacing"]),
    )
