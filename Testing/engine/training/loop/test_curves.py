"""Learning curves."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from e2enet.training.loop.curves import write_curves


def row(epoch: int, dice: float | None) -> dict[str, Any]:
    return {
        "epoch": epoch, "iteration": epoch * 10, "loss": 1 / epoch, "lr": 0.01,
        "dice": {"left, upper": dice, "b": 0.5}, "mean_dice": dice, "zeta": 0.3, "live": 5,
        "seconds": 1.0,
    }  # fmt: skip


HISTORY = [{"iteration": 0, "turnover": None}, {"iteration": 10, "turnover": 0.4}]


def test_csv_and_picture(tmp_path: Path) -> None:
    write_curves(tmp_path, [row(1, None), row(2, 0.25)], HISTORY)
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(r["loss"]) for r in rows] == [1.0, 0.5]
    assert [r["dice left, upper"] for r in rows] == ["", "0.25"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2


def test_the_picture_can_wait(tmp_path: Path) -> None:
    write_curves(tmp_path, [row(1, 0.5)], HISTORY, picture=False)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_before_the_first_epoch_there_is_nothing_to_draw(tmp_path: Path) -> None:
    write_curves(tmp_path, [], [])
    assert not list(tmp_path.iterdir())
