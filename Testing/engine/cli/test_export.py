"""The verb `export` as a program and as a person calls it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2enet.bundle import Bundle
from e2enet.cli.app import app
from e2enet.training.train import train
from typer.testing import CliRunner


@pytest.fixture(autouse=True)
def _own_sigterm() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["export", *map(str, words)])
    return result.exit_code, result.stdout


def test_a_run_becomes_a_model(tiny_dataset: Path, tmp_path: Path) -> None:
    small = {"epochs": 1, "iterations_per_epoch": 1, "base_channels": 4, "levels": 3}
    train(
        tiny_dataset, tmp_path / "m", **small, patch=(16, 16, 16), batch_size=2, workers=0,
        device="cpu",
    )  # fmt: skip
    status, text = call(tmp_path / "m.run", tmp_path / "b", "--progress", "json")
    assert status == 0, text
    (event,) = [json.loads(line) for line in text.splitlines()]
    assert event == {
        "event": "result", "bundle": str(tmp_path / "b"), "epoch": 1, "finished": True,
    }  # fmt: skip
    assert Bundle.open(tmp_path / "b").name == "b"
    status, text = call(tmp_path / "m.run", tmp_path / "c")
    assert status == 0
    assert text.replace("\n", "") == f"Model: {tmp_path / 'c'}, after epoch 1"


def test_no_run(tmp_path: Path) -> None:
    status, text = call(tmp_path / "nowhere", tmp_path / "b", "--progress", "json")
    assert status == 2
    assert json.loads(text)["code"] == "no-run"
