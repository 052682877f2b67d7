"""What the engine's tests share: outside references, a tiny model and a tiny dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def shared() -> Path:
    """References and data that lie beside the repository and do not come with a clone of it."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared is not beside this clone; it holds the outside references")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from or left in the folders of the person who runs the tests."""
    base = tmp_path_factory.mktemp("user")
    patch = pytest.MonkeyPatch()
    patch.setenv("E2ENET_CACHE", str(base / "cache"))
    patch.setenv("XDG_CACHE_HOME", str(base / "xdg-cache"))
    patch.setenv("XDG_DATA_HOME", str(base / "xdg-data"))
    patch.setenv("LOCALAPPDATA", str(base / "local"))
    patch.setenv("MPLBACKEND", "Agg")
    patch.delenv("E2ENET_MODELS", raising=False)
    yield
    patch.undo()


def tiny_model() -> dict[str, Any]:
    """model.json of the tiny bundle, as `write_bundle` takes it."""
    return {
        "name": "tiny",
        "title": "Tiny model with random weights",
        "plan": {
            "spacing": [1.0, 1.0, 1.0],
            "transpose": [0, 1, 2],
            "patch": [16, 16, 16],
            "strides": [[2, 2, 2], [2, 2, 2]],
            "batch_size": 2,
            "channels": [{"name": "MRI", "normalisation": "zscore"}],
            "mirror_axes": [0, 1, 2],
        },
        "labels": [
            {
                "value": value,
                "name": name,
                "color": color,
                "terminology": {
                    "category": {
                        "scheme": "SCT",
                        "code": "85756007",
                        "meaning": "Tissue",
                    },
                    "type": {"scheme": "SCT", "code": "85756007", "meaning": "Tissue"},
                },
            }
            for value, name, color in ((1, "sphere", [216, 101, 79]), (2, "cube", [128, 174, 128]))
        ],
        "channels": [{"name": "MRI"}],
        "modality": "MR",
        "anatomy": "Made shapes",
        "locator": None,
        "provenance": {"data": "none", "epochs": 0, "sparsity": 0.5},
        "licence": "CC0-1.0",
        "citation": "",
    }


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle folder, not to be written in: E2ENet with base 4, 3 levels, S = 0.5, random."""
    import torch
    from e2enet.bundle import write_bundle
    from e2enet.dsff import Connections
    from e2enet.networks import E2ENet

    model = tiny_model()
    with torch.random.fork_rng():
        torch.manual_seed(20)
        network = E2ENet(1, 3, model["plan"]["strides"], base_channels=4)
    connections = Connections.random(network, 0.5, seed=20)
    connections.apply()
    entry = {
        "iteration": 0,
        "zeta": 0.5,
        "live": connections.live,
        "total": connections.total,
        "turnover": None,
        "nodes": connections.shares(),
    }
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_bundle(
        folder,
        network=network,
        connections=connections,
        model=model,
        history={"history": [entry]},
        readme="# Tiny\n\nRandom weights, for tests.\n",
    )
    return folder


def tiny_case(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (z, y, x) float32 and labels uint8: a sphere (1) and a brighter cube (2) in noise."""
    random = np.random.default_rng(100 + index)
    shape = np.array([20, 28, 24]) + random.integers(-2, 3, 3)
    label = np.zeros(shape, np.uint8)
    z, y, x = np.indices(shape)
    centre = shape * (0.5, 0.3, 0.35) + random.uniform(-1, 1, 3)
    distance = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    label[distance < random.uniform(4, 5.5) ** 2] = 1
    corner = np.rint(shape * (0.35, 0.6, 0.55) + random.uniform(-1, 1, 3)).astype(int)
    side = int(random.integers(5, 8))
    label[tuple(slice(start, start + side) for start in corner)] = 2
    image = np.array([100.0, 300.0, 500.0])[label] + random.normal(0, 25, shape)
    return image.astype(np.float32), label


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An nnU-Net raw dataset, not to be written in: 6 training and 2 test cases, 24 x 28 x 20 mm.

    Returns:
        Folder Dataset900_Tiny; labels sphere (1) and cube (2), channel "MRI", ".nii.gz".
    """
    import SimpleITK as sitk

    folder = tmp_path_factory.mktemp("raw") / "Dataset900_Tiny"
    for index in range(8):
        images, labels = ("imagesTr", "labelsTr") if index < 6 else ("imagesTs", "labelsTs")
        for name, array, part in zip(
            (f"tiny_{index:03d}_0000", f"tiny_{index:03d}"), tiny_case(index), (images, labels),
            strict=True,
        ):  # fmt: skip
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((1.0, 1.0, 1.0))
            image.SetOrigin((-10.0, 5.0, 3.0 * index))
            (folder / part).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, os.fspath(folder / part / f"{name}.nii.gz"))
    record = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "sphere": 1, "cube": 2},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    return folder
