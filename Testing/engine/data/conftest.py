"""Small images and datasets made in code."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.data.datasets.raw import Dataset
from e2enet.data.planning.fingerprint import Fingerprint


@pytest.fixture
def save() -> Callable[..., Path]:
    """save(path, array, spacing, origin, direction) with SimpleITK itself, not with our writer."""

    def write(path: Path, array: np.ndarray, **geometry: Sequence[float]) -> Path:
        image = sitk.GetImageFromArray(array, isVector=geometry.pop("vector", False))
        for name, values in geometry.items():
            getattr(image, f"Set{name.capitalize()}")(values)
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, os.fspath(path))
        return path

    return write


@pytest.fixture
def raw_dataset(tmp_path: Path, save: Callable[..., Path]) -> Callable[..., Path]:
    """raw_dataset(cases, channels=…, labels=…): {name: (channel arrays, label array)} on disk."""

    def write(
        cases: dict[str, tuple[list[np.ndarray], np.ndarray]],
        *,
        channels: Sequence[str] = ("MRI",),
        labels: dict[str, int] | None = None,
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        name: str = "Dataset901_Made",
    ) -> Path:
        folder = tmp_path / name
        for case, (images, label) in cases.items():
            for i, image in enumerate(images):
                save(folder / "imagesTr" / f"{case}_{i:04d}.nii.gz", image, spacing=spacing)
            save(folder / "labelsTr" / f"{case}.nii.gz", label, spacing=spacing)
        record = {
            "channel_names": {str(i): channel for i, channel in enumerate(channels)},
            "labels": labels or {"background": 0, "thing": 1},
            "numTraining": len(cases),
            "file_ending": ".nii.gz",
        }
        (folder / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def described() -> Callable[..., tuple[Fingerprint, Dataset]]:
    """described(spacing, size, …): a fingerprint and a dataset without any file."""

    def make(
        spacings: Sequence[Sequence[float]],
        sizes: Sequence[Sequence[int]],
        *,
        channels: Sequence[str] = ("MRI",),
        labels: dict[str, int] | None = None,
        crop_share: float = 1.0,
    ) -> tuple[Fingerprint, Dataset]:
        statistics = {
            "mean": 50.0,
            "std": 20.0,
            "median": 48.0,
            "min": -900.0,
            "max": 3000.0,
            "percentile_00_5": -100.0,
            "percentile_99_5": 250.0,
        }
        names = tuple(f"c{i}" for i in range(len(sizes)))
        found = Fingerprint(
            tuple(map(tuple, spacings)),
            tuple(map(tuple, sizes)),
            crop_share,
            tuple(dict(statistics) for _ in channels),
            {1: 0.1},
            names,
        )
        labels = labels or {"background": 0, "thing": 1}
        return found, Dataset(Path("Made"), "Made", tuple(channels), labels, ".nii.gz", ())

    return make
