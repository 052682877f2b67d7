"""Trainings of a few seconds, and hands that spoil their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from e2enet.training.train import Trained, train

SMALL: dict[str, Any] = {
    "epochs": 2,
    "iterations_per_epoch": 5,
    "base_channels": 4,
    "levels": 3,
    "patch": (16, 16, 16),
    "batch_size": 2,
    "evolve_every": 4,
    "seed": 3,
}


def small(dataset: Path, output: Path, **changes: Any) -> Trained:
    return train(dataset, output, workers=0, device="cpu", **{**SMALL, **changes})


def change(path: Path, work: Callable[[np.ndarray], np.ndarray], **geometry: Any) -> None:
    image = sitk.ReadImage(path)
    changed = sitk.GetImageFromArray(work(sitk.GetArrayFromImage(image)))
    changed.CopyInformation(image)
    if "origin" in geometry:
        changed.SetOrigin(geometry["origin"])
    sitk.WriteImage(changed, path)


def edit_json(path: Path, **changes: Any) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**record, **changes}), encoding="utf-8")


FINE = {"epochs": 1, "iterations_per_epoch": 3, "seed": 1}


def fine(dataset: Path, output: Path, base: Path, **changes: Any) -> Trained:
    return train(dataset, output, base=base, workers=0, device="cpu", **{**FINE, **changes})
