"""Trainings that get minutes instead of epochs: the schedule ends when the budget does.

The learning rate falls to nothing over the iterations of a run, so a run that is cut off is judged
too low. Here a few real steps are measured first, and the number of iterations follows.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EPOCHS = 25  # of a run, where it has time for as many
VALIDATION = 1 / 15  # of a step's time: a fifth as many batches, forward only


def schedule(minutes: float, step_s: float) -> dict[str, Any]:
    """Epochs and iterations an epoch that fit into the minutes, one at least."""
    total = max(1, int(60 * minutes / (step_s * (1 + VALIDATION))))
    epochs = min(EPOCHS, total)
    return {"step_s": step_s, "epochs": epochs, "iterations_per_epoch": total // epochs}


class Records:
    """What is known so far, in a JSON file; a part that is there is not made again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts: dict[str, Any] = {}
        if path.exists():
            self.parts = json.loads(path.read_text(encoding="utf-8"))

    def once(self, name: str, make: Any) -> Any:
        """The part of this name, made and saved unless it is there."""
        if name not in self.parts:
            self.save(name, make())
        return self.parts[name]

    def save(self, name: str, part: Any) -> None:
        """Keep a part."""
        self.parts[name] = part
        temporary = self.path.with_name(f"{self.path.name}.part")
        temporary.write_text(json.dumps(self.parts, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, self.path)


def e2enet(*words: str) -> list[dict[str, Any]]:
    """Run a command of e2enet and return what it tells; the command is printed."""
    command = ["e2enet", *words]
    print("$", shlex.join(command), flush=True)
    done = subprocess.run(
        [sys.executable, "-m", *command, "--progress", "json"],
        check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def pace(dataset: Path, options: Sequence[str]) -> float:
    """Seconds of a training step with these options of `e2enet train`."""
    events = e2enet("train", str(dataset), "--output", "unused", "--dry-run", *options)
    return next(float(e["step_s"]) for e in events if e.get("name") == "summary")


def train(dataset: Path, output: Path, planned: dict[str, Any], options: Sequence[str]) -> str:
    """Train to the end of the schedule, or go on with that; returns the command."""
    words = [
        "train", str(dataset), "--output", str(output),
        "--epochs", str(planned["epochs"]),
        "--iterations-per-epoch", str(planned["iterations_per_epoch"]), *options,
    ]  # fmt: skip
    if not output.exists():
        run = output.with_name(f"{output.name}.run")
        e2enet(*words, *(["--resume"] if (run / "run.json").exists() else []))
    return shlex.join(["e2enet", *words])


def held_out(dataset: Path, names: Sequence[str], folder: Path) -> Path:
    """The label maps of these cases with dataset.json beside them: the folder of references."""
    labels = folder / "labelsTr"
    labels.mkdir(parents=True, exist_ok=True)
    shutil.copy(dataset / "dataset.json", folder)
    for name in names:
        shutil.copy(dataset / "labelsTr" / f"{name}.nii.gz", labels)
    return labels


def predict(dataset: Path, names: Sequence[str], model: Path, folder: Path) -> float:
    """Segment cases without mirroring, one after the other; returns the mean seconds of one.

    From file to file; the model is loaded once, before.
    """
    from e2enet.data.datasets.raw import read_dataset
    from e2enet.inference.case.inputs import InputCase
    from e2enet.inference.segmenter import Segmenter

    folder.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter(model, device="cpu")
    cases = {case.name: case for case in read_dataset(dataset).cases}
    first = cases[names[0]]
    segmenter.run(InputCase(first.name, first.images))  # compiles and loads
    began = time.perf_counter()
    for name in names:
        segmenter.run(InputCase(name, cases[name].images), output=folder / f"{name}.nii.gz")
    return (time.perf_counter() - began) / len(names)


def judged(predictions: Path, references: Path) -> dict[str, float]:
    """Mean Dice and NSD (tolerance 1 mm) over the structures."""
    from e2enet.evaluation.evaluate import evaluate

    found = evaluate(predictions, references)
    return {"dice": found.mean("Dice"), "nsd": found.mean("NSD")}


def machine() -> dict[str, Any]:
    """What a reader needs to know to compare."""
    from machine import facts

    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    return {**facts(threads), "command": shlex.join(["python", *sys.argv])}


def write_csv(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A row a training. Commands stay in results.json: they name this machine's folders."""
    names = [name for name in rows[0] if name != "command"]
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            values = (row.get(name, "") for name in names)
            writer.writerow("×".join(map(str, v)) if isinstance(v, list) else v for v in values)
