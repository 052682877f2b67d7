"""A trainer small enough to run a step in milliseconds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from e2enet.data.patches.sampling import VALIDATION, PatchSampler
from e2enet.data.preprocessing.store import PreprocessedCase
from e2enet.dsff import Connections, Evolution
from e2enet.events import Reporter
from e2enet.networks import E2ENet
from e2enet.training.loop.recipe import Recipe
from e2enet.training.loop.trainer import Trainer

from .forks import Forks
from .runs import small

PATCH = (8, 8, 8)


class Recorder(Reporter):
    """Keeps the events it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def progress(self, stage: str, done: int, total: int) -> None:
        self.events.append(("progress", (stage, done, total)))

    def metric(self, name: str, **values: Any) -> None:
        self.events.append(("metric", {"name": name, **values}))

    def result(self, **values: Any) -> None:
        self.events.append(("result", values))

    def warning(self, code: str, message: str) -> None:
        self.events.append(("warning", (code, message)))

    def of(self, kind: str) -> list[Any]:
        return [value for name, value in self.events if name == kind]


class Flip:
    """An augmentation without MONAI: noise and a flip."""

    def __call__(
        self, image: np.ndarray, label: np.ndarray, *, start: Any, patch: Any, rng: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        from e2enet.data.patches.sampling import crop

        x, y = crop(image, start, patch), crop(label, start, patch)
        x = x + rng.normal(0, 0.1, x.shape).astype(np.float32)
        if rng.random() < 0.5:
            x, y = np.flip(x, 3), np.flip(y, 2)
        return torch.from_numpy(x.copy()), torch.from_numpy(y.copy())


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreprocessedCase, ...]:
    """Three preprocessed cases of two bright blocks in noise."""
    folder = tmp_path_factory.mktemp("cases")
    found = []
    for number in range(3):
        random = np.random.default_rng(number)
        label = np.zeros((10, 12, 11), np.uint8)
        label[2:6, 2:6, 2 + number : 6 + number] = 1
        label[5:9, 7:11, 3:8] = 2
        image = label[None] * 1.5 + random.normal(0, 0.3, (1, *label.shape))
        name = f"case{number}"
        points = np.argwhere(label)
        rows = np.column_stack([label[tuple(points.T)], points]).astype(np.int32)
        np.save(folder / f"{name}.npy", image.astype(np.float32))
        np.save(folder / f"{name}_label.npy", label)
        np.save(folder / f"{name}_points.npy", rows)
        counts = {value: int((label == value).sum()) for value in (1, 2)}
        found.append(PreprocessedCase(name, folder, label.shape, 1, counts, (1.0, 1.0, 1.0)))
    return tuple(found)


@pytest.fixture
def make_trainer(cases: tuple[PreprocessedCase, ...], tmp_path: Path) -> Callable[..., Trainer]:
    """A factory: the same arguments always give a trainer that starts the same."""

    def make(
        folder: str = "run",
        *,
        reporter: Reporter | None = None,
        workers: int = 0,
        period: int = 3,
        sparsity: float = 0.5,
        device: str = "cpu",
        **recipe: Any,
    ) -> Trainer:
        values = {"epochs": 4, "iterations_per_epoch": 4, "validation_iterations": 2, "lr": 0.02}
        chosen = Recipe(**{**values, **recipe})
        with torch.random.fork_rng():
            torch.manual_seed(1)
            network = E2ENet(1, 3, [(2, 2, 2)] * 2, base_channels=4)
        connections = Connections.random(network, sparsity, seed=1)
        common = {"cases": cases, "patch": PATCH, "batch_size": 2, "seed": 1}
        (tmp_path / folder).mkdir(exist_ok=True)
        return Trainer(
            network=network,
            connections=connections,
            evolution=Evolution(connections, total_iterations=chosen.total, period=period, seed=1),
            training=PatchSampler(**common, augment=Flip()),
            validation=PatchSampler(**common, stream=VALIDATION),
            recipe=chosen,
            labels={"block": 1, "bar": 2},
            folder=tmp_path / folder,
            device=device,
            workers=workers,
            reporter=reporter,
        )

    return make


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def assert_same(one: Any, other: Any, path: str = "") -> None:
    """Two states are equal bit for bit, but for the clock."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            if key != "seconds":
                assert_same(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{path}/{number}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    else:
        assert one == other, path


@pytest.fixture(scope="session")
def trained(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished bundle, not to be written in, with its run beside it."""
    output = tmp_path_factory.mktemp("trained") / "model"
    done = small(tiny_dataset, output)
    assert done.state == "finished"
    return output


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Runs of `e2enet train` that can be killed; skipped where processes cannot be forked."""
    if not hasattr(os, "fork"):
        pytest.skip("there is neither fork nor SIGKILL on Windows")
    made = Forks(tmp_path_factory.mktemp("forks"))
    yield made
    made.close()


@pytest.fixture
def copied(tiny_dataset: Path, tmp_path: Path) -> Path:
    """The tiny dataset with only three cases, to spoil."""
    folder = tmp_path / "Dataset901_Spoilt"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
        for path in sorted((tiny_dataset / part).iterdir())[:3]:
            shutil.copy(path, folder / part)
    shutil.copy(tiny_dataset / "dataset.json", folder)
    return folder
