"""`e2enet train`: from a dataset to a model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from e2enet.cli.common import Debug, Device, Progress, ProgressStyle, run
from e2enet.cli.training_options import (
    Base,
    BaseChannels,
    Dataset,
    EvolveEvery,
    IterationsPerEpoch,
    LearningRate,
    OptimizerName,
    PlanFile,
    PresetName,
    ReadingWorkers,
    Seed,
    Sparsity,
)
from e2enet.data.axes import parse_sizes
from e2enet.events import Reporter


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("train")(train)


def train(
    dataset: Dataset,
    output: Annotated[Path, typer.Option(help="The bundle to write; must not exist.")],
    base: Base = None,
    preset: PresetName = None,
    fold: Annotated[
        str | None,
        typer.Option(help="0 … 4, all, or a fold of the dataset's splits_final.json (default 0)."),
    ] = None,
    sparsity: Sparsity = None,
    level0_density: Annotated[
        float | None,
        typer.Option(
            help="Live share of the fusion convolutions of level 0 (default 1 - S; paper 0.2)."
        ),
    ] = None,
    evolve_every: EvolveEvery = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Length (default 1000). With --resume more than before extends the run: the "
            "learning rate goes on as in a run of that length."
        ),
    ] = None,
    iterations_per_epoch: IterationsPerEpoch = None,
    optimizer: OptimizerName = None,
    lr: LearningRate = None,
    batch_dice: Annotated[
        bool | None,
        typer.Option(
            "--batch-dice/--sample-dice",
            help="The loss takes its Dice over the whole batch, or over each sample (default).",
            show_default=False,
        ),
    ] = None,
    base_channels: BaseChannels = None,
    levels: Annotated[int | None, typer.Option(help="Levels (default planned).")] = None,
    shift_groups: Annotated[
        int | None, typer.Option(help="Depth-shift groups (default 3).")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Patches in a batch (default planned).")
    ] = None,
    patch: Annotated[
        str | None, typer.Option(help="D,H,W in voxels, such as 40,56,40 (default planned).")
    ] = None,
    seed: Seed = None,
    network: Annotated[
        str | None,
        typer.Option(help="e2enet; omnia (2D, slice by slice); ds or dx (3D) (default e2enet)."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="efficientnet-b0 … b8, resnet10 … 152; with e2enet it takes the place of the "
            "backbone (default efficientnet-b0 for the other networks)."
        ),
    ] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(
            help="imagenet (downloaded once), or a file: safetensors or a state dict "
            "(default none)."
        ),
    ] = None,
    expansion: Annotated[
        str | None,
        typer.Option(help="How 2D kernels enter dx: inflate or centre (default inflate)."),
    ] = None,
    input_slices: Annotated[
        int | None, typer.Option(help="Slices that omnia sees at once, odd (default 1).")
    ] = None,
    device: Device = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in OUTPUT.run.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Tell what would be done and measure a few steps."),
    ] = False,
    plan: PlanFile = None,
    metadata: Annotated[
        Path | None, typer.Option(help="JSON with licence, colours, codes … for model.json.")
    ] = None,
    memory_gb: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Memory that the training may use, in GB (default what is free; patch and batch "
            "are planned for 12 at most).",
        ),
    ] = None,
    workers: ReadingWorkers = None,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard",
            help="Write the figures of every epoch for TensorBoard too, to OUTPUT.run/tensorboard.",
        ),
    ] = False,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Train a model on DATASET, or fine-tune one with --from.

    State lies in OUTPUT.run beside the bundle. Write "pause" into OUTPUT.run/control to stop
    without losing anything, and go on with --resume, also after a crash.
    """

    def work(reporter: Reporter) -> None:
        sizes = None if patch is None else parse_sizes(patch, "--patch")
        from e2enet.training.loop.curves import PNG
        from e2enet.training.train import train as do

        done = do(
            dataset,
            output,
            base=base,
            plan=plan,
            metadata=metadata,
            resume=resume,
            dry_run=dry_run,
            device=device,
            workers=workers,
            tensorboard=tensorboard,
            preset=preset,
            memory_gb=memory_gb,
            reporter=reporter,
            fold=fold,
            sparsity=sparsity,
            level0_density=level0_density,
            evolve_every=evolve_every,
            epochs=epochs,
            iterations_per_epoch=iterations_per_epoch,
            optimizer=optimizer,
            lr=lr,
            batch_dice=batch_dice,
            base_channels=base_channels,
            levels=levels,
            shift_groups=shift_groups,
            batch_size=batch_size,
            patch=sizes,
            seed=seed,
            network=network,
            encoder=encoder,
            encoder_weights=encoder_weights,
            expansion=expansion,
            input_slices=input_slices,
        )
        if progress is ProgressStyle.bar and done.state not in ("dry-run", "followed"):
            words = (
                f"Model: {done.bundle}."
                if done.bundle
                else (f"{done.state.capitalize()}; the same command with --resume goes on.")
            )
            curves = done.run / PNG
            typer.echo(f"{words} Curves: {curves}" if curves.is_file() else words)
        if done.state == "followed":
            # The library's threads may abort a process that ends in the usual way after gloo.
            sys.stdout.flush()
            os._exit(0)

    run(work, progress=progress, debug=debug)
