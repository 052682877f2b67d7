"""What the method stands on: dense, connections that stay, and DSFF, in the same minutes.

    python engine/benchmarks/ablation.py ../shared/data/Dataset004_Hippocampus OUTPUT --minutes 20

Fold 0, `--seeds` of each arm; every arm's iterations follow from its own measured step, so that a
cheaper step is worth more of them, and connections evolve forty times whatever the budget (the
paper's 1200 iterations apart would not come once in a short one). OUTPUT gets `results.json`,
`table.md` and `ablation.png`, and the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import budget

ARMS: dict[str, list[str]] = {
    "dense": ["--sparsity", "0"],
    "static sparse": ["--evolve-every", "0"],
    "DSFF": [],
}
EVOLUTIONS = 40  # of a run


def measured(
    arm: str, seed: int, chosen: argparse.Namespace, records: budget.Records
) -> dict[str, Any]:
    """One training of an arm to its end, and what came of it."""
    dataset, output = chosen.dataset.resolve(), chosen.output.resolve()
    options = [
        "--fold", "0", "--base-channels", str(chosen.base_channels), "--device", "cpu",
        "--workers", "0", *ARMS[arm],
    ]  # fmt: skip
    step_s = records.once(f"step of {arm}", lambda: budget.pace(dataset, options))
    planned = budget.schedule(chosen.minutes, step_s)
    model = output / f"{arm.replace(' ', '_')}_{seed}"
    if arm == "DSFF":
        iterations = planned["epochs"] * planned["iterations_per_epoch"]
        options += ["--evolve-every", str(max(1, iterations // EVOLUTIONS))]
    command = budget.train(dataset, model, planned, [*options, "--seed", str(seed)])

    def look() -> dict[str, Any]:
        from e2enet.bundle import Bundle
        from e2enet.training.analyses.sweep import cost_of

        bundle = Bundle.open(model)
        provenance = bundle.model["provenance"]
        names = provenance["data"]["held_out"]
        predictions = output / "predictions" / model.name
        budget.predict(dataset, names, model, predictions)
        references = budget.held_out(dataset, names, output / "held_out")
        parameters, operations = cost_of(bundle)
        return {
            "arm": arm, "seed": seed, **planned, "command": command,
            "training_s": provenance["seconds"], "iterations": provenance["iterations"],
            "live_parameters": parameters, "live_multiply_adds": operations,
            **budget.judged(predictions, references),
        }  # fmt: skip

    return records.once(model.name, look)  # type: ignore[no-any-return]


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
    chosen = parser.parse_args(words)
    chosen.output.mkdir(parents=True, exist_ok=True)
    records = budget.Records(chosen.output / "results.json")
    records.once("machine", budget.machine)
    rows = []
    for seed in range(chosen.seeds):  # seed after seed: an early stop leaves whole comparisons
        for arm in ARMS:
            rows.append(measured(arm, seed, chosen, records))
            (chosen.output / "table.md").write_text(table(rows) + "\n", encoding="utf-8")
            figure(rows, chosen.output / "ablation.png")
    print(table(rows))


if __name__ == "__main__":
    main()
