"""`make bench`: speed and memory on this machine, as ratios taken in one run.

Every workload runs in a process of its own, the workloads in turn, several rounds; a row shows
medians. Prints tables and writes bench.json, one object a row.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import deployed
import heads
import machine
import memory
import segmenting
import torch
from interleaving import Run, against, agreement, child, interleave, measured, medians, ratio
from report import draw_sweep, print_report
from rich.console import Console
from workloads import SEED, SIZE, Workload, e2enet

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SWEEP = (0.0, 0.5, 0.7, 0.8, 0.9)
PAPER, HALF = "cpu_fp32_forward_s0.8", "cpu_16bit_forward_s0.8"
GROWTH = ((32, 64, 64), (32, 128, 128), (64, 128, 128))  # patches
VOLUMES = (96, 160, 256)  # edges
NAMES = {"seconds": "time_s", "peak_mib": "memory_mib"}  # in bench.json
NOT_HERE = "not measured here"
GROUPS = ("forward", "deployed", "training", "gpu", "segment", "heads", "growth")
TARGETS: dict[str, dict[str, float]] = {
    PAPER: {
        "target_time_vs_nnunet": 0.5,
        "target_time_vs_openvino": 0.5,
        "target_memory_vs_nnunet": 0.45,
        "target_times_faster_than_released": 8,
    },
    HALF: {"target_time_vs_openvino": 0.7},
    "segment_head_cold": {"target_seconds": 2.5, "target_time_vs_hippodeep": 0.5},
    "segment_head_warm": {"target_seconds": 0.5},
    "segment_head_first": {"target_extra_s": 3.0},
    "cpu_training_step_s0.8": {"target_time_vs_nnunet": 0.55, "target_memory_vs_nnunet": 1.3},
}
Rows = dict[str, dict[str, Any]]


class Bench:
    """The rows of one run, measured group by group."""

    def __init__(
        self,
        *,
        rounds: int,
        size: tuple[int, ...],
        threads: int,
        folder: Path,
        console: Console,
        hippodeep: Path | None = None,
    ) -> None:
        self.hippodeep = hippodeep
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
            workloads[f"{half}_s0.8"] = (
                "E2ENet, S = 0.8",
                Workload("compiled", precision="bfloat16"),
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
            self.rows[f"{half}_s0.8"] = {
                "what": "E2ENet, S = 0.8",
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
            self._agree(f"{half}_s0.8", f"{prefix}_s0.8_reference")
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

    def deployed(self) -> None:
        """nnU-Net as it is deployed, where that is installed, and E2ENet, in the same rounds."""
        prefix, models = "cpu_fp32_forward", str(self.folder)
        others = {
            f"{prefix}_openvino": ("nnU-Net, OpenVINO", "openvino", "float32"),
            "cpu_bf16_forward_openvino": ("nnU-Net, OpenVINO, bfloat16", "openvino", "bfloat16"),
            "cpu_int8_forward_openvino": ("nnU-Net, OpenVINO, int8", "openvino-int8", "float32"),
            f"{prefix}_onnxruntime": ("nnU-Net, ONNX Runtime", "onnxruntime", "float32"),
            f"{prefix}_torch_compile": ("nnU-Net, torch.compile", "torch-compile", "float32"),
        }
        workloads = {
            f"{prefix}_nnunet": ("nnU-Net, as shipped", Workload("nnunet")),
            PAPER: ("E2ENet, S = 0.8", Workload("compiled")),
            HALF: ("E2ENet, S = 0.8, 16 bit", Workload("compiled", precision="bfloat16")),
        }
        earlier = {name: self.rows[name] for name in workloads if name in self.rows}
        for name, (what, kind, precision) in others.items():
            note = deployed.lacking(kind)
            if precision == "bfloat16" and not machine.has_bfloat16():
                note = f"{NOT_HERE}: this CPU has no bfloat16"
            if note:
                self.rows[name] = {"what": what, "note": note}
                continue
            workloads[name] = (what, Workload(kind, precision=precision, folder=models))  # type: ignore[arg-type]
        kinds = {w.kind for _, w in workloads.values()} & deployed.NEEDS.keys()
        if kinds - {"torch-compile"}:
            sizes = [str(n) for n in self.size]
            script = [sys.executable, str(HERE / "deployed.py"), models, "--size", *sizes]
            quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run([*script, "--kinds", *sorted(kinds)], check=True, **quiet)
        runs = self._interleave(workloads)
        for name in runs:
            self.rows[name] |= against(runs[name], runs[f"{prefix}_nnunet"], "nnunet")
            half = "cpu_bf16_forward_openvino" if name == HALF else f"{prefix}_openvino"
            if half in runs and name != half:
                self.rows[name]["time_vs_openvino"] = ratio(runs[name], runs[half])
        if "cpu_int8_forward_openvino" in runs:
            eight = runs["cpu_int8_forward_openvino"]
            self.rows[HALF]["time_vs_openvino_int8"] = ratio(runs[HALF], eight)
        self._agree(HALF, PAPER)
        for name, row in earlier.items():  # what else was measured of it stays
            self.rows[name] = {**self.rows[name], **row}

    def heads(self) -> None:
        """`e2enet segment` on heads of 256³ voxels."""
        works = heads.works(self.folder, self.threads, self.hippodeep)
        works["segment_head_cold"](-1)  # unmeasured: compiles kernels, reads files
        runs = interleave(works, self.rounds, self._say)
        for name, found in runs.items():
            self.rows[name] = {"what": heads.WHAT[name], **medians(found), "rounds": self.rounds}
        cold, first = runs["segment_head_cold"], runs["segment_head_first"]
        extra = [a["seconds"] - b["seconds"] for a, b in zip(first, cold, strict=True)]
        self.rows["segment_head_first"]["extra_s"] = statistics.median(extra)
        if other := runs.get("segment_head_hippodeep"):
            self.rows["segment_head_cold"]["time_vs_hippodeep"] = ratio(cold, other)
        else:
            self.rows["segment_head_hippodeep"] = {
                "what": heads.WHAT["segment_head_hippodeep"],
                "note": "not measured: --hippodeep names its folder",
            }

    def growth(self) -> None:
        """Time and memory of a forward against voxels and threads, of `segment` against volume."""
        works: dict[str, Callable[[int], Run]] = {}
        about: dict[str, dict[str, Any]] = {}
        for size in GROWTH:
            voxels, text = math.prod(size), " × ".join(map(str, size))
            for kind, what in (("compiled", "E2ENet, S = 0.8"), ("nnunet", "nnU-Net")):
                name = f"growth_{kind}_{voxels}"
                about[name] = {"what": f"{what}, {text}", "voxels": voxels}
                sized = Workload(kind, size=size)  # type: ignore[arg-type]
                works[name] = lambda _, a=sized: measured(a, self.threads)  # type: ignore[misc]
        for threads in sorted({1, 2, self.threads}):
            name = f"growth_threads_{threads}"
            about[name] = {"what": f"E2ENet, S = 0.8, threads: {threads}", "threads": threads}
            sized = Workload("compiled", size=self.size)
            works[name] = lambda _, a=sized, n=threads: measured(a, n)  # type: ignore[misc]
        model = memory.make_model(self.folder / "tiny", patch=(64, 96, 96), classes=16)
        for edge in VOLUMES:
            name = f"growth_volume_{edge}"
            about[name] = {"what": f"segment, {edge}³, 16 classes", "voxels": edge**3}
            volume = memory.make_volume(self.folder / f"{edge}.nii", (edge,) * 3, 1.0)

            def work(_: int, a: Path = volume) -> Run:
                peak, seconds = memory.peak_of(a, model, a.with_name(f"{a.stem}_out.nii"))
                return {"seconds": seconds, "peak_mib": peak / 2**20}

            works[name] = work
        runs = interleave(works, self.rounds, self._say)
        for name, found in runs.items():
            self.rows[name] = {**about[name], **medians(found), "rounds": self.rounds}
            if "threads" in about[name]:
                self.rows[name]["times_faster_than_1_thread"] = ratio(
                    runs["growth_threads_1"], found
                )

    def training(self) -> None:
        """One optimiser step, deep supervision and all."""
        prefix = "cpu_training_step"
        workloads = {
            f"{prefix}_nnunet": ("nnU-Net, as shipped", Workload("nnunet", train=True)),
            f"{prefix}_s0.8": ("E2ENet, S = 0.8", Workload("trainer", train=True)),
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
            f"{prefix}_s0.8": ("E2ENet, S = 0.8", Workload("compiled", **options)),
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
        exact = Workload("reference", device="cuda", size=self.size)
        measured(exact, self.threads, self._logits("gpu_reference"))
        for name in (f"{prefix}_s0.8", f"{prefix}_s0.8_released"):
            self._agree(name, "gpu_reference")

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
    parser.add_argument("--hippodeep", type=Path, help="folder of hippodeep_pytorch, to measure")
    parser.add_argument("--output", type=Path, default=ROOT / "bench.json")
    options = parser.parse_args()
    if any(n < 32 or n % 32 for n in options.patch) or max(options.patch) == 32:
        parser.error("--patch takes multiples of 32, at least one of them larger than 32")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.threads < 1:
        parser.error("--threads must be at least 1")
    # What would only be missed once everything is measured.
    if options.hippodeep and not (options.hippodeep / "hippodeep.py").is_file():
        parser.error(f"--hippodeep {options.hippodeep} holds no hippodeep.py")
    if not options.output.absolute().parent.is_dir():
        parser.error(f"--output {options.output}: its folder does not exist")
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
            hippodeep=options.hippodeep,
        )
        for group in options.only:
            getattr(bench, group)()
    rows = bench.rows
    for name in TARGETS.keys() & rows.keys():
        rows[name] |= TARGETS[name]
    facts["minutes"] = round((time.time() - started) / 60, 1)
    named = {
        name: {NAMES.get(key, key): value for key, value in row.items()}
        for name, row in rows.items()
    }
    options.output.write_text(json.dumps({"machine": facts, **named}, indent=2) + "\n")
    print_report(facts, rows, console)
    if "sparsity" in rows.get(PAPER, {}) and tuple(options.patch) == SIZE:
        plot = HERE / "results" / "time_against_sparsity.png"
        draw_sweep(facts, rows, plot)
        console.print(f"Drawn in {plot.relative_to(ROOT)}", highlight=False)
    console.print(f"Written to {options.output.name}", highlight=False)


if __name__ == "__main__":
    main()
