"""`make bench`: speed and memory on this machine, as ratios taken in one run.

Every workload runs in a process of its own, the workloads in turn, several rounds; a row shows
medians. Prints tables and writes bench.json, one object a row.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import machine
import segmenting
import torch
from interleaving import Run, against, agreement, child, interleave, measured, medians, ratio
from report import draw_sweep, print_report
from rich.console import Console
from workloads import SEED, SIZE, Workload, e2enet

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SWEEP = (0.0, 0.5, 0.7, 0.8, 0.9)
PAPER = "cpu_fp32_forward_s0.8"
NOT_HERE = "not measured here"
GROUPS = ("forward", "training", "gpu", "segment")
TARGETS: dict[str, dict[str, float]] = {
    PAPER: {
        "target_time_vs_nnunet": 0.5,
        "target_memory_vs_nnunet": 0.65,
        "target_times_faster_than_released": 8,
    },
    "cpu_bf16_forward_s0.8_g16": {"target_time_vs_nnunet_channels_last": 0.7},
    "gpu_fp16_forward_s0.8_g16": {"target_time_vs_nnunet": 0.8},
    "cpu_training_step_s0.8": {"target_time_vs_nnunet": 2.2},
    "cpu_training_step_s0.8_g16": {"target_time_vs_nnunet": 1.2},
}
Rows = dict[str, dict[str, Any]]


class Bench:
    """The rows of one run, measured group by group."""

    def __init__(
        self, *, rounds: int, size: tuple[int, ...], threads: int, folder: Path, console: Console
    ) -> None:
        self.rounds, self.size, self.threads, self.folder = rounds, size, threads, folder
        self._say = partial(console.print, style="dim", highlight=False)
        self.rows: Rows = {}

    def forward(self) -> None:
        """All forwards on the CPU, in the same rounds."""
        prefix = "cpu_fp32_forward"
        workloads = {
            f"{prefix}_nnunet": ("nnU-Net, as shipped", Workload("nnunet")),
            f"{prefix}_nnunet_channels_last": (
                "nnU-Net, channels-last",
                Workload("nnunet-channels-last"),
            ),
        }
        for s in SWEEP:
            workloads[f"{prefix}_s{s:g}"] = (f"E2ENet, S = {s:g}", Workload("compiled", s))
        workloads |= {
            f"{prefix}_s0.8_reference": ("E2ENet, plain network", Workload("reference")),
            f"{prefix}_s0.8_released": ("E2ENet, released semantics", Workload("released")),
        }
        half = "cpu_bf16_forward"
        if machine.has_bfloat16():
            for group, end in ((16, "_g16"), (1, "")):
                workloads[f"{half}_s0.8{end}"] = (
                    f"E2ENet, S = 0.8, g = {group}",
                    Workload("compiled", group=group, precision="bfloat16"),
                )
            workloads[f"{half}_nnunet"] = (
                "nnU-Net, bf16, as shipped",
                Workload("nnunet", precision="bfloat16"),
            )
            workloads[f"{half}_nnunet_channels_last"] = (
                "nnU-Net, bf16, channels-last",
                Workload("nnunet-channels-last", precision="bfloat16"),
            )
        else:
            self.rows[f"{half}_s0.8_g16"] = {
                "what": "E2ENet, S = 0.8, g = 16",
                "note": f"{NOT_HERE}: this CPU has no bfloat16",
            }
        slow = (f"{prefix}_s0.8_reference", f"{prefix}_s0.8_released")
        runs = self._interleave(workloads, slow=slow)
        rows = self.rows
        nnunet, last = runs[f"{prefix}_nnunet"], runs[f"{prefix}_nnunet_channels_last"]
        for name in runs:
            if not name.startswith(half):
                rows[name] |= against(runs[name], nnunet, "nnunet")
        self._count(nnunet)
        rows[PAPER] |= against(runs[PAPER], last, "nnunet_channels_last")
        released = runs[f"{prefix}_s0.8_released"]
        rows[PAPER]["times_faster_than_released"] = ratio(released, runs[PAPER])
        rows[PAPER]["memory_vs_released"] = ratio(runs[PAPER], released, "peak_mib")
        if machine.has_bfloat16():
            planar, last = runs[f"{half}_nnunet"], runs[f"{half}_nnunet_channels_last"]
            for name in runs:
                if name.startswith(half):
                    rows[name] |= against(runs[name], planar, "nnunet")
                    rows[name] |= against(runs[name], last, "nnunet_channels_last")
                    if "s0.8" in name:
                        rows[name]["note"] = "computed in float32, as the plan does on a CPU"
            self._agree(f"{half}_s0.8", f"{prefix}_s0.8_reference")
            grouped = Workload("reference", group=16, size=self.size)
            measured(grouped, self.threads, self._logits("reference_g16"))
            self._agree(f"{half}_s0.8_g16", "reference_g16")
        for name in (PAPER, f"{prefix}_s0.8_released"):
            self._agree(name, f"{prefix}_s0.8_reference")

    def _count(self, nnunet: list[Run]) -> None:
        """Multiply-adds and floors of the sweep; nnU-Net's time is drawn beside."""
        probes = [child("machine.py", "--threads", str(self.threads)) for _ in range(3)]
        peak = {key: max(found[key] for found in probes) for key in probes[0]}
        self.rows["machine_peak"] = peak
        for s in SWEEP:
            network, connections = e2enet(Workload("compiled", s))
            found = machine.floor(network, connections.live_by_layer, self.size, peak)
            row = self.rows[f"cpu_fp32_forward_s{s:g}"]
            row |= {"sparsity": s, **found, "time_vs_floor": row["seconds"] / found["floor_s"]}

    def training(self) -> None:
        """One optimiser step, deep supervision and all."""
        prefix = "cpu_training_step"
        workloads = {
            f"{prefix}_nnunet": ("nnU-Net, as shipped", Workload("nnunet", train=True)),
            f"{prefix}_s0.8": ("E2ENet, S = 0.8, g = 1", Workload("trainer", train=True)),
            f"{prefix}_s0.8_g16": (
                "E2ENet, S = 0.8, g = 16",
                Workload("trainer", group=16, train=True),
            ),
        }
        runs = self._interleave(workloads)
        for name in runs:
            self.rows[name] |= against(runs[name], runs[f"{prefix}_nnunet"], "nnunet")

    def gpu(self) -> None:
        """The forward in 16 bit on a GPU, where there is one."""
        prefix = "gpu_fp16_forward"
        options: dict[str, Any] = {"precision": "float16", "device": "cuda"}
        workloads = {
            f"{prefix}_nnunet": ("nnU-Net, as shipped", Workload("nnunet", **options)),
            f"{prefix}_s0.8_g16": (
                "E2ENet, S = 0.8, g = 16",
                Workload("compiled", group=16, **options),
            ),
            f"{prefix}_s0.8": ("E2ENet, S = 0.8, g = 1", Workload("compiled", **options)),
            f"{prefix}_s0.8_released": (
                "E2ENet, released semantics",
                Workload("released", **options),
            ),
        }
        if not torch.cuda.is_available():
            for name, (what, _) in workloads.items():
                self.rows[name] = {"what": what, "note": NOT_HERE}
            return
        runs = self._interleave(workloads, device=torch.cuda.get_device_name())
        for name in runs:
            self.rows[name] |= against(runs[name], runs[f"{prefix}_nnunet"], "nnunet")
        for group, end in ((16, "_g16"), (1, "")):
            exact = Workload("reference", group=group, device="cuda", size=self.size)
            measured(exact, self.threads, self._logits(f"gpu_reference_g{group}"))
            self._agree(f"{prefix}_s0.8{end}", f"gpu_reference_g{group}")
        self._agree(f"{prefix}_s0.8_released", "gpu_reference_g1")

    def segment(self) -> None:
        """`e2enet segment` in fresh processes."""
        works = segmenting.works(self.folder)
        works["segment_head_sparse"](-1)  # unmeasured: compiles kernels, reads files
        runs = interleave(works, self.rounds, self._say)
        for name, found in runs.items():
            self.rows[name] = {"what": segmenting.WHAT[name], **medians(found)}
            self.rows[name]["rounds"] = self.rounds
            if name.endswith("_sparse"):
                plain = runs[name.replace("_sparse", "_reference")]
                self.rows[name] |= {
                    "time_vs_reference": ratio(found, plain),
                    "inference_vs_reference": ratio(found, plain, "inference_s"),
                    "differing_voxels": segmenting.differing(self.folder, name),
                }

    def _interleave(
        self, workloads: dict[str, tuple[str, Workload]], *, slow: tuple[str, ...] = (), **more: Any
    ) -> dict[str, list[Run]]:
        """Measure workloads and make their rows; the E2ENets' first logits are kept."""
        works: dict[str, Callable[[int], Run]] = {}
        for name, (_, workload) in workloads.items():
            sized = Workload(**{**vars(workload), "size": self.size})
            saved = None if workload.train or workload.of_others else self._logits(name)
            works[name] = lambda number, a=sized, b=saved: measured(  # type: ignore[misc]
                a, self.threads, None if number else b
            )
        runs = interleave(works, self.rounds, self._say, slow=slow)
        for name, (what, _) in workloads.items():
            self.rows[name] = {"what": what, **medians(runs[name]), "rounds": len(runs[name])}
            self.rows[name] |= more
        return runs

    def _logits(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _agree(self, name: str, expected: str) -> None:
        self.rows[name] |= agreement(self._logits(name), self._logits(expected))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of every row (default 3)")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP")
    parser.add_argument("--patch", type=int, nargs=3, default=SIZE, metavar="N", help="D H W")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=ROOT / "bench.json")
    options = parser.parse_args()
    if any(n < 32 or n % 32 for n in options.patch) or max(options.patch) == 32:
        parser.error("--patch takes multiples of 32, at least one of them larger than 32")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    console = Console()
    if not console.is_terminal:  # a file has no width; the tables are made for this one
        console = Console(width=100)
    started = time.time()
    facts = machine.facts(options.threads)
    facts |= {"seed": SEED, "patch": list(options.patch), "rounds": options.rounds}
    facts["command"] = " ".join(["python engine/benchmarks/run.py", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            rounds=options.rounds,
            size=tuple(options.patch),
            threads=options.threads,
            folder=Path(folder),
            console=console,
        )
        for group in options.only:
            getattr(bench, group)()
    rows = bench.rows
    for name in TARGETS.keys() & rows.keys():
        rows[name] |= TARGETS[name]
    facts["minutes"] = round((time.time() - started) / 60, 1)
    options.output.write_text(json.dumps({"machine": facts, **rows}, indent=2) + "\n")
    print_report(facts, rows, console)
    if PAPER in rows and tuple(options.patch) == SIZE:
        plot = HERE / "results" / "time_against_sparsity.png"
        draw_sweep(facts, rows, plot)
        console.print(f"Drawn in {plot.relative_to(ROOT)}", highlight=False)
    console.print(f"Written to {options.output.name}", highlight=False)


if __name__ == "__main__":
    main()
