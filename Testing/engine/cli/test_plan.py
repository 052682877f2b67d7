"""`e2enet plan`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from e2enet.data.planning.plan import Plan


def e2enet(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "e2enet", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


def test_prints_a_plan_that_can_be_read(tiny_dataset: Path) -> None:
    done = e2enet("plan", tiny_dataset, "--workers", 0)
    assert done.returncode == 0
    plan = Plan.from_dict(json.loads(done.stdout))
    assert plan.spacing == (1, 1, 1)


def test_writes_a_plan(tiny_dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "plan.json"
    done = e2enet(
        "plan", tiny_dataset, "--output", output, "--patch", "16x24x16", "--batch-size", 3,
        "--workers", 0, "--progress", "json", "--show", tmp_path / "seen.png",
    )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1] == {"event": "result", "plan": str(output)}
    plan = Plan.load(output)
    assert (plan.patch, plan.batch_size) == ((16, 24, 16), 3)


def test_a_plan_keeps_its_width(tiny_dataset: Path) -> None:
    wide, narrow = (
        json.loads(e2enet("plan", tiny_dataset, "--workers", 0, *more).stdout)
        for more in (("--memory-gb", 3, "--device", "cpu"), ("--base-channels", 16))
    )
    assert (wide["base_channels"], narrow["base_channels"]) == (48, 16)


def test_bad_input(tmp_path: Path, tiny_dataset: Path) -> None:
    done = e2enet("plan", tmp_path)
    assert done.returncode == 2
    assert "dataset.json" in done.stderr
    assert "Traceback" not in done.stderr
    done = e2enet("plan", tiny_dataset, "--patch", "17x17x17", "--workers", 0)
    assert done.returncode == 2
