"""What the method stands on: dense, connections that stay, and DSFF, in the same minutes.

    python engine/benchmarks/ablation.py ../shared/data/Dataset004_Hippocampus OUTPUT --minutes 20

Fold 0, `--seeds` of each arm; every arm's iterations follow from its own measured step, so that a
cheaper step is worth more of them, and connections evolve forty times whatever the budget (the
paper's 1200 iterations apart would not come once in a short one). `--jobs 2` trains two side by
side; give each its threads with OMP_NUM_THREADS. OUTPUT gets `results.json`, `table.md`,
`ablation.csv` and `ablation.png`, and the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import budget

ARMS: dict[str, list[str]] = {
    "dense": ["--sparsity", "0"],
    "static sparse": ["--evolve-every", "0"],
    "DSFF": [],
}
EVOLUTIONS = 40  # of a run


@dataclass(frozen=True)
class Training:
    """One training of the comparison."""

    arm: str
    seed: int
    chosen: argparse.Namespace
    planned: dict[str, Any]

    @property
    def model(self) -> Path:
        """Where its bundle is written."""
        return Path(self.chosen.output.resolve() / f"{self.arm.replace(' ', '_')}_{self.seed}")

    def finish(self) -> str:
        """Train to the end, or go on with it; returns the command."""
        options = [*options_of(self.arm, self.chosen), "--seed", str(self.seed)]
        if self.arm == "DSFF":
            iterations = self.planned["epochs"] * self.planned["iterations_per_epoch"]
            options += ["--evolve-every", str(max(1, iterations // EVOLUTIONS))]
        return budget.train(self.chosen.dataset.resolve(), self.model, self.planned, options)

    def look(self, command: str) -> dict[str, Any]:
        """What came of it, on the held-out cases."""
        from e2enet.bundle import Bundle
        from e2enet.training.analyses.sweep import cost_of

        dataset, output = self.chosen.dataset.resolve(), self.chosen.output.resolve()
        bundle = Bundle.open(self.model)
        provenance = bundle.model["provenance"]
        names = provenance["data"]["held_out"]
        predictions = output / "predictions" / self.model.name
        budget.predict(dataset, names, self.model, predictions)
        references = budget.held_out(dataset, names, output / "held_out")
        parameters, operations = cost_of(bundle)
        return {
            "arm": self.arm, "seed": self.seed, **self.planned, "command": command,
            "training_s": provenance["seconds"], "iterations": provenance["iterations"],
            "live_parameters": parameters, "live_multiply_adds": operations,
            **budget.judged(predictions, references),
        }  # fmt: skip


def options_of(arm: str, chosen: argparse.Namespace) -> list[str]:
    """Words of `e2enet train` that all seeds of an arm share."""
    return [
        "--fold", "0", "--base-channels", str(chosen.base_channels), "--device", "cpu",
        "--workers", "0", *ARMS[arm],
    ]  # fmt: skip


def paces(chosen: argparse.Namespace) -> dict[str, float]:
    """Seconds of a step of each arm: the arms in turn, medians, or one would gain by chance."""
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for _ in range(3):
        for arm in ARMS:
            found[arm].append(budget.pace(chosen.dataset.resolve(), options_of(arm, chosen)))
    return {arm: statistics.median(steps) for arm, steps in found.items()}


def trainings(chosen: argparse.Namespace, records: budget.Records) -> list[Training]:
    """All of them, seed after seed: an early stop leaves whole comparisons."""
    steps = records.once("steps", partial(paces, chosen))
    return [
        Training(arm, seed, chosen, budget.schedule(chosen.minutes, steps[arm]))
        for seed in range(chosen.seeds)
        for arm in ARMS
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Mean and standard deviation over the seeds, in Markdown."""
    lines = [
        "| arm | seeds | iterations | live parameters | live multiply-adds | Dice | NSD (1 mm) |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        own = [row for row in rows if row["arm"] == arm]
        if own:
            lines.append(
                f"| {arm} | {len(own)} | {own[0]['iterations']} "
                f"| {own[0]['live_parameters'] / 1e6:.2f} M "
                f"| {own[0]['live_multiply_adds'] / 1e9:.1f} G "
                f"| {spread([row['dice'] for row in own])} "
                f"| {spread([row['nsd'] for row in own])} |"
            )
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation."""
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{deviation}"


def figure(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A dot a seed, a line an arm's mean."""
    from e2enet.training.analyses.figures import draw_sweep
    from e2enet.training.analyses.point import Point

    points = [
        Point(
            row["arm"], row["seed"], row["dice"], row["live_parameters"],
            row["live_multiply_adds"], 0.0,
        )
        for row in sorted(rows, key=lambda row: list(ARMS).index(row["arm"]))
    ]  # fmt: skip
    draw_sweep(path, "method", points)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=20, help="of each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--base-channels", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    chosen = parser.parse_args(words)
    chosen.output.mkdir(parents=True, exist_ok=True)
    records = budget.Records(chosen.output / "results.json")
    records.once("machine", budget.machine)
    rows = []
    planned = trainings(chosen, records)
    with ThreadPoolExecutor(chosen.jobs) as pool:
        for training, command in zip(planned, pool.map(Training.finish, planned), strict=True):
            rows.append(records.once(training.model.name, partial(training.look, command)))
            (chosen.output / "table.md").write_text(table(rows) + "\n", encoding="utf-8")
            figure(rows, chosen.output / "ablation.png")
            budget.write_csv(rows, chosen.output / "ablation.csv")
    print(table(rows))


if __name__ == "__main__":
    main()
