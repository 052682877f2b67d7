"""Options that the verbs which train have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from e2enet.training.run.presets import Preset

Dataset = Annotated[Path, typer.Argument(help="Folder in nnU-Net's raw layout.")]
Base = Annotated[str | None, typer.Option("--from", help="Model to fine-tune, by name or path.")]
PresetName = Annotated[
    Preset | None, typer.Option(help="Values for what is not given: paper is E2ENet as published.")
]
Sparsity = Annotated[float | None, typer.Option(help="Feature sparsity S (default 0.8).")]
IterationsPerEpoch = Annotated[
    int | None, typer.Option(help="Optimiser steps of an epoch (default 250).")
]
OptimizerName = Annotated[
    str | None,
    typer.Option(
        "--optimizer", help="sgd, or adamw for short trainings of many structures (default sgd)."
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option("--lr", help="Initial learning rate (default 0.01; 0.002 with adamw)."),
]
EvolveEvery = Annotated[
    int | None,
    typer.Option(
        "--evolve-every",
        help="Iterations between evolutions, 0 for never (default a 50th of the training, from "
        "50 to 1200; never with --from).",
    ),
]
BaseChannels = Annotated[
    int | None, typer.Option(help="Channels at full resolution (default the plan's, or 48).")
]
PlanFile = Annotated[Path | None, typer.Option(help="Use this plan (JSON).")]
Seed = Annotated[int | None, typer.Option(help="Of everything random (default 0).")]
ReadingWorkers = Annotated[
    int | None, typer.Option(min=0, help="Processes that read data; no effect on the result.")
]
