"""`e2enet segment` from a cold start: the sample head, and a folder of crops of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import SimpleITK as sitk

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "Resources" / "Samples" / "MNI152_T1_1mm.nii.gz"
MODEL = "hippocampus-mr"
CENTRES = {"left": (24.3, 23.0, -11.7), "right": (-24.3, 23.0, -11.7)}  # LPS, mm
CROP_MM = (40.0, 54.0, 44.0)
MOVES_MM = (-3.0, 0.0, 3.0, 6.0)
WHAT = {
    "segment_head_sparse": "whole head, sparse",
    "segment_head_reference": "whole head, reference",
    "segment_folder_sparse": "folder of 8 crops, sparse",
    "segment_folder_reference": "folder of 8 crops, reference",
}


def make_crops(folder: Path) -> Path:
    """Crops around both hippocampi, each a little elsewhere: 8 files as a data set has them."""
    folder.mkdir()
    head = sitk.ReadImage(str(SAMPLE))
    for side, centre in CENTRES.items():
        for number, move in enumerate(MOVES_MM):
            corners = [
                head.TransformPhysicalPointToIndex(
                    [c + move + sign * n / 2 for c, n in zip(centre, CROP_MM, strict=True)]
                )
                for sign in (-1, 1)
            ]
            low = [min(pair) for pair in zip(*corners, strict=True)]
            size = [abs(a - b) for a, b in zip(*corners, strict=True)]
            crop = sitk.RegionOfInterest(head, size, low)
            sitk.WriteImage(crop, str(folder / f"{side}{number}.nii.gz"))
    return folder


def segment(source: Path, output: Path, runtime: str) -> dict[str, float]:
    """Seconds of the whole process, and of the inference as the manifests have them."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "e2enet", "segment", source, "--model", MODEL]
    command += ["--output", output, "--runtime", runtime, "--device", "cpu", "--progress", "json"]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    folder = output if output.is_dir() else output.parent
    manifests = [json.loads(path.read_text()) for path in folder.glob("*.manifest.json")]
    return {
        "seconds": seconds,
        "inference_s": sum(manifest["stages_s"]["inference"] for manifest in manifests),
    }


def works(folder: Path) -> dict[str, Callable[[int], dict[str, float]]]:
    """What to measure, by name; files go below the folder."""
    crops = make_crops(folder / "crops")
    found: dict[str, Any] = {}
    for name, source in (("head", SAMPLE), ("folder", crops)):
        for runtime in ("sparse", "reference"):

            def work(number: int, *, a: str = name, b: Path = source, c: str = runtime) -> Any:
                place = folder / f"{a}_{c}_{number}"
                place.mkdir()
                return segment(b, place if b.is_dir() else place / "out.nii.gz", c)

            found[f"segment_{name}_{runtime}"] = work
    return found


def differing(folder: Path, name: str) -> int:
    """Voxels that the first runs of both runtimes label differently, over all label maps."""
    other = name.replace("_sparse", "_reference")
    count = 0
    for path in (folder / f"{name.removeprefix('segment_')}_0").glob("*.nii.gz"):
        twin = folder / f"{other.removeprefix('segment_')}_0" / path.name
        a, b = (sitk.GetArrayFromImage(sitk.ReadImage(str(one))) for one in (path, twin))
        count += int((a != b).sum())
    return count
