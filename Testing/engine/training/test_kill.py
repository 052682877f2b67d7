"""A run that is killed, really and at a random moment, ends as if it had never been."""

from __future__ import annotations

import csv
import os
import random
import signal
import time
from pathlib import Path

import pytest
from e2enet.training.loop.checkpoint import load_checkpoint

from .conftest import assert_same
from .forks import Forks

# fmt: off
OPTIONS = [
    "--epochs", "6", "--iterations-per-epoch", "10", "--base-channels", "4", "--levels", "3",
    "--patch", "16,16,16", "--batch-size", "2", "--seed", "11",
]
# fmt: on
KILLS = int(os.environ.get("E2ENET_TEST_KILLS", "2"))  # more find what two may miss


@pytest.mark.parametrize("period", ["8", "10"], ids=["within epochs", "on an epoch's last step"])
def test_killed_at_random_moments(
    tiny_dataset: Path, tmp_path: Path, forks: Forks, period: str
) -> None:
    options = (*OPTIONS, "--evolve-every", period)
    calm = tmp_path / "calm" / "model"
    run = forks.train(tiny_dataset, calm, *options)
    run.until("stage", "training")
    began = time.monotonic()
    assert list(run.events)[-1]["event"] == "result"
    duration = time.monotonic() - began
    assert run.wait() == 0

    stormy = tmp_path / "stormy" / "model"
    moments, resume = [], []
    for _ in range(KILLS):
        run = forks.train(tiny_dataset, stormy, *options, *resume)
        run.until("stage", "training")
        moments.append(random.uniform(0, duration / KILLS))
        time.sleep(moments[-1])
        assert run.kill() in (0, -signal.SIGKILL), moments
        resume = ["--resume"]
    run = forks.train(tiny_dataset, stormy, "--resume")
    last = list(run.events)[-1]
    assert run.wait() == 0, moments
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
