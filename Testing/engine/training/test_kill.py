"""A run that is killed, really and at a random moment, ends as if it had never been."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from e2enet.training.loop.checkpoint import load_checkpoint

from .conftest import assert_same

# fmt: off
OPTIONS = [
    "--epochs", "6", "--iterations-per-epoch", "10", "--base-channels", "4", "--levels", "3",
    "--patch", "16,16,16", "--batch-size", "2", "--seed", "11",
    "--device", "cpu", "--workers", "0", "--progress", "json",
]
# fmt: on
KILLS = int(os.environ.get("E2ENET_TEST_KILLS", "2"))  # more find what two may miss


def start(dataset: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "e2enet", "train", os.fspath(dataset), "--output"]
    return subprocess.Popen(
        [*command, os.fspath(output), *OPTIONS, *more],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def events(process: subprocess.Popen[str], until: str | None = None) -> list[dict[str, Any]]:
    """What the process says, to its end or up to the first event of a stage."""
    found = []
    assert process.stdout is not None
    for line in process.stdout:
        found.append(json.loads(line))
        if until and found[-1].get("stage") == until:
            break
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
@pytest.mark.parametrize("period", ["8", "10"], ids=["within epochs", "on an epoch's last step"])
def test_killed_at_random_moments(tiny_dataset: Path, tmp_path: Path, period: str) -> None:
    evolve = ("--evolve-every", period)
    calm = tmp_path / "calm" / "model"
    process = start(tiny_dataset, calm, *evolve)
    events(process, "training")
    began = time.monotonic()
    assert events(process)[-1]["event"] == "result"
    duration = time.monotonic() - began
    assert process.wait() == 0

    stormy = tmp_path / "stormy" / "model"
    moments, resume = [], []
    for _ in range(KILLS):
        process = start(tiny_dataset, stormy, *evolve, *resume)
        events(process, "training")
        moments.append(random.uniform(0, duration / KILLS))
        time.sleep(moments[-1])
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
        resume = ["--resume"]
    process = start(tiny_dataset, stormy, "--resume")
    last = events(process)[-1]
    assert process.wait() == 0, moments
    assert last["state"] == "finished", moments

    one, other = (
        load_checkpoint(path.with_name("model.run") / "checkpoint.safetensors")
        for path in (calm, stormy)
    )
    assert one["iteration"] == 60
    assert one["optimizer"].keys() <= one["network"].keys()
    assert_same(other, one, f"killed after {moments}")
    assert metrics(stormy) == metrics(calm)
    for name in ("weights.safetensors", "evolution.json"):
        assert (stormy / name).read_bytes() == (calm / name).read_bytes()


def metrics(output: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without the clock."""
    with (output.with_name("model.run") / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        del row["seconds"]
    return rows
