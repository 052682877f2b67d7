"""Training from label maps alone: no image is ever read, and the model segments real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.bundle import Bundle
from e2enet.events import BadInput
from e2enet.inference.segmenter import segment
from e2enet.training.train import Trained, train

ROWS = [
    (0, 0, 0, "background"),
    (5, 1, 0, "shell"),
    (3, 2, 3, "left part"),
    (42, 2, 42, "right part"),
]
SIZE = (26, 28, 24)


def values(seed: int) -> np.ndarray:
    """A head of two halves in a shell, a little different every time."""
    radius = np.random.default_rng(seed).uniform(7.5, 10.0, 3)
    z, y, x = np.indices(SIZE)
    distance = sum(((k - n / 2) / r) ** 2 for k, n, r in zip((z, y, x), SIZE, radius, strict=True))
    made = np.where(x < SIZE[2] / 2, 42, 3)
    made[distance > 0.6] = 5
    made[distance > 1.2] = 0
    return made.astype(np.int16)


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps") / "heads"
    folder.mkdir()
    for k in range(5):
        sitk.WriteImage(sitk.GetImageFromArray(values(k)), str(folder / f"head_{k}.nii.gz"))
    fields = ("value", "tissue", "label", "name")
    table = {"values": [dict(zip(fields, row, strict=True)) for row in ROWS]}
    (folder / "labels.json").write_text(json.dumps(table), encoding="utf-8")
    return folder


def small(dataset: Path, output: Path, **changes: Any) -> Trained:
    settings = {
        "fold": "all", "epochs": 2, "iterations_per_epoch": 8, "base_channels": 4, "levels": 3,
        "patch": (16, 16, 16), "batch_size": 2, "evolve_every": 6, "optimizer": "adamw", "seed": 1,
    }  # fmt: skip
    return train(dataset, output, workers=0, device="cpu", **{**settings, **changes})


def test_from_maps_to_a_model_that_segments_an_image(maps: Path, tmp_path: Path) -> None:
    done = small(maps, tmp_path / "model")
    assert done.state == "finished"
    bundle = Bundle.open(tmp_path / "model")
    assert [label.name for label in bundle.labels] == ["left part", "right part"]
    assert bundle.plan["left_right_pairs"] == [[1, 2]]
    assert bundle.plan["channels"] == [{"name": "MRI", "normalisation": "zscore"}]
    rows = (tmp_path / "model.run" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 3

    random = np.random.default_rng(9)
    image = random.normal(100, 10, SIZE) + 300 * np.isin(values(9), (3, 42))
    sitk.WriteImage(sitk.GetImageFromArray(image.astype(np.float32)), str(tmp_path / "mr.nii.gz"))
    assert segment(tmp_path / "mr.nii.gz", bundle, device="cpu").label.shape == SIZE


def test_a_fold_holds_maps_out(maps: Path, tmp_path: Path) -> None:
    done = small(maps, tmp_path / "model", fold="0", epochs=1, iterations_per_epoch=2)
    assert done.state == "finished"
    bundle = Bundle.open(tmp_path / "model")
    assert bundle.model["provenance"]["metrics"]["of"] == "patches of held-out cases"


def test_what_the_table_lacks_is_named_before_training(maps: Path, tmp_path: Path) -> None:
    folder = tmp_path / "spoilt"
    folder.mkdir()
    (folder / "labels.json").write_text((maps / "labels.json").read_text(encoding="utf-8"))
    spoilt = values(0)
    spoilt[0, 0, 0] = 77
    sitk.WriteImage(sitk.GetImageFromArray(spoilt), str(folder / "odd.nii.gz"))
    with pytest.raises(BadInput, match=r"odd\.nii\.gz holds the value 77"):
        small(folder, tmp_path / "model")
    assert not (tmp_path / "model.run").exists()
