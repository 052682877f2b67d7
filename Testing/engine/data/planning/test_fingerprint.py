"""The fingerprint of a dataset."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from e2enet.data.datasets.raw import read_dataset
from e2enet.data.planning.fingerprint import Fingerprint, fingerprint
from e2enet.events import BadInput, Reporter

Raw = Callable[..., Path]


class Listener(Reporter):
    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int]] = []
        self.warnings: list[str] = []

    def progress(self, stage: str, done: int, total: int) -> None:
        self.steps.append((stage, done, total))

    def warning(self, code: str, message: str) -> None:
        self.warnings.append(code)


def made(value: float, label: bool = True) -> tuple[list[np.ndarray], np.ndarray]:
    """A block of one value in zeros, half of it foreground, with one voxel far out."""
    image = np.zeros((10, 12, 14), np.float32)
    image[2:8, 3:9, 4:12] = value
    classes = np.zeros(image.shape, np.uint8)
    if label:
        classes[2:8, 3:9, 4:8] = 1
        image[4, 4, 4] = 1e6
    return [image], classes


@pytest.mark.parametrize("workers", [0, 2])
def test_describes(raw_dataset: Raw, workers: int) -> None:
    folder = raw_dataset({"a": made(10), "b": made(30)}, spacing=(0.5, 0.75, 2.0))
    listener = Listener()
    found = fingerprint(read_dataset(folder), workers=workers, reporter=listener)
    assert found.spacings == ((2.0, 0.75, 0.5),) * 2
    assert found.sizes == ((6, 6, 8),) * 2
    assert found.crop_share == pytest.approx(6 * 6 * 8 / (10 * 12 * 14))
    assert found.foreground == {1: pytest.approx(6 * 6 * 4 / (10 * 12 * 14))}
    statistics = found.intensities[0]
    assert statistics["max"] == 1e6
    # Two voxels of 288 are far out: neither percentile nor mean may follow them... by much.
    assert statistics["median"] == pytest.approx(20, abs=10)
    assert statistics["percentile_00_5"] == 10
    assert listener.steps[0] == ("fingerprint", 0, 2)
    assert listener.steps[-1] == ("fingerprint", 2, 2)
    again = Fingerprint.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found


def test_percentiles_ignore_outliers_and_mean_and_std_are_of_all_voxels(raw_dataset: Raw) -> None:
    random = np.random.default_rng(0)
    image = random.normal(40, 10, (20, 20, 20)).astype(np.float32)
    image.ravel()[:8] = 30000
    folder = raw_dataset({"a": ([image], np.ones(image.shape, np.uint8))}, channels=("CT",))
    statistics = fingerprint(read_dataset(folder), workers=0).intensities[0]
    assert statistics["mean"] == pytest.approx(image.astype(np.float64).mean())
    assert statistics["std"] == pytest.approx(image.astype(np.float64).std())
    assert statistics["percentile_99_5"] < 100
    assert statistics["median"] == pytest.approx(40, abs=1)


def test_empty_labels(raw_dataset: Raw) -> None:
    listener = Listener()
    folder = raw_dataset({"a": made(10), "b": made(10, label=False)})
    fingerprint(read_dataset(folder), workers=0, reporter=listener)
    assert listener.warnings == ["empty-label"]
    folder = raw_dataset({"a": made(10, label=False), "b": made(10, label=False)})
    with pytest.raises(BadInput, match="no foreground"):
        fingerprint(read_dataset(folder), workers=0)


def test_orientation_does_not_matter(raw_dataset: Raw, save: Callable[..., Path]) -> None:
    folder = raw_dataset({"a": made(10)}, spacing=(0.5, 0.75, 2.0))
    expected = fingerprint(read_dataset(folder), workers=0)
    (image,), label = made(10)
    for path, array in (("imagesTr/a_0000", image), ("labelsTr/a", label)):
        save(
            folder / f"{path}.nii.gz",
            np.ascontiguousarray(array.transpose(2, 0, 1)),
            spacing=(0.75, 2.0, 0.5),
            direction=(0, 0, 1, 1, 0, 0, 0, 1, 0),
        )
    assert fingerprint(read_dataset(folder), workers=0).sizes == expected.sizes
    assert fingerprint(read_dataset(folder), workers=0).spacings == expected.spacings
