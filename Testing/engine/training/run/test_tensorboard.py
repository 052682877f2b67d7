"""The figures of a run, read back by TensorBoard's own reader."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import pytest
from e2enet.events import BadInput
from e2enet.training.run.tensorboard import FOLDER
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ..runs import small


def test_every_epoch_is_there_also_after_a_resume(tiny_dataset: Path, tmp_path: Path) -> None:
    small(tiny_dataset, tmp_path / "model", tensorboard=True)
    small(tiny_dataset, tmp_path / "model", resume=True, epochs=3, tensorboard=True)
    told = EventAccumulator(str(tmp_path / "model.run" / FOLDER)).Reload()
    with (tmp_path / "model.run" / "metrics.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for name in ("loss", "mean_dice", "lr"):
        found = {event.step: event.value for event in told.Scalars(name)}
        assert found == pytest.approx({int(row["iteration"]): float(row[name]) for row in rows})
    assert "dice/cube" in told.Tags()["scalars"]


def test_without_tensorboard_nothing_begins(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name == "tensorboard" else find_spec(name, *rest),
    )
    with pytest.raises(BadInput, match="--tensorboard needs tensorboard") as caught:
        small(tiny_dataset, tmp_path / "model", tensorboard=True)
    assert "e2enet[tensorboard]" in caught.value.help
    assert not (tmp_path / "model.run").exists()
