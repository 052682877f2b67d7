"""Workloads in turn, each in a process of its own, and medians of the ratios of each round."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from workloads import Workload

HERE = Path(__file__).parent
Run = dict[str, float]
Say = Callable[[str], None]


def child(script: str, *arguments: str, **environment: str) -> Any:
    """What a script of this folder prints as its last line, from JSON; its errors pass through."""
    command = [sys.executable, str(HERE / script), *arguments]
    variables = {**os.environ, **environment}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=variables)
    return json.loads(done.stdout.strip().splitlines()[-1])


def measured(workload: Workload, threads: int, logits: Path | None = None) -> Run:
    """A workload's run; its logits are saved if a file is named."""
    arguments = [json.dumps(asdict(workload)), "--threads", str(threads)]
    if logits:
        arguments += ["--logits", str(logits)]
    # As the command `e2enet` has it: PyTorch's threads sleep while they wait. For nnU-Net as well.
    waiting = {"OMP_WAIT_POLICY": "PASSIVE"} if workload.train else {}
    return child("workloads.py", *arguments, **waiting)  # type: ignore[no-any-return]


def interleave(
    works: Mapping[str, Callable[[int], Run]], rounds: int, say: Say, *, slow: Sequence[str] = ()
) -> dict[str, list[Run]]:
    """Do every work in each round, slow ones in the first two.

    A work is given the number of the round, from 0.
    """
    runs: dict[str, list[Run]] = {name: [] for name in works}
    for number in range(rounds):
        for name, work in works.items():
            if number >= 2 and name in slow:
                continue
            runs[name].append(work(number))
            say(f"round {number + 1}/{rounds}  {name}: {runs[name][-1]['seconds']:.2f} s")
    return runs


def medians(runs: list[Run]) -> Run:
    """The median of every number of the runs."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def ratio(runs: list[Run], baseline: list[Run], key: str = "seconds") -> float:
    """The median of the ratios of each round that has both."""
    return statistics.median(a[key] / b[key] for a, b in zip(runs, baseline, strict=False))


def against(runs: list[Run], baseline: list[Run], name: str) -> Run:
    """Ratios of time and memory, named `time_vs_…` and `memory_vs_…`."""
    return {
        f"time_vs_{name}": ratio(runs, baseline),
        f"memory_vs_{name}": ratio(runs, baseline, "peak_mib"),
    }


def agreement(found: Path, expected: Path) -> Run:
    """How far logits (B, K, D, H, W) lie apart, and the share of voxels with the same label."""
    a, b = np.load(found), np.load(expected)
    return {
        "max_abs_logit_difference": float(np.abs(a - b).max()),
        "equal_labels": float((a.argmax(1) == b.argmax(1)).mean()),
    }
