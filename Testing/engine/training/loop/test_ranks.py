"""Two processes of `torchrun` over gloo train as one does; one that dies ends both, and no more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from e2enet.events import BadInput
from e2enet.networks import E2ENet
from e2enet.training.loop.checkpoint import load_checkpoint
from e2enet.training.loop.ranks import Ranks
from e2enet.training.train import train
from torch import nn

SMALL: dict[str, Any] = {
    "patch": (16, 16, 16), "batch_size": 2, "base_channels": 4, "levels": 3, "epochs": 3,
    "iterations_per_epoch": 4, "evolve_every": 3, "workers": 0, "device": "cpu",
    "batch_dice": True, "seed": 3,
}  # fmt: skip

pytestmark = pytest.mark.skipif(os.name != "posix", reason="finds the ranks in /proc")


def command(dataset: Path, output: Path) -> list[str]:
    words = ["--progress", "json"]
    for name, value in SMALL.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [text])]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    start = [sys.executable, *launcher, "-m", "e2enet", "train", str(dataset)]
    return [*start, "--output", str(output), *words]


def train_by_two(dataset: Path, output: Path) -> list[dict]:
    """The events of a training by two processes."""
    done = subprocess.run(
        command(dataset, output), capture_output=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def state(output: Path) -> dict:
    return load_checkpoint(output.with_name(f"{output.name}.run") / "checkpoint.safetensors")


def assert_alike(one: dict, other: dict) -> None:
    """Masks and decisions are the same, weights but for the order of sums."""
    assert one["masks"].keys() == other["masks"].keys()
    for name, mask in one["masks"].items():
        assert torch.equal(torch.as_tensor(mask), torch.as_tensor(other["masks"][name])), name
    for name, weight in one["network"].items():
        torch.testing.assert_close(weight, other["network"][name], rtol=1e-3, atol=1e-4)
    assert [row["iteration"] for row in one["rows"]] == [row["iteration"] for row in other["rows"]]
    for mine, others in zip(one["rows"], other["rows"], strict=True):
        assert mine["loss"] == pytest.approx(others["loss"], abs=1e-3)


@pytest.fixture(scope="module")
def alone(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training by one process, of three epochs."""
    output = tmp_path_factory.mktemp("alone") / "model"
    assert train(tiny_dataset, output, **SMALL).state == "finished"
    return output


def test_two_train_as_one(alone: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    events = train_by_two(tiny_dataset, output)
    # One of them talks, measures and writes.
    assert [event["event"] for event in events].count("result") == 1
    assert len([event for event in events if event.get("name") == "epoch"]) == 3
    assert (output / "model.json").is_file()
    both = state(output)
    assert len(both["evolution"]["history"]) > 2
    assert_alike(both, state(alone))


def ranks_below(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sorted(int(number) for number in found)


def rank_of(pid: int) -> str:
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((e[5:].decode() for e in environment if e.startswith(b"RANK=")), "")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_death_ends_both_and_one_goes_on(alone: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    process = subprocess.Popen(
        command(tiny_dataset, output),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if '"epoch"' in line:
            break
    victims = [pid for pid in ranks_below(process.pid) if rank_of(pid) == "1"]
    survivors = [pid for pid in ranks_below(process.pid) if rank_of(pid) == "0"]
    assert len(victims) == len(survivors) == 1
    os.kill(victims[0], signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    for _ in range(100):
        if not Path(f"/proc/{survivors[0]}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{survivors[0]}").exists()
    assert 4 <= state(output)["iteration"] < 12
    assert train(tiny_dataset, output, resume=True, device="cpu").state == "finished"
    assert_alike(state(output), state(alone))


def test_a_batch_that_does_not_divide_leaves_nothing(tiny_dataset: Path, tmp_path: Path) -> None:
    words = command(tiny_dataset, tmp_path / "three")
    words[words.index("--batch-size") + 1] = "3"
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode != 0
    assert "cannot be shared by 2 processes" in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


def test_what_so_many_cannot_train() -> None:
    network = E2ENet(1, 2, [(2, 2, 2)], base_channels=4)
    Ranks(0, 2).check(network, 4)
    Ranks().check(nn.Sequential(nn.BatchNorm3d(2)), 3)
    with pytest.raises(BadInput) as caught:
        Ranks(0, 2).check(network, 3)
    assert caught.value.code == "ranks-do-not-divide"
    with pytest.raises(BadInput) as caught:
        Ranks(0, 2).check(nn.Sequential(nn.BatchNorm3d(2)), 4)
    assert caught.value.code == "ranks-batch-norm"


def test_shares_make_the_batch() -> None:
    batch = list(range(6))
    assert [n for rank in range(3) for n in Ranks(rank, 3).share(batch)] == batch
