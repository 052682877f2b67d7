"""From a finished run to a bundle: model.json, the fusion history and a README."""

from __future__ import annotations

import datetime
import math
import platform
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

import e2enet
from e2enet.bundle import Bundle, write_bundle
from e2enet.data.plan import Plan
from e2enet.training.settings import Run, Settings, option
from e2enet.training.trainer import Trainer
from e2enet.training.validation import Scores, mean_dice

# Distinct at a glance and on grey: Paul Tol's "bright" and "vibrant" schemes.
PALETTE = (
    (68, 119, 170), (238, 102, 119), (34, 136, 51), (204, 187, 68), (102, 204, 238),
    (170, 51, 119), (238, 119, 51), (0, 153, 136), (51, 187, 238), (204, 51, 17),
)  # fmt: skip


def export_bundle(
    output: Path,
    *,
    run: Run,
    trainer: Trainer,
    plan: Plan,
    metadata: dict[str, Any],
    scores: Scores,
) -> Bundle:
    """Write the bundle of a finished training.

    Args:
        output: the bundle's folder.
        run, trainer, plan: what was trained, and how.
        metadata: of `load_metadata`; paths may be relative to the run's folder.
        scores: Dice of the held-out cases; empty when there are none.
    """
    meta = {name: value for name, value in metadata.items() if name not in ("labels", "files")}
    command = command_line(run, output)
    model = {
        "name": output.name,
        "title": output.name,
        "plan": plan.to_dict(),
        "labels": _labels(
            run.dataset["labels"], metadata.get("labels", []), _usual_ml(trainer, plan)
        ),
        "channels": [{"name": name} for name in run.dataset["channels"]],
        "modality": "CT" if any(c.normalisation == "ct" for c in plan.channels) else "",
        "anatomy": "",
        "locator": None,
        "licence": "",
        "citation": "",
        **meta,
        "provenance": _provenance(run, trainer, command, scores),
    }
    history = {
        "total_iterations": trainer.recipe.total,
        "period": trainer.evolution.period,
        "history": trainer.evolution.history,
    }
    trainer.network.eval()
    return write_bundle(
        output,
        network=trainer.network,
        connections=trainer.connections,
        model=model,
        history=history,
        readme=_readme(model, command),
        extra={name: run.folder / p for name, p in (metadata.get("files") or {}).items()},
    )


def command_line(run: Run, output: Path) -> str:
    """The command that makes this model again, with names instead of this machine's paths."""
    words = ["e2enet", "train", run.dataset["name"], "--output", output.name]
    if run.source:
        words += ["--from", run.source["name"]]
    for field in fields(Settings):
        value = getattr(run.settings, field.name)
        if value != field.default:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [option(field.name), text]
    return shlex.join(words)


def _usual_ml(trainer: Trainer, plan: Plan) -> dict[int, list[float]]:
    """Smallest and largest volume of each label among the training cases that have it, in mL."""
    voxel_ml = math.prod(plan.spacing) / 1000
    volumes: dict[int, list[float]] = {}
    for case in trainer.training.cases:
        for value, voxels in case.foreground.items():
            volumes.setdefault(value, []).append(round(voxels * voxel_ml, 3))
    return {value: [min(found), max(found)] for value, found in volumes.items()}


def _labels(
    names: dict[str, int], metadata: list[dict[str, Any]], usual_ml: dict[int, list[float]]
) -> list[dict[str, Any]]:
    known = {entry["value"]: entry for entry in metadata}
    labels = []
    for name, value in sorted(names.items(), key=lambda item: item[1]):
        if value:
            entry = {
                "value": value,
                "name": name,
                "color": list(PALETTE[(value - 1) % len(PALETTE)]),
                "terminology": {},
                **({"usual_ml": usual_ml[value]} if value in usual_ml else {}),
            }
            labels.append({**entry, **known.get(value, {})})
    return labels


def _provenance(run: Run, trainer: Trainer, command: str, scores: Scores) -> dict[str, Any]:
    last = trainer.rows[-1]
    settings = run.settings
    return {
        "run_id": run.run_id,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "data": {"dataset": run.dataset["name"], "cases": len(run.split()[0])},
        "fold": settings.fold,
        "epochs": settings.epochs,
        "iterations": trainer.recipe.total,
        "seconds": round(sum(row["seconds"] for row in trainer.rows)),
        "sparsity": round(1 - trainer.connections.density, 3),
        "from": run.source,
        "metrics": {
            "dice": mean_dice(scores) or last["dice"],
            "of": f"{len(scores)} held-out cases" if scores else "patches of training cases",
            "loss": last["loss"],
        },
        "versions": {
            "e2enet": e2enet.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }


def _readme(model: dict[str, Any], command: str) -> str:
    provenance = model["provenance"]
    channels = ", ".join(channel["name"] for channel in model["channels"])
    rows = "\n".join(
        f"| {label['value']} | {label['name']} | "
        f"{_dice(provenance['metrics']['dice'].get(label['name']))} |"
        for label in model["labels"]
    )
    about = "".join(
        f"{title}: {model[key]}\n\n"
        for title, key in (
            ("Results", "results"),
            ("Licence", "licence"),
            ("Data", "attribution"),
            ("Please cite", "citation"),
        )
        if model.get(key)
    )
    return (
        f"""# {model["title"]}

An E2ENet model (feature sparsity {provenance["sparsity"]:g}) for {channels}, trained on \
{provenance["data"]["cases"]} cases of {provenance["data"]["dataset"]} in \
{provenance["iterations"]} iterations.

| value | label | Dice ({provenance["metrics"]["of"]}) |
| --- | --- | --- |
{rows}

Segment an image with it:

    e2enet segment IMAGE --model {model["name"]} --output segmentation.nii.gz

Made by:

    {command}

{about}""".rstrip()
        + "\n"
    )


def _dice(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
