"""Learning curves of one run or several, with the evolution steps marked (arXiv 2312.04727)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2enet.evaluation.report.folder import new_folder
from e2enet.events import BadInput
from e2enet.training.analyses.figures import draw_convergence
from e2enet.training.loop.checkpoint import load_checkpoint
from e2enet.training.loop.trainer import CHECKPOINT


def convergence(runs: Sequence[Path], output: Path) -> dict[str, list[dict[str, Any]]]:
    """Write convergence.csv and convergence.png into a new folder.

    Args:
        runs: folders OUTPUT.run of trainings, finished or not.
        output: made.

    Returns:
        Run -> one row a finished epoch: epoch, iteration, loss, mean_dice, evolutions so far.

    Raises:
        BadInput: a folder without a finished epoch, two runs of one name, the output exists.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    marks: dict[str, list[int]] = {}
    for run in runs:
        name = run.name.removesuffix(".run")
        if name in found:
            raise BadInput(f"Two of the runs are called {name}.", code="ambiguous-run")
        if not (run / CHECKPOINT).is_file():
            raise BadInput(
                f"{run} holds no checkpoint of a training.",
                help="Give the folder OUTPUT.run that `e2enet train` keeps beside OUTPUT.",
                code="no-run",
            )
        state = load_checkpoint(run / CHECKPOINT)
        if not state["rows"]:
            raise BadInput(
                f"The training in {run} has not finished an epoch yet.", code="no-checkpoint"
            )
        steps = [
            int(entry["iteration"])
            for entry in state["evolution"]["history"]
            if entry["turnover"] is not None
        ]
        marks[name] = steps
        found[name] = [
            {
                "epoch": row["epoch"],
                "iteration": row["iteration"],
                "loss": row["loss"],
                "mean_dice": row["mean_dice"],
                "evolutions": sum(step <= row["iteration"] for step in steps),
            }
            for row in state["rows"]
        ]
    with new_folder(output) as folder:
        with open(folder / "convergence.csv", "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            heads = list(next(iter(found.values()))[0])
            writer.writerow(["run", *heads])
            for name, rows in found.items():
                writer.writerows([name, *(row[head] for head in heads)] for row in rows)
        draw_convergence(folder / "convergence.png", found, marks)
    return found
