"""`make gpu-check`: what a GPU does with this engine, with no data from outside of the repository.

Prints one table and writes gpu-check.json. Without a CUDA device it says so, and runs on the CPU
what can be run there.

    python engine/benchmarks/gpu_check.py [--only parity segment …] [--output gpu-check.json]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from e2enet.bundle import Bundle
from e2enet.dsff import Connections
from e2enet.inference import segment
from e2enet.inference.segmenter import Recorder
from e2enet.networks import E2ENet
from e2enet.runtime import execution_plan
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "Resources" / "Samples" / "MNI152_T1_1mm.nii.gz"
MODEL = ROOT / "Resources" / "Models" / "hippocampus-mr"
LEFT_RIGHT = ("Left:8,-10,-40,48,40,0", "Right:-48,-10,-40,-8,40,0")  # mm; nothing is located

Found = tuple[bool | None, dict[str, Any]]  # None: it needs a GPU


def tests(device: str) -> Found:
    """The tests that need CUDA."""
    if device == "cpu":
        return None, {}
    command = [sys.executable, "-m", "pytest", "-q", ROOT / "Testing" / "engine", "-k"]
    done = _run([*command, "cuda or gpu or mixed_precision"])
    lines = (done.stdout or done.stderr).strip().splitlines()
    return done.returncode == 0, {"said": lines[-1] if lines else ""}


def parity(device: str, base: int = 16) -> Found:
    """Logits of all runtimes against the network in double precision."""
    torch.manual_seed(0)
    network = E2ENet(1, 4, [(2, 2, 2)] * 3, base_channels=base, deep_supervision=False).eval()
    Connections.random(network, 0.8, seed=0).apply()
    image = torch.randn(1, 1, 32, 64, 64)
    with torch.inference_mode():
        exact = network.double()(image.double())
    network.float()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    found: dict[str, Any] = {}
    good = True
    for runtime in ("sparse", "reference"):
        for precision in ("float32", "float16") if device != "cpu" else ("float32",):
            plan = execution_plan(network, device, precision, runtime=runtime)  # type: ignore[arg-type]
            logits = plan(image.to(device)).cpu()
            error = float((logits.double() - exact).abs().max())
            same = float((logits.argmax(1) == exact.argmax(1)).double().mean())
            name = f"{plan.name}_{precision}"
            found[f"{name}_error"], found[f"{name}_equal_labels"] = error, same
            good &= error < 1e-3 if precision == "float32" else same > 0.995
    return good, found


def segmentation(device: str) -> Found:
    """Labels of the sample head against those of the CPU's reference runtime."""
    bundle = Bundle.open(MODEL)
    wanted = segment(SAMPLE, bundle, device="cpu", runtime="reference", roi=list(LEFT_RIGHT))
    found = segment(SAMPLE, bundle, device=device, roi=list(LEFT_RIGHT))
    differ = int((wanted.label != found.label).sum())
    voxels = int((wanted.label > 0).sum())
    seconds = found.manifest["stages_s"]["inference"]
    about = {"voxels": voxels, "differ": differ, "inference_s": seconds}
    return voxels > 0 and differ <= 0.01 * voxels, about


