"""Peak memory of `e2enet segment` on a large made volume, beside what the network itself needs.

Two children run the same command with the same tiny network: one on a volume of a single window
(imports, network and its activations), one on the large volume. The difference of their peaks is
what the size of the image costs. POSIX only.

    python engine/benchmarks/memory.py [--size 512 512 600] [--spacing 1] [--classes 16]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

# Both processes end by telling their own peak; a child's would else begin at its parent's.
CHILD = """
import resource, sys
from e2enet.cli import main
sys.argv = ["e2enet", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    if end.code:
        raise
unit = 1 if sys.platform == "darwin" else 1024
peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    lines = open("/proc/self/status").read().splitlines()
    peak = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
except OSError:
    pass
print(peak)
"""


def make_model(folder: Path, *, patch: tuple[int, int, int], classes: int) -> Path:
    """A bundle of the smallest E2ENet with random weights."""
    from e2enet.bundle import write_bundle
    from e2enet.dsff import Connections
    from e2enet.networks import E2ENet

    network = E2ENet(1, classes, [(2, 2, 2)], base_channels=2)
    names = [f"structure {value}" for value in range(1, classes)]
    model = {
        "name": "tiny",
        "plan": {
            "spacing": [1.0, 1.0, 1.0],
            "transpose": [0, 1, 2],
            "patch": list(patch),
            "strides": [[2, 2, 2]],
            "batch_size": 2,
            "channels": [{"name": "CT", "normalisation": "zscore"}],
        },
        "labels": [
            {"value": value, "name": name, "color": [200, 200, 10 * value]}
            for value, name in enumerate(names, 1)
        ],
        "channels": [{"name": "CT"}],
        "locator": None,
    }
    write_bundle(
        folder,
        network=network,
        connections=Connections.dense(network),
        model=model,
        history={"history": []},
        readme="# Tiny\n",
    )
    return folder


def make_volume(path: Path, size: tuple[int, int, int], spacing: float) -> Path:
    """16-bit volume of x, y, z voxels, stored as a scanner's would be."""
    random = np.random.default_rng(0)
    array = np.empty(size[::-1], np.int16)
    for plane in array:
        plane[:] = random.integers(-1000, 1000, plane.shape, np.int16)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((spacing,) * 3)
    sitk.WriteImage(image, os.fspath(path))
    return path


def peak_of(volume: Path, model: Path, output: Path) -> tuple[int, float]:
    """Peak resident bytes and seconds of one run in a child."""
    start = time.perf_counter()
    arguments = ["segment", volume, "--model", model, "--output", output, "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments), "--progress", "json"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return int(done.stdout.splitlines()[-1]), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 600), metavar="N")
    parser.add_argument("--spacing", type=float, default=1.0, help="mm; the network works at 1 mm")
    parser.add_argument("--classes", type=int, default=16, help="background included")
    parser.add_argument("--patch", type=int, nargs=3, default=(64, 160, 160), metavar="N")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_model(folder / "tiny", patch=tuple(options.patch), classes=options.classes)
        small = make_volume(folder / "small.nii", tuple(options.patch[::-1]), 1.0)
        baseline, _ = peak_of(small, model, folder / "small_out.nii")
        large = make_volume(folder / "large.nii", tuple(options.size), options.spacing)
        peak, seconds = peak_of(large, model, folder / "large_out.nii")
    values = {
        "voxels_xyz": list(options.size),
        "spacing_mm": options.spacing,
        "classes": options.classes,
        "network_gb": round(baseline / 1e9, 2),
        "peak_gb": round(peak / 1e9, 2),
        "beside_network_gb": round((peak - baseline) / 1e9, 2),
        "seconds": round(seconds, 1),
    }
    if options.json:
        print(json.dumps(values))
        return
    size = "×".join(map(str, options.size))
    print(
        f"segment, {size} voxels at {options.spacing:g} mm, {options.classes} classes: "
        f"{values['beside_network_gb']} GB beside the network (peak {values['peak_gb']} GB, "
        f"network with one window {values['network_gb']} GB, {values['seconds']} s)"
    )


if __name__ == "__main__":
    main()
