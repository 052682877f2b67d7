"""From a run to a bundle, at its end or before: model.json, the fusion history and a README."""

from __future__ import annotations

import datetime
import platform
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

import e2enet
from e2enet.bundle import Bundle, write_bundle
from e2enet.data.planning.plan import Plan
from e2enet.dsff import Connections
from e2enet.events import BadInput
from e2enet.networks import build_network
from e2enet.training.loop.checkpoint import load_checkpoint
from e2enet.training.loop.trainer import BEST, CHECKPOINT, Trainer
from e2enet.training.loop.validation import Scores, mean_dice
from e2enet.training.product.card import model_card
from e2enet.training.run.preparation import refuse_existing
from e2enet.training.run.settings import PLAN, RUN, Run, Settings, option

# Distinct at a glance and on grey: Paul Tol's "bright" and "vibrant" schemes.
PALETTE = (
    (68, 119, 170), (238, 102, 119), (34, 136, 51), (204, 187, 68), (102, 204, 238),
    (170, 51, 119), (238, 119, 51), (0, 153, 136), (51, 187, 238), (204, 51, 17),
)  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """What a training has come to.

    Args:
        network, connections: as they are now.
        history: of the evolution.
        rows: one a finished epoch.
        iteration: optimiser steps so far.
    """

    network: nn.Module
    connections: Connections
    history: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    iteration: int

    @classmethod
    def of(cls, trainer: Trainer) -> Snapshot:
        """The state of a trainer."""
        return cls(
            trainer.network,  # type: ignore[arg-type]
            trainer.connections,
            trainer.evolution.history,
            trainer.rows,
            trainer.iteration,
        )

    @classmethod
    def saved(cls, run: Run, *, best: bool = False) -> Snapshot:
        """The state in a run's last checkpoint, or in that of its best held-out Dice.

        Raises:
            BadInput: there is none yet, or it is damaged.
        """
        path = run.folder / (BEST if best else CHECKPOINT)
        if not path.exists():
            raise BadInput(
                f"{run.folder} holds no checkpoint yet.",
                help="Wait until the training proper has begun.",
                code="no-checkpoint",
            )
        state = load_checkpoint(path)
        with torch.random.fork_rng(devices=[]):  # its own random weights are thrown away
            network = build_network(run.kind, run.network)
        try:
            network.load_state_dict(state["network"])
            connections = Connections(network, state["masks"])  # type: ignore[arg-type]
        except (RuntimeError, ValueError) as error:
            raise BadInput(
                f"The checkpoint {path} belongs to another network: {str(error).splitlines()[0]}",
                code="damaged-checkpoint",
            ) from error
        history = list(state["evolution"]["history"])
        return cls(network, connections, history, list(state["rows"]), int(state["iteration"]))


def export_run(folder: Path, output: Path, *, best: bool = False) -> Bundle:
    """Write the bundle of a run's last checkpoint, also while the run goes on.

    A training that has not come to its end is marked in model.json: provenance has "unfinished":
    {"epoch": finished epochs, "epochs": of the whole training}, and `segment` says so.

    Args:
        folder: OUTPUT.run, the run's folder.
        output: the bundle to write; must not exist.
        best: take the checkpoint of the best smoothed Dice on held-out patches instead.

    Raises:
        BadInput: the folder holds no training or no checkpoint yet, or the output exists.
    """
    if not (folder / RUN).is_file():
        raise BadInput(
            f"{folder} is not the folder of a training: it has no {RUN}.",
            help="Give the folder OUTPUT.run that `e2enet train` keeps beside OUTPUT.",
            code="no-run",
        )
    refuse_existing(output)
    run = Run.load(folder)
    plan = Plan.load(folder / PLAN)
    state = Snapshot.saved(run, best=best)
    return export_bundle(output, run=run, state=state, plan=plan, metadata=run.metadata, scores={})