def training(device: str) -> Found:
    """A short training, and the same stopped after its first epoch and resumed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = made_dataset(folder / "Dataset900_Balls")
        first = _run(_train(dataset, folder / "whole", device))
        stopped = _stopped_after_an_epoch(_train(dataset, folder / "parts", device))
        second = _run([*_train(dataset, folder / "parts", device), "--resume"])
        bundles = [(folder / part / "model.json").is_file() for part in ("whole", "parts")]
        about = {
            "whole": first.returncode,
            "stopped": stopped,
            "resumed": second.returncode,
            "bundles": sum(bundles),
        }
        if first.returncode or second.returncode:
            about["said"] = (first.stdout + first.stderr + second.stdout + second.stderr)[-500:]
        return first.returncode == second.returncode == 0 and all(bundles), about


def out_of_memory(device: str) -> Found:
    """A GPU without room: the work goes on with fewer windows, then with the CPU, and says so."""
    if device == "cpu":
        return None, {}
    heard = Recorder(_Silent())
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        found = segment(SAMPLE, MODEL, device=device, roi=list(LEFT_RIGHT), reporter=heard)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    codes = [warning["code"] for warning in heard.warnings]
    used = found.manifest["device"]["used"]
    return "out-of-memory-cpu" in codes and used == "cpu", {"warnings": codes, "used": used}


def benchmark(device: str) -> Found:
    """The GPU rows of the benchmark, one round."""
    if device == "cpu":
        return None, {}
    with tempfile.TemporaryDirectory() as name:
        output = Path(name) / "bench.json"
        script = ROOT / "engine" / "benchmarks" / "run.py"
        options = ["--only", "gpu", "--rounds", "1", "--output", output]
        done = _run([sys.executable, script, *options])
        if done.returncode:
            return False, {"said": done.stderr[-500:]}
        rows = json.loads(output.read_text())
        return True, {name: row for name, row in rows.items() if name.startswith("gpu")}


CHECKS: dict[str, Callable[[str], Found]] = {
    "tests": tests,
    "parity": parity,
    "segment": segmentation,
    "training": training,
    "out-of-memory": out_of_memory,
    "benchmark": benchmark,
}


def made_dataset(folder: Path, cases: int = 5) -> Path:
    """A dataset in nnU-Net's layout: a bright ball in noise."""
    random = np.random.default_rng(0)
    grid = np.indices((24, 32, 32))
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number in range(cases):
        centre = random.uniform(10, 14, 3)
        ball = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) < 36
        image = random.normal(100, 20, ball.shape) + 100 * ball
        case = f"ball_{number:03d}"
        for array, path in (
            (image.astype(np.float32), folder / "imagesTr" / f"{case}_0000.nii.gz"),
            (ball.astype(np.uint8), folder / "labelsTr" / f"{case}.nii.gz"),
        ):
            sitk.WriteImage(sitk.GetImageFromArray(array), path)
    about = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "ball": 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def _train(dataset: Path, output: Path, device: str) -> list[Any]:
    return [
        sys.executable, "-m", "e2enet", "train", dataset, "--output", output, "--device", device,
        "--epochs", "2", "--iterations-per-epoch", "4", "--base-channels", "4", "--levels", "3",
        "--batch-size", "2", "--evolve-every", "2", "--workers", "0", "--progress", "json",
    ]  # fmt: skip


def _stopped_after_an_epoch(command: list[Any]) -> int:
    """Status of a training that gets an interrupt once it has told its first figures."""
    child = subprocess.Popen(
        list(map(os.fspath, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert child.stdout is not None
    with child:
        for line in child.stdout:
            if json.loads(line).get("event") == "metric":
                child.send_signal(signal.SIGINT)
                break
        child.stdout.read()
    return child.returncode


def _run(command: list[Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(os.fspath, command)), capture_output=True, text=True, check=False, cwd=ROOT
    )


class _Silent:
    def progress(self, stage: str, done: int, total: int) -> None: ...
    def warning(self, code: str, message: str) -> None: ...


def check(device: str, names: list[str]) -> dict[str, Any]:
    """Run checks by name; what fails is told, and the others still run."""
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device != "cpu" else "no CUDA device",
        "torch": torch.__version__,
        "checks": {},
    }
    for name in names:
        started = time.perf_counter()
        try:
            good, about = CHECKS[name](device)
        except Exception as error:
            good, about = False, {"said": f"{type(error).__name__}: {error}"}
        state = "needs a GPU" if good is None else "passed" if good else "FAILED"
        seconds = round(time.perf_counter() - started, 1)
        report["checks"][name] = {"state": state, "seconds": seconds, **about}
    return report


def show(report: dict[str, Any]) -> None:
    """One table of 100 columns."""
    table = Table("check", "state", "seconds", "found", title=f"{report['device']}", width=100)
    for name, row in report["checks"].items():
        found = ", ".join(f"{k} {v}" for k, v in row.items() if k not in ("state", "seconds"))
        table.add_row(name, row["state"], f"{row['seconds']:.1f}", found)
    Console(width=100).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), metavar="CHECK")
    parser.add_argument("--output", type=Path, default=ROOT / "gpu-check.json")
    options = parser.parse_args()
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        print("No CUDA device here: what can run on the CPU is run there.")
    report = check(device, options.only)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    show(report)
    return int(any(row["state"] == "FAILED" for row in report["checks"].values()))


if __name__ == "__main__":
    sys.exit(main())
