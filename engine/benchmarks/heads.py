"""`e2enet segment` on heads of 256³ voxels: cold, warm in a folder, the first time of all."""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from memory import CHILD
from segmenting import MODEL, SAMPLE

EDGE, SPACING = 256, 0.95  # voxels, mm
IN_FOLDER = 3
WHAT = {
    "segment_head_cold": "a process for a head",
    "segment_head_warm": "a further head in a folder",
    "segment_head_first": "a process without compiled kernels",
    "segment_head_hippodeep": "hippodeep, a process for a head",
}


def make_head(path: Path) -> Path:
    """The sample head on 256³ voxels with noise, 16 bit, compressed, as a scanner's are."""
    sample = sitk.ReadImage(str(SAMPLE), sitk.sitkFloat32)
    middle = sample.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in sample.GetSize()])
    direction = np.reshape(sample.GetDirection(), (3, 3))
    origin = np.array(middle) - direction @ np.full(3, SPACING * (EDGE - 1) / 2)
    head = sitk.Resample(
        sample, [EDGE] * 3, sitk.Transform(), sitk.sitkLinear, origin.tolist(), [SPACING] * 3,
        sample.GetDirection(), 0.0, sitk.sitkFloat32,
    )  # fmt: skip
    array = 6 * sitk.GetArrayFromImage(head)
    array = np.abs(array + np.random.default_rng(0).normal(0, 12, array.shape))
    noisy = sitk.GetImageFromArray(array.astype(np.int16))
    noisy.CopyInformation(head)
    sitk.WriteImage(noisy, str(path), True)
    return path


def works(
    folder: Path, threads: int, hippodeep: Path | None
) -> dict[str, Callable[[int], dict[str, float]]]:
    """What to measure, by name; files go below the folder."""
    head = make_head(folder / "head256.nii.gz")
    several = folder / "heads256"
    several.mkdir()
    for number in range(IN_FOLDER):
        shutil.copy(head, several / f"head{number}.nii.gz")

    def cold(number: int) -> dict[str, float]:
        return _segment(head, folder / f"cold_{number}.nii.gz", threads)

    def warm(number: int) -> dict[str, float]:
        output = folder / f"warm_{number}"
        whole = _segment(several, output, threads)
        found = [json.loads(one.read_text()) for one in sorted(output.glob("*.manifest.json"))]
        stages = found[1]["stages_s"]
        seconds = statistics.median(one["seconds"] for one in found[1:])
        return {
            "seconds": seconds,
            "processor_s": (whole["processor_s"] - cold(-2)["processor_s"]) / (IN_FOLDER - 1),
            "peak_mib": whole["peak_mib"],
            **{f"{name}_s": stages[name] for name in ("read", "locate", "inference")},
        }

    def first(number: int) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as cache:
            output = folder / f"first_{number}.nii.gz"
            return _segment(head, output, threads, E2ENET_CACHE=cache)

    found = {"segment_head_cold": cold, "segment_head_warm": warm, "segment_head_first": first}
    if hippodeep is not None:
        found["segment_head_hippodeep"] = lambda number: _hippodeep(
            hippodeep, head, folder / f"hippodeep_{number}", threads
        )
    return found


def _segment(source: Path, output: Path, threads: int, **environment: str) -> dict[str, float]:
    """Seconds of the whole process, those of the processor, its peak, libraries and all."""
    before = _processor()
    arguments = ["segment", source, "--model", MODEL, "--output", output, "--device", "cpu"]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments), "--progress", "json"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), **environment},
    )
    return {
        "seconds": time.perf_counter() - start,
        "processor_s": _processor() - before,
        "peak_mib": int(done.stdout.splitlines()[-1]) / 2**20,
    }


def _hippodeep(program: Path, head: Path, folder: Path, threads: int) -> dict[str, float]:
    """hippodeep writes beside its input."""
    folder.mkdir()
    own = shutil.copy(head, folder)
    command: Sequence[str] = [sys.executable, str((program / "hippodeep.py").resolve()), str(own)]
    start, before = time.perf_counter(), _processor()
    subprocess.run(
        command,
        check=True,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    return {"seconds": time.perf_counter() - start, "processor_s": _processor() - before}


def _processor() -> float:
    """Seconds of the processor that ended children took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
