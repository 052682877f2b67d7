"""The verb `export` as a program and as a person calls it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
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


def test_where_nothing_can_be_written(tiny_dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "m.run"
    small = {"epochs": 1, "iterations_per_epoch": 1, "base_channels": 4, "levels": 3}
    train(
        tiny_dataset, tmp_path / "m", **small, patch=(16, 16, 16), batch_size=2, workers=0,
        device="cpu",
    )  # fmt: skip
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())
    for output, why in (
        (tmp_path / "file" / "folder" / "b", "Not a directory"),
        (tmp_path / ("b" * 300), "File name too long"),
    ):
        status, text = call(run, output, "--progress", "json")
        assert status == 2, text
        assert why in json.loads(text)["message"]
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size there")
def test_a_disk_that_is_full_leaves_no_half_of_a_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    # The system refuses to write beyond the limit, as it does on a full disk.
    code = (
        "import resource, signal, sys\n"
        "from e2enet.bundle import Bundle, write_bundle\n"
        "from e2enet.events import BadInput\n"
        f"bundle = Bundle.open({str(tiny_bundle)!r})\n"
        "network, connections = bundle.load_network()\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        f"    write_bundle({str(tmp_path / 'b')!r}, network=network, connections=connections,\n"
        "                 model=bundle.model, history={}, readme='')\n"
        "except BadInput as error:\n"
        "    print(error.code, error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.stdout.startswith("output-not-writable"), done.stdout + done.stderr
    assert "File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_no_run(tmp_path: Path) -> None:
    status, text = call(tmp_path / "nowhere", tmp_path / "b", "--progress", "json")
    assert status == 2
    assert json.loads(text)["code"] == "no-run"
