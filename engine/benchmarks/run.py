"""`make bench`: speed and memory on this machine, as ratios taken in one run.

Every subject runs in a process of its own, the subjects in turn, several rounds; a row shows
medians. Prints a table and writes bench.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import e2enet
import torch
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BASELINE = "nnunet"
SUBJECTS = {
    "e2enet": "E2ENet, S = 0.8",
    "nnunet": "nnU-Net, as shipped",
    "nnunet-channels-last": "nnU-Net, channels-last",
}


def child(*command: str) -> str:
    """Run a Python child and return its last line; its errors pass through."""
    done = subprocess.run([sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().splitlines()[-1]


def forward_rows(rounds: int, console: Console) -> dict[str, Any]:
    """Forward time and peak memory of each subject, and their ratio to the baseline."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in SUBJECTS}
    for number in range(rounds):
        for name in SUBJECTS:
            runs[name].append(json.loads(child(str(HERE / "subjects.py"), name)))
            console.print(
                f"round {number + 1}/{rounds}  {name}: {runs[name][-1]['seconds']:.2f} s",
                style="dim",
                highlight=False,
            )
    rows = {}
    for name, measured in runs.items():
        pairs = list(zip(measured, runs[BASELINE], strict=True))
        rows[f"cpu_fp32_forward_{name}"] = {
            "what": SUBJECTS[name],
            "seconds": statistics.median(run["seconds"] for run in measured),
            "peak_mib": statistics.median(run["mib"] for run in measured),
            "time_vs_nnunet": statistics.median(a["seconds"] / b["seconds"] for a, b in pairs),
            "memory_vs_nnunet": statistics.median(a["mib"] / b["mib"] for a, b in pairs),
            "rounds": rounds,
        }
    return rows


def segment_row(rounds: int) -> dict[str, Any]:
    """`e2enet segment` on the sample head, each time in a fresh process."""
    sample = ROOT / "Resources" / "Samples" / "MNI152_T1_1mm.nii.gz"
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            start = time.perf_counter()
            child(
                *("-m", "e2enet", "segment", str(sample), "--model", "hippocampus-mr"),
                *("--output", str(Path(folder) / "out.nii.gz"), "--progress", "json"),
            )
            seconds.append(time.perf_counter() - start)
    return {
        "what": "segment, whole head, cold",
        "seconds": statistics.median(seconds),
        "rounds": rounds,
    }


def machine() -> dict[str, Any]:
    """What a reader needs to know to compare."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "e2enet": e2enet.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "not measured here",
    }


def table(rows: dict[str, Any]) -> Table:
    """The rows for a person."""
    result = Table(title="64 x 128 x 128 patch, 16 classes, fp32, CPU", title_justify="left")
    result.add_column("what")
    for name in ("time (s)", "/ nnU-Net", "peak (MiB)", "/ nnU-Net"):
        result.add_column(name, justify="right", no_wrap=True)
    for row in rows.values():
        result.add_row(
            row["what"],
            f"{row['seconds']:.2f}",
            f"{row['time_vs_nnunet']:.2f}" if "time_vs_nnunet" in row else "",
            f"{row['peak_mib']:.0f}" if "peak_mib" in row else "",
            f"{row['memory_vs_nnunet']:.2f}" if "memory_vs_nnunet" in row else "",
        )
    return result


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="Repetitions of every row.")
    parser.add_argument("--output", type=Path, default=ROOT / "bench.json")
    arguments = parser.parse_args()
    console = Console()
    facts = machine()
    rows = forward_rows(arguments.rounds, console)
    rows["cpu_segment_sample"] = segment_row(min(3, arguments.rounds))
    console.print("  ".join(f"{key} {value}" for key, value in facts.items()), highlight=False)
    console.print(table(rows))
    arguments.output.write_text(json.dumps({"machine": facts, **rows}, indent=2) + "\n")
    console.print(f"Written to {arguments.output}")


if __name__ == "__main__":
    main()
