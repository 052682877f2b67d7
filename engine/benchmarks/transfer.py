"""What training on slices first is worth: learning curves from scratch and after a transfer.

    python engine/benchmarks/transfer.py ../shared/data/Dataset020_ChaosT2 OUTPUT

Cases are reduced in the plane (`--reduce`, 4 by default: 64 x 64 pixels of 5 mm). Every arm sees
the same number of voxels: an iteration on slices shows as many of them as an iteration on volumes.
The transferred arms spend a third of the iterations on slices and the rest on volumes; no network
has seen anything but these cases, because ImageNet weights need the internet. Seeds differ in
initial weights, connections and order of the data.

Whatever is finished stays: started again with the same arguments, it goes on where it was. Each
command is printed as it runs and kept in `results.json` beside the figure and the table.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

PATCH = (16, 64, 64)
BATCH = 2
EPOCHS = 30
ON_SLICES = 1 / 3
COLOURS = {"scratch": "tab:grey", "transferred": "tab:blue"}
# Of the 3D network, and of the network of slices that comes before it.
NETWORKS: dict[str, dict[str, list[str]]] = {
    "E2ENet": {
        "volumes": ["--base-channels", "16"],
        "slices": ["--base-channels", "16"],
    },
    "DX-Net": {
        "volumes": ["--network", "dx"],
        "slices": ["--network", "omnia"],
    },
}


@dataclass
class Arm:
    """One training, from its first to its last iteration.

    Args:
        network: Key of `NETWORKS`.
        name: "scratch" or "transferred".
        seed: Of everything random.
        folder: Where its models lie.
        commands: What made it, in order.
    """

    network: str
    name: str
    seed: int
    folder: Path
    commands: list[str] = field(default_factory=list)

    def run(self, verb: str, *words: str, makes: Path) -> None:
        """A command of e2enet, unless what it makes is there; an unfinished training goes on."""
        command = ["e2enet", verb, *words]
        self.commands.append(shlex.join(command))
        if makes.exists():
            return
        if verb == "train" and makes.with_name(f"{makes.name}.run").exists():
            command.append("--resume")
        print("$", shlex.join(command), flush=True)
        subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)


def reduced(source: Path, target: Path, factor: int) -> Path:
    """A copy of a dataset with `factor` x `factor` pixels averaged to one.

    The test cases are held out by a split, so that the learning curves are theirs.
    """
    import SimpleITK as sitk

    folder = target / f"{source.name}_{factor}"
    if (folder / "dataset.json").exists():
        return folder
    for part in ("imagesTr", "imagesTs", "labelsTr", "labelsTs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for path in sorted((source / part).iterdir()):
            image = sitk.ReadImage(os.fspath(path))
            small = sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), (factor, factor, 1))
            if part.startswith("labels"):
                near = sitk.Resample(image, small, sitk.Transform(), sitk.sitkNearestNeighbor)
                small = sitk.Cast(near, sitk.sitkUInt8)
            sitk.WriteImage(small, os.fspath(folder / part / path.name))
            if part.endswith("Ts"):
                same = part.replace("Ts", "Tr")
                shutil.copy(folder / part / path.name, folder / same / path.name)
    names = {
        part: [path.name.removesuffix(".nii.gz") for path in sorted((source / part).iterdir())]
        for part in ("labelsTr", "labelsTs")
    }
    split = [{"train": names["labelsTr"], "val": names["labelsTs"]}]
    (folder / "splits_final.json").write_text(json.dumps(split) + "\n")
    shutil.copy(source / "dataset.json", folder)  # last: a folder without it is made again
    return folder


def trained(arm: Arm, dataset: Path, iterations: int) -> None:
    """Train an arm to its end."""
    options = NETWORKS[arm.network]
    common = [
        "--fold", "0", "--seed", str(arm.seed), "--workers", "0", "--device", "cpu",
    ]  # fmt: skip
    final = arm.folder / "final"
    size = ",".join(map(str, PATCH))

    def length(share: float) -> list[str]:
        epochs = max(1, round(EPOCHS * share))
        return ["--epochs", str(epochs), "--iterations-per-epoch", str(iterations // EPOCHS)]

    if arm.name == "scratch":
        words = [*common, *length(1), "--patch", size, "--batch-size", str(BATCH)]
        arm.run(
            "train", str(dataset), "--output", str(final), *words, *options["volumes"], makes=final
        )
        return
    flat, start = arm.folder / "slices", arm.folder / "start"
    words = [
        *common, *length(ON_SLICES), "--patch", f"1,{PATCH[1]},{PATCH[2]}",
        "--batch-size", str(BATCH * PATCH[0]),
    ]  # fmt: skip
    arm.run("train", str(dataset), "--output", str(flat), *words, *options["slices"], makes=flat)
    to = ["--to", "e2enet" if arm.network == "E2ENet" else "dx", "--patch", size]
    arm.run("transfer", str(flat), "--output", str(start), *to, makes=start)
    # Fine-tuning does not evolve by itself; the other arm does, every 50 iterations.
    words = [
        *common, *length(1 - ON_SLICES), "--batch-size", str(BATCH), "--evolve-every", "50",
    ]  # fmt: skip
    arm.run(
        "train", str(dataset), "--output", str(final), "--from", str(start), *words, makes=final
    )


def switched(arm: Arm, dataset: Path) -> dict[str, float]:
    """Dice of an E2ENet of slices, as volumes without a change, and after the switch."""
    exact = arm.folder / "exact"
    slices = ["--norm-axes", "slice", "--shift-groups", "1"]
    arm.run("transfer", str(arm.folder / "slices"), "--output", str(exact), *slices, makes=exact)
    models = {"slices": arm.folder / "slices", "exact": exact, "switched": arm.folder / "start"}
    return {name: dice(arm, model, dataset) for name, model in models.items()}


def dice(arm: Arm, model: Path, dataset: Path) -> float:
    """Mean Dice over the structures of the test cases, on their own grid."""
    from e2enet.evaluation.evaluate import evaluate

    found = arm.folder / f"test_{model.name}"
    for path in sorted((dataset / "imagesTs").glob("*_0000.nii.gz")):
        label = found / path.name.replace("_0000", "")
        words = [str(path), "--model", str(model), "--output", str(label), "--device", "cpu"]
        arm.run("segment", *words, makes=label)
    return float(evaluate(found, dataset / "labelsTs").mean())


def curve(arm: Arm) -> list[tuple[int, float]]:
    """(iteration, online Dice) of all epochs, those on slices first."""
    rows, before = [], 0
    for name in ("slices", "final"):
        path = arm.folder / f"{name}.run" / "metrics.csv"
        if not path.exists():
            continue
        with path.open(newline="") as stream:
            own = list(csv.DictReader(stream))
        rows += [(before + int(row["iteration"]), float(row["mean_dice"] or "nan")) for row in own]
        before += int(own[-1]["iteration"])
    return rows


def arms(output: Path, seeds: int) -> Iterator[Arm]:
    """Seed after seed, so that an early stop leaves whole comparisons."""
    for seed in range(seeds):
        for network in NETWORKS:
            for name in COLOURS:
                yield Arm(network, name, seed, output / f"{network}_{name}_{seed}")


def figure(results: list[dict[str, Any]], path: Path) -> None:
    """Learning curves: a line a seed; the transfer is where a blue line leaves the slices."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(drawn)
    for axes, network in zip(drawn.subplots(1, len(NETWORKS), sharey=True), NETWORKS, strict=True):
        own = [row for row in results if row["network"] == network]
        for row in own:
            iterations, values = zip(*row["curve"], strict=True)
            label = row["arm"] if row["seed"] == 0 else None
            axes.plot(iterations, values, color=COLOURS[row["arm"]], linewidth=1, label=label)
        if own:
            axes.axvline(ON_SLICES * own[0]["curve"][-1][0], color="black", linestyle=":")
            axes.legend(loc="lower right")
        axes.set_title(f"{network} (dotted: from slices to volumes)", fontsize=10)
        axes.set_xlabel("iteration")
        axes.grid(alpha=0.3)
    drawn.axes[0].set_ylabel("online Dice")
    drawn.savefig(path, dpi=120)


