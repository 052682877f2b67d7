"""The shipped model in 16 bit on its own kind of image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from e2enet.inference import Result, segment
from e2enet.inference.sliding_window.predictor import Predictor
from e2enet.runtime.execution import kernel_precision
from e2enet.runtime.plans.sparse import SparsePlan

from ..runtime.made import made_network

RESOURCES = Path(__file__).parents[3] / "Resources"
CENTRE, SIZE = (-24.3, -24.0, -11.7), (40.0, 54.0, 44.0)  # of the right hippocampus; RAS, mm


@pytest.fixture(scope="module")
def crop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    head = sitk.ReadImage(str(RESOURCES / "Samples" / "MNI152_T1_1mm.nii.gz"))
    corners = [
        head.TransformPhysicalPointToIndex(
            [
                flip * (c + sign * n / 2)
                for flip, c, n in zip((-1, -1, 1), CENTRE, SIZE, strict=True)
            ]
        )
        for sign in (-1, 1)
    ]
    low = [min(pair) for pair in zip(*corners, strict=True)]
    size = [abs(a - b) for a, b in zip(*corners, strict=True)]
    path = tmp_path_factory.mktemp("crop") / "right.nii.gz"
    sitk.WriteImage(sitk.RegionOfInterest(head, size, low), str(path))
    return path


@pytest.fixture(scope="module")
def wanted(crop: Path) -> Result:
    return segment(crop, RESOURCES / "Models" / "hippocampus-mr", device="cpu")


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_labels_of_the_shipped_model(precision, crop: Path, wanted: Result) -> None:
    found = segment(
        crop, RESOURCES / "Models" / "hippocampus-mr", device="cpu", precision=precision
    )
    assert wanted.manifest["runtime"]["precision"] == "float32"
    assert found.manifest["runtime"]["precision"] == kernel_precision(precision)
    assert found.manifest["options"]["precision"] == precision
    structure = wanted.label > 0
    assert structure.sum() > 1000
    assert (found.label == wanted.label).mean() > 0.999
    assert 2 * (structure & (found.label == wanted.label)).sum() > 0.99 * (
        structure.sum() + (found.label > 0).sum()
    )


def test_what_overflows_is_computed_in_single_precision() -> None:
    network = made_network([(2, 2, 2)], base=5)
    with torch.no_grad():  # the norm takes it back
        network.get_parameter("backbone.0.0.conv.weight").mul_(1e6)
    image = np.random.default_rng(0).normal(size=(1, 4, 8, 8)).astype(np.float32)
    found = []
    for precision in ("float32", "float16"):
        predictor = Predictor(network, patch=(4, 8, 8), classes=3, precision=precision)
        found.append(np.concatenate([block.copy() for block in predictor.stream(image)]))
        assert isinstance(predictor.plan.run, SparsePlan)
        assert predictor.plan.precision == "float32"
    np.testing.assert_array_equal(*found)