def export_bundle(
    output: Path,
    *,
    run: Run,
    state: Snapshot,
    plan: Plan,
    metadata: dict[str, Any],
    scores: Scores,
) -> Bundle:
    """Write the bundle of a training.

    Args:
        output: the bundle's folder.
        run, state, plan: what was trained, how, and what has come of it.
        metadata: of `load_metadata`; paths may be relative to the run's folder.
        scores: Dice of the held-out cases; empty when there are none, or none yet.
    """
    meta = {name: value for name, value in metadata.items() if name not in ("labels", "files")}
    command = command_line(run, output)
    model = {
        "name": output.name,
        "title": output.name,
        "plan": plan.to_dict(),
        "labels": _labels(run.dataset, metadata.get("labels", [])),
        "channels": [{"name": name} for name in run.dataset["channels"]],
        "modality": "CT" if any(c.normalisation == "ct" for c in plan.channels) else "",
        "anatomy": "",
        "locator": None,
        "licence": "",
        "citation": "",
        **meta,
        "provenance": _provenance(run, state, command, scores),
    }
    history = {"total_iterations": run.total, "period": run.period, "history": state.history}
    state.network.eval()
    return write_bundle(
        output,
        network=state.network,
        connections=state.connections,
        model=model,
        history=history,
        readme=model_card(model, metadata.get("files") or {}, kind=run.kind),
        extra={name: run.folder / p for name, p in (metadata.get("files") or {}).items()},
    )


def command_line(run: Run, output: Path) -> str:
    """The command that makes this model again, with names instead of this machine's paths."""
    words = ["e2enet", "train", run.dataset["name"], "--output", output.name]
    if run.source:
        words += ["--from", run.source["name"]]
    for one in fields(Settings):
        value = getattr(run.settings, one.name)
        if value != one.default:
            words.append(option(one.name))
            if one.name == "encoder_weights":
                words.append(Path(value).name)
            elif not isinstance(value, bool):
                words.append(",".join(map(str, value)) if isinstance(value, tuple) else str(value))
    return shlex.join(words)


def _labels(dataset: dict[str, Any], metadata: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In the order of the network's outputs."""
    known = {entry["value"]: entry for entry in metadata}
    regions, volumes_ml = dataset.get("regions") or {}, dataset.get("volumes_ml", {})
    written = set(dataset["labels"].values())
    labels = []
    for name, value in dataset["labels"].items():
        if value:
            # Of a region, the values that a segmentation may hold.
            values = [one for one in regions.get(name, []) if one in written]
            entry = {
                "value": value,
                "name": name,
                **({"values": values} if values else {}),
                "color": list(PALETTE[(value - 1) % len(PALETTE)]),
                "terminology": {},
                **({"usual_ml": volumes_ml[str(value)]} if str(value) in volumes_ml else {}),
            }
            labels.append({**entry, **known.get(value, {})})
    return labels


def _provenance(run: Run, state: Snapshot, command: str, scores: Scores) -> dict[str, Any]:
    last = state.rows[-1] if state.rows else {"dice": {}, "loss": None}
    settings = run.settings
    training, held_out = run.split()
    if scores:
        measured = f"{len(scores)} held-out case{'s' if len(scores) > 1 else ''}"
    else:
        measured = f"patches of {'held-out' if held_out else 'training'} cases"
    unfinished = state.iteration < run.total
    return {
        "run_id": run.run_id,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "data": {
            "dataset": run.dataset["name"],
            "cases": len(training),
            "training": list(training),
            "held_out": list(held_out),
        },
        "fold": settings.fold,
        "epochs": len(state.rows),
        "iterations": state.iteration,
        **(
            {"unfinished": {"epoch": len(state.rows), "epochs": settings.epochs}}
            if unfinished
            else {}
        ),
        "seconds": round(sum(row["seconds"] for row in state.rows)),
        "sparsity": round(1 - state.connections.density, 3),
        "from": run.source,
        "metrics": {
            "dice": mean_dice(scores) or last["dice"],
            "of": measured,
            "loss": last["loss"],
        },
        "versions": {
            "e2enet": e2enet.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }
