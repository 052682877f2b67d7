"""`e2enet train`: from a dataset to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from e2enet.cli.app import Debug, Progress, ProgressStyle, run
from e2enet.events import BadInput, Reporter


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("train")(train)


def train(
    dataset: Annotated[Path, typer.Argument(help="Folder in nnU-Net's raw layout.")],
    output: Annotated[Path, typer.Option(help="The bundle to write; must not exist.")],
    base: Annotated[
        str | None, typer.Option("--from", help="Model to fine-tune, by name or path.")
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(help="0 … 4, all, or a fold of the dataset's splits_final.json. [default: 0]"),
    ] = None,
    sparsity: Annotated[
        float | None, typer.Option(help="Feature sparsity S. [default: 0.8]")
    ] = None,
    connection_group: Annotated[
        int | None,
        typer.Option(
            help="Output maps that share their live inputs: 1 is the paper, 0 all of a layer. "
            "[default: 1]",
            show_default=False,
        ),
    ] = None,
    evolve_every: Annotated[
        int | None,
        typer.Option(
            help="Iterations between evolutions, 0 for never. [default: min(1200, max(50, "
            "total/50)); never with --from]",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="[default: 1000]")] = None,
    iterations_per_epoch: Annotated[int | None, typer.Option(help="[default: 250]")] = None,
    lr: Annotated[float | None, typer.Option(help="Initial rate. [default: 0.01]")] = None,
    base_channels: Annotated[
        int | None, typer.Option(help="Channels at full resolution. [default: 48]")
    ] = None,
    levels: Annotated[int | None, typer.Option(help="Levels; planned by default.")] = None,
    shift_groups: Annotated[
        int | None, typer.Option(help="Depth-shift groups. [default: 3]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Planned by default.")] = None,
    patch: Annotated[str | None, typer.Option(help="D,H,W in voxels; planned by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random. [default: 0]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in OUTPUT.run.")
    ] = False,
    plan: Annotated[Path | None, typer.Option(help="Use this plan (JSON).")] = None,
    metadata: Annotated[
        Path | None, typer.Option(help="JSON with licence, colours, codes … for model.json.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that read data; no effect on the result.")
    ] = None,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Train a model on DATASET, or fine-tune one with --from.

    State lies in OUTPUT.run beside the bundle. Write "pause" into OUTPUT.run/control to stop
    without losing anything, and go on with --resume, also after a crash.
    """

    def work(reporter: Reporter) -> None:
        from e2enet.training.train import train as do

        done = do(
            dataset,
            output,
            base=base,
            plan=plan,
            metadata=metadata,
            resume=resume,
            device=device,
            workers=workers,
            reporter=reporter,
            fold=fold,
            sparsity=sparsity,
            connection_group=connection_group,
            evolve_every=evolve_every,
            epochs=epochs,
            iterations_per_epoch=iterations_per_epoch,
            lr=lr,
            base_channels=base_channels,
            levels=levels,
            shift_groups=shift_groups,
            batch_size=batch_size,
            patch=_triple(patch),
            seed=seed,
        )
        if progress is ProgressStyle.bar:
            words = f"Model: {done.bundle}" if done.bundle else f"{done.state.capitalize()}"
            typer.echo(f"{words}. Curves: {done.run / 'curves.png'}")

    run(work, progress=progress, debug=debug)


def _triple(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise BadInput(
            f"--patch is {text!r}; it must be three whole numbers.",
            help="Give depth, height and width, such as 40,56,40.",
            code="bad-setting",
        )
    return values
