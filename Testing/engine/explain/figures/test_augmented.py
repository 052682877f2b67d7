"""The picture of what training sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from e2enet.data.datasets.raw import read_dataset
from e2enet.data.planning.fingerprint import fingerprint
from e2enet.data.planning.plan import make_plan
from e2enet.events import BadInput
from e2enet.explain.figures.augmented import draw_augmented
from matplotlib.image import imread


def test_ten_different_patches_with_outlines(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = read_dataset(tiny_dataset)
    plan = make_plan(fingerprint(dataset, workers=0), dataset, base_channels=8)
    picture = imread(draw_augmented(dataset, plan, tmp_path / "seen.png"))
    height, _ = picture.shape[:2]
    upper = picture[int(0.14 * height) : int(0.56 * height), :, :3]
    columns = np.array_split(upper, 10, axis=1)
    smallest = min(column.shape[1] for column in columns)
    for k in range(10):
        for other in range(k):
            assert np.abs(columns[k][:, :smallest] - columns[other][:, :smallest]).max() > 0.1
    red, green, blue = (picture[..., c] for c in range(3))
    assert ((red > 0.85) & (abs(green - 0.69) < 0.1) & (blue < 0.35)).sum() > 50  # outlines
    again = imread(draw_augmented(dataset, plan, tmp_path / "again.png"))
    np.testing.assert_array_equal(again, picture)
    plain = imread(draw_augmented(dataset, replace(plan, robustness=0.0), tmp_path / "plain.png"))
    assert np.abs(plain - picture).max() > 0.1


def test_a_folder_that_is_missing_is_named(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = read_dataset(tiny_dataset)
    plan = make_plan(fingerprint(dataset, workers=0), dataset, base_channels=8)
    with pytest.raises(BadInput, match="nowhere"):
        draw_augmented(dataset, plan, tmp_path / "nowhere" / "seen.png")
