"""E2ENet against nnU-Net v2: the same minutes, cores and fold, each with its own recipe.

    python engine/benchmarks/nnunet.py DATASET OUTPUT --minutes 60 --nnunet VENV/bin/python

DATASET is in nnU-Net's raw layout (Dataset004_Hippocampus). nnU-Net runs in an environment of its
own (`nnunet_side.py`, whose head says how to make it), with its planned 3d_fullres configuration,
trainer and augmentation; only the number of epochs and of iterations follows from the budget, here
as there, so that the learning rate has fallen when the time is over. Held-out cases of fold 0,
which is the same on both sides, are segmented without mirroring. OUTPUT gets `results.json` and
`table.md` and `nnunet.csv`; the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import budget

SIDE = Path(__file__).with_name("nnunet_side.py")


def side(chosen: argparse.Namespace, verb: str, *words: str) -> dict[str, Any]:
    """A verb of nnunet_side.py in nnU-Net's environment; its last line is the answer."""
    command = [str(chosen.nnunet), str(SIDE), verb, str(chosen.dataset), str(chosen.output), *words]
    print("$", shlex.join(command), flush=True)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment
    )
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def of_nnunet(chosen: argparse.Namespace, records: budget.Records) -> dict[str, Any]:
    """nnU-Net's row."""
    prepared = records.once("nnU-Net prepared", lambda: side(chosen, "prepare"))
    planned = budget.schedule(chosen.minutes, prepared["step_s"])
    length = [str(planned["epochs"]), str(planned["iterations_per_epoch"])]
    trained = records.once("nnU-Net trained", lambda: side(chosen, "train", *length))
    predicted = records.once("nnU-Net predicted", lambda: side(chosen, "predict", *length))
    names = prepared["held_out"]
    references = budget.held_out(chosen.dataset, names, chosen.output / "held_out")
    scores = records.once(
        "nnU-Net judged",
        lambda: budget.judged(chosen.output / "predictions" / "nnunet", references),
    )
    row = {"model": f"nnU-Net {prepared['version']}", **planned, **trained, **predicted, **scores}
    return {**row, "patch": prepared["patch"], "batch": prepared["batch"]}


def of_e2enet(
    chosen: argparse.Namespace, records: budget.Records, base: int, names: Sequence[str]
) -> dict[str, Any]:
    """A row of E2ENet with this many channels at full resolution."""
    name = f"E2ENet, base {base}"
    options = ["--fold", "0", "--base-channels", str(base), "--device", "cpu", "--workers", "0"]
    step_s = records.once(f"{name} step", lambda: budget.pace(chosen.dataset, options))
    planned = budget.schedule(chosen.minutes, step_s)
    model = chosen.output / f"e2enet_{base}"
    command = budget.train(chosen.dataset, model, planned, options)

    def look() -> dict[str, Any]:
        from e2enet.bundle import Bundle
        from e2enet.training.analyses.sweep import cost_of

        bundle = Bundle.open(model)
        provenance = bundle.model["provenance"]
        if sorted(provenance["data"]["held_out"]) != sorted(names):
            raise SystemExit("the two sides hold out other cases")
        predictions = chosen.output / "predictions" / model.name
        seconds = budget.predict(chosen.dataset, names, model, predictions)
        parameters, operations = cost_of(bundle)
        references = budget.held_out(chosen.dataset, names, chosen.output / "held_out")
        return {
            "model": name, **planned, "command": command, "seconds_a_case": seconds,
            "training_s": provenance["seconds"], "parameters": parameters,
            "multiply_adds": operations, "patch": bundle.plan["patch"],
            "batch": bundle.plan["batch_size"], **budget.judged(predictions, references),
        }  # fmt: skip

    return records.once(name, look)  # type: ignore[no-any-return]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """In Markdown, with the PT score over the rows."""
    from e2enet.evaluation.pt_score import pt_scores

    lines = [
        "| | Dice | NSD (1 mm) | live parameters | multiply-adds of a patch | patch, batch "
        "| iterations | training | a case | PT score |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    cost = [float(row["multiply_adds"]) for row in rows]
    known = max(row["dice"] for row in rows) > 0
    dice, parameters = [row["dice"] for row in rows], [row["parameters"] for row in rows]
    scores = pt_scores(dice, parameters, cost) if known else [0.0] * len(rows)
    for row, score in zip(rows, scores, strict=True):
        lines.append(
            f"| {row['model']} | {row['dice']:.3f} | {row['nsd']:.3f} "
            f"| {row['parameters'] / 1e6:.2f} M | {row['multiply_adds'] / 1e9:.1f} G "
            f"| {'×'.join(map(str, row['patch']))}, {row['batch']} "
            f"| {row['epochs']} × {row['iterations_per_epoch']} "
            f"| {row['training_s'] / 60:.1f} min | {row['seconds_a_case']:.2f} s | {score:.2f} |"
        )
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--nnunet", type=Path, required=True, help="Python with nnunetv2")
    parser.add_argument("--minutes", type=float, default=60, help="of each training")
    parser.add_argument("--base-channels", type=int, nargs="+", default=[16])
    chosen = parser.parse_args(words)
    chosen.dataset, chosen.output = chosen.dataset.resolve(), chosen.output.resolve()
    chosen.output.mkdir(parents=True, exist_ok=True)
    records = budget.Records(chosen.output / "results.json")
    records.once("machine", budget.machine)
    rows = [of_nnunet(chosen, records)]
    names = records.parts["nnU-Net prepared"]["held_out"]
    for base in chosen.base_channels:
        rows.append(of_e2enet(chosen, records, base, names))
    (chosen.output / "table.md").write_text(table(rows) + "\n", encoding="utf-8")
    budget.write_csv(rows[::-1], chosen.output / "nnunet.csv")  # the last row has every column
    print(table(rows))


if __name__ == "__main__":
    main()
