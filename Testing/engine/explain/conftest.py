"""Bundles and images for the tests of this folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk


@pytest.fixture
def make_bundle(tiny_bundle, tmp_path) -> Callable[..., Path]:
    """A function that writes a tiny bundle: of a given sparsity, history and channels."""
    content = json.loads((tiny_bundle / "model.json").read_text(encoding="utf-8"))
    for key in ("schema_version", "network", "files"):
        del content[key]

    def make(
        *,
        sparsity: float = 0.5,
        history: dict[str, Any] | None = None,
        channels: int = 1,
        name: str = "made",
    ) -> Path:
        import torch
        from e2enet.bundle import write_bundle
        from e2enet.dsff import Connections
        from e2enet.networks import E2ENet

        model = {**content, "name": name}
        model["channels"] = [{"name": f"c{k}"} for k in range(channels)]
        model["plan"] = {
            **model["plan"],
            "channels": [{"name": f"c{k}", "normalisation": "zscore"} for k in range(channels)],
        }
        with torch.random.fork_rng():
            torch.manual_seed(7)
            network = E2ENet(channels, 3, model["plan"]["strides"], base_channels=4)
        connections = Connections.random(network, sparsity, seed=7)
        connections.apply()
        folder = tmp_path / "bundles" / name
        write_bundle(
            folder,
            network=network,
            connections=connections,
            model=model,
            history=history or {"history": []},
            readme="# Made\n",
        )
        return folder

    return make


def made_image(shape=(14, 20, 17), seed=0) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.normal(size=[-(-n // 4) for n in shape])
    image = np.kron(coarse, np.ones((4, 4, 4)))[tuple(slice(n) for n in shape)]
    return (100 + 30 * image + random.normal(size=shape)).astype(np.float32)


@pytest.fixture
def write_case(tmp_path) -> Callable[..., Path]:
    """A function that writes an image file."""

    def write(name: str = "case.nii.gz", *, shape=(14, 20, 17), direction=None) -> Path:
        image = sitk.GetImageFromArray(made_image(shape))
        image.SetOrigin((-12.0, 7.0, 31.5))
        if direction:
            image.SetDirection(direction)
        path = tmp_path / name
        sitk.WriteImage(image, os.fspath(path))
        return path

    return write
