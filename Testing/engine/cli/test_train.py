"""The verb `train` as a program and as a person calls it."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from e2enet.bundle import Bundle
from e2enet.cli.app import app
from e2enet.training.loop.checkpoint import load_checkpoint
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
    (epoch,) = [e for e in events if e.get("name") == "epoch"]
    assert set(epoch["dice"]) == {"sphere", "cube"}
    assert events[-1]["event"] == "result"
    assert events[-1]["bundle"] == str(output)
    assert Bundle.open(output).model["provenance"]["iterations"] == 2

    status, text = call(tiny_dataset, "--output", output, "--resume")
    assert status == 0
    assert f"Model: {output}" in text.replace("\n", "")


def test_a_pause_before_the_first_epoch_promises_no_curves(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    control = tmp_path / "model.run" / "control"

    def pause() -> None:
        while not (tmp_path / "model.run" / "log.txt").exists():
            time.sleep(0.01)
        control.write_text("pause")

    thread = threading.Thread(target=pause)
    thread.start()
    words = [tiny_dataset, "--output", tmp_path / "model", *SMALL, "--patch", "16,16,16"]
    status, text = call(*words, "--iterations-per-epoch", "100000")
    thread.join()
    assert status == 0
    assert text.splitlines()[-1] == "Paused; the same command with --resume goes on."


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
            assert re.search(rf"\(default {re.escape(str(field.default))}[);]", line), line


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill sends no SIGINT there")
def test_ctrl_c_saves_first(tiny_dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "m"
    words = [tiny_dataset, "--output", output, *SMALL, "--patch", "16,16,16", "--epochs", "10000"]

    def press() -> None:
        while not (tmp_path / "m.run" / "metrics.csv").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    status, text = call(*words, "--progress", "json")
    assert status == 130
    error = json.loads(text.splitlines()[-1])
    assert (error["event"], error["code"]) == ("error", "cancelled")
    iteration = int(error["message"].split("iteration ")[1].split()[0])
    assert load_checkpoint(tmp_path / "m.run" / "checkpoint.safetensors")["iteration"] == iteration
    assert "--resume" in error["help"]


def test_without_its_extra_nothing_is_left_behind(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "monai", None)
    status, text = call(tiny_dataset, "--output", tmp_path / "m", *SMALL, "--progress", "json")
    assert status == 2
    error = json.loads(text)
    assert error["code"] == "missing-extra"
    assert "e2enet[train]" in error["help"]
    assert not list(tmp_path.iterdir())


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    status, text = call(tmp_path, "--output", tmp_path / "m", "--progress", "json")
    assert status == 2
    assert "Traceback" not in text
    assert json.loads(text)["code"] == "not-a-dataset"
