"""The verb `train` as a program and as a person calls it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from e2enet.bundle import Bundle
from e2enet.cli.app import app
from e2enet.training.run.settings import Settings, option
from typer.testing import CliRunner

# fmt: off
SMALL = [
    "--epochs", "1", "--iterations-per-epoch", "2", "--base-channels", "4", "--levels", "3",
    "--batch-size", "2", "--device", "cpu", "--workers", "0",
]
# fmt: on


@pytest.fixture(autouse=True)
def _own_sigterm() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["train", *map(str, words)])
    return result.exit_code, result.stdout


def test_json_events_and_nothing_else(tiny_dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    words = [tiny_dataset, "--output", output, *SMALL, "--patch", "16,16,16", "--fold", "all"]
    status, text = call(*words, "--progress", "json")
    assert status == 0, text
    events = [json.loads(line) for line in text.splitlines()]
    assert {e["stage"] for e in events if e["event"] == "progress"} >= {
        "fingerprint", "preprocessing", "training",
    }  # fmt: skip
    (epoch,) = [e for e in events if e["event"] == "metric"]
    assert set(epoch["dice"]) == {"sphere", "cube"}
    assert events[-1]["event"] == "result"
    assert events[-1]["bundle"] == str(output)
    assert Bundle.open(output).model["provenance"]["iterations"] == 2

    status, text = call(tiny_dataset, "--output", output, "--resume")
    assert status == 0
    assert f"Model: {output}" in text.replace("\n", "")


@pytest.mark.parametrize("patch", ["16,16", "a,b,c", "16;16;16"])
def test_a_patch_that_is_none(tiny_dataset: Path, tmp_path: Path, patch: str) -> None:
    status, text = call(
        tiny_dataset, "--output", tmp_path / "m", "--patch", patch, "--progress", "json"
    )
    assert status == 2
    (error,) = [json.loads(line) for line in text.splitlines()]
    assert error["code"] == "bad-setting"
    assert "40,56,40" in error["help"]
    assert not list(tmp_path.iterdir())


def test_help_shows_every_default() -> None:
    shown = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "300"}).stdout
    for field in fields(Settings):
        (line,) = [row for row in shown.splitlines() if f" {option(field.name)} " in row]
        if isinstance(field.default, bool):
            assert "(default)" in line
        elif field.default is None:
            assert "(default " in line, line
        else:
            assert f"(default {field.default})" in line, line


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    status, text = call(tmp_path, "--output", tmp_path / "m", "--progress", "json")
    assert status == 2
    assert "Traceback" not in text
    assert json.loads(text)["code"] == "not-a-dataset"
