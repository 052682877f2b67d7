"""Made datasets that an encoder, which halves the plane five times, can see."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk


def case(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 and labels: a disc (1) that runs through all slices, a square (2) in some."""
    random = np.random.default_rng(seed)
    z, y, x = np.indices(shape)
    label = np.zeros(shape, np.uint8)
    centre = np.array(shape[1:]) * (0.35, 0.4) + random.uniform(-2, 2, 2)
    label[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 6**2] = 1
    low = (np.array(shape[1:]) * (0.6, 0.55) + random.uniform(-2, 2, 2)).astype(int)
    inside = (y >= low[0]) & (y < low[0] + 8) & (x >= low[1]) & (x < low[1] + 8)
    label[inside & (z >= shape[0] // 3)] = 2
    image = np.array([40, 110, 190])[label] + random.normal(0, 8, shape)
    return np.clip(image, 1, 255).astype(np.uint8), label


def make_dataset(
    folder: Path,
    *,
    depth: int,
    ending: str = ".nii.gz",
    cases: int = 5,
    size: tuple[int, int] = (34, 40),
    across: float = 4.0,
) -> Path:
    """An nnU-Net raw dataset; a depth of 0 writes images of two dimensions."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number in range(cases):
        for array, part, channel in zip(
            case((max(1, depth), *size), number),
            ("imagesTr", "labelsTr"),
            ("_0000", ""),
            strict=True,
        ):
            image = sitk.GetImageFromArray(array if depth else array[0])
            image.SetSpacing((1.0, 1.0, across)[: 3 if depth else 2])
            sitk.WriteImage(image, os.fspath(folder / part / f"case{number}{channel}{ending}"))
    record = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "disc": 1, "square": 2},
        "numTraining": cases,
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    return folder