def table(results: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over the seeds, in Markdown."""
    lines = ["| network | arm | seeds | Dice on the test cases |", "|---|---|---|---|"]
    for network in NETWORKS:
        for name in COLOURS:
            found = [
                row["dice"] for row in results if (row["network"], row["arm"]) == (network, name)
            ]
            if found:
                spread = (
                    f"{np.mean(found):.3f} ± {np.std(found, ddof=1 if len(found) > 1 else 0):.3f}"
                )
                lines.append(f"| {network} | {name} | {len(found)} | {spread} |")
    for row in results:
        if "switch" in row:
            words = ", ".join(f"{name} {value:.3f}" for name, value in row["switch"].items())
            lines.append(f"\nDice at the switch, seed {row['seed']}: {words}.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--reduce", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=1500, help="of each arm")
    chosen = parser.parse_args()
    output = chosen.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    dataset = reduced(chosen.dataset.resolve(), output, chosen.reduce)
    results: list[dict[str, Any]] = []
    for arm in arms(output, chosen.seeds):
        arm.folder.mkdir(exist_ok=True)
        trained(arm, dataset, chosen.iterations)
        row: dict[str, Any] = {"network": arm.network, "arm": arm.name, "seed": arm.seed}
        row["dice"] = dice(arm, arm.folder / "final", dataset)
        if arm.network == "E2ENet" and arm.name == "transferred":
            row["switch"] = switched(arm, dataset)
        row["curve"] = curve(arm)
        row["commands"] = arm.commands
        results.append(row)
        record = {"command": shlex.join(sys.argv), "machine": _machine(), "results": results}
        (output / "results.json").write_text(json.dumps(record, indent=1) + "\n")
        (output / "table.md").write_text(table(results) + "\n")
        figure(results, output / "learning_curves.png")
    print(table(results))


def _machine() -> dict[str, Any]:
    import e2enet
    import torch

    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "e2enet": e2enet.__version__,
    }


if __name__ == "__main__":
    main()
