"""Trainings by minutes: schedules, what is kept, and the tables of made rows."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "engine" / "benchmarks"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A benchmark by name; they import each other as programs do."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    yield load
    for name in ("budget", "ablation", "nnunet"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("minutes", "step_s"), [(60, 6.7), (60, 0.4), (1, 5.0), (0.01, 9.0)])
def test_a_schedule_ends_when_the_minutes_do(modules: Any, minutes: float, step_s: float) -> None:
    budget = modules("budget")
    found = budget.schedule(minutes, step_s)
    total = found["epochs"] * found["iterations_per_epoch"]
    spent = total * step_s * (1 + budget.VALIDATION) / 60
    assert total == 1 or spent <= minutes
    if total > 2 * budget.EPOCHS:
        assert spent > 0.5 * minutes
        assert found["epochs"] == budget.EPOCHS


def test_what_is_there_is_not_made_again(modules: Any, tmp_path: Path) -> None:
    budget = modules("budget")
    made: list[int] = []

    def make() -> dict[str, int]:
        made.append(1)
        return {"step": 3}

    assert budget.Records(tmp_path / "r.json").once("pace", make) == {"step": 3}
    assert budget.Records(tmp_path / "r.json").once("pace", make) == {"step": 3}
    assert made == [1]


def test_what_the_ablation_trains(
    modules: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One slow measurement shortens no arm's training; only DSFF evolves, forty times."""
    ablation = modules("ablation")
    steps = iter([1.0, 0.6, 0.6, 9.0, 0.5, 0.6, 1.0, 0.6, 5.0])
    commands: list[list[str]] = []

    def train(dataset: Path, output: Path, planned: dict[str, Any], options: list[str]) -> str:
        commands.append([output.name, str(planned["iterations_per_epoch"]), *options])
        return "a command"

    monkeypatch.setattr(ablation.budget, "pace", lambda *_: next(steps))
    monkeypatch.setattr(ablation.budget, "train", train)
    chosen = argparse.Namespace(
        dataset=tmp_path, output=tmp_path, minutes=20.0, seeds=2, base_channels=8
    )
    planned = ablation.trainings(chosen, ablation.budget.Records(tmp_path / "results.json"))
    assert [training.finish() for training in planned] == ["a command"] * 6
    lengths = [(name, int(iterations)) for name, iterations, *_ in commands]
    assert lengths == [
        ("dense_0", 45), ("static_sparse_0", 75), ("DSFF_0", 75),
        ("dense_1", 45), ("static_sparse_1", 75), ("DSFF_1", 75),
    ]  # fmt: skip
    dense, static, evolving = commands[3:]
    assert "--evolve-every" not in dense
    assert dense[dense.index("--sparsity") + 1] == "0"
    assert static[static.index("--evolve-every") + 1] == "0"
    assert evolving[evolving.index("--evolve-every") + 1] == str(25 * 75 // 40)
    assert all(command[command.index("--seed") + 1] == "1" for command in commands[3:])


ROW = {
    "live_parameters": 2_000_000, "live_multiply_adds": 3e9, "iterations": 100, "nsd": 0.9,
}  # fmt: skip


def test_the_ablations_table(modules: Any, tmp_path: Path) -> None:
    ablation = modules("ablation")
    rows = [
        {**ROW, "arm": arm, "seed": seed, "dice": 0.8 + 0.01 * seed}
        for seed in range(3)
        for arm in ablation.ARMS
    ]
    lines = ablation.table(rows).splitlines()
    assert len(lines) == 5
    assert lines[2] == ("| dense | 3 | 100 | 2.00 M | 3.0 G | 0.810 ± 0.010 | 0.900 ± 0.000 |")
    ablation.figure(rows, tmp_path / "ablation.png")
    assert (tmp_path / "ablation.png").stat().st_size > 10_000


def test_the_table_against_nnunet(modules: Any) -> None:
    nnunet = modules("nnunet")
    common = {
        "nsd": 0.95, "patch": [40, 56, 40], "batch": 2, "epochs": 25, "iterations_per_epoch": 20,
        "training_s": 3600.0, "seconds_a_case": 1.5,
    }  # fmt: skip
    rows = [
        {**common, "model": "nnU-Net", "dice": 0.9, "parameters": 4e6, "multiply_adds": 4e9},
        {**common, "model": "E2ENet", "dice": 0.9, "parameters": 1e6, "multiply_adds": 2e9},
    ]
    lines = nnunet.table(rows).splitlines()
    assert lines[2].endswith("| 40×56×40, 2 | 25 × 20 | 60.0 min | 1.50 s | 1.75 |")
    assert lines[3].endswith("| 3.00 |")


def test_a_row_a_training(modules: Any, tmp_path: Path) -> None:
    rows = [{"model": "a, b", "command": "/home/somebody", "patch": [1, 2], "dice": 0.5}]
    modules("budget").write_csv([*rows, {"model": "c", "dice": 1}], tmp_path / "rows.csv")
    text = (tmp_path / "rows.csv").read_text(encoding="utf-8")
    assert text == 'model,patch,dice\n"a, b",1×2,0.5\nc,,1\n'
