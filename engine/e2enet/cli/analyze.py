"""`e2enet analyze`: the papers' analyses, each a CSV and a figure."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from e2enet.cli.common import Debug, Device, Progress, ProgressStyle, run
from e2enet.cli.training_options import (
    BaseChannels,
    Dataset,
    IterationsPerEpoch,
    PlanFile,
    ReadingWorkers,
    Sparsity,
)
from e2enet.events import BadInput, Reporter


class Vary(str, Enum):
    """What a sweep varies."""

    sparsity = "sparsity"
    base_channels = "base-channels"
    levels = "levels"
    shift_groups = "shift-groups"
    start = "from"
    method = "method"


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    group = typer.Typer(no_args_is_help=True, help="The papers' analyses: a CSV and a figure each.")
    group.command("convergence")(convergence)
    group.command("sweep")(sweep)
    app.add_typer(group, name="analyze")


def convergence(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders OUTPUT.run.")],
    output: Annotated[Path, typer.Option(help="New folder.")],
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Learning curves of trainings, with their evolution steps marked."""

    def work(reporter: Reporter) -> None:
        from e2enet.training.analyses.convergence import convergence as draw

        found = draw(runs, output)
        reporter.result(
            output=str(output), epochs={name: len(rows) for name, rows in found.items()}
        )
        if progress is ProgressStyle.bar:
            typer.echo(f"{output / 'convergence.png'}")

    run(work, progress=progress, debug=debug)


def sweep(
    dataset: Dataset,
    output: Annotated[Path, typer.Option(help="Folder; gone on with if it is there.")],
    vary: Annotated[Vary, typer.Option(help="The setting that is varied.")],
    values: Annotated[
        str,
        typer.Option(
            help="Such as 0,0.5,0.8; for from models' names or paths, or scratch; for method "
            "dense, static (connections that stay) and dsff."
        ),
    ],
    seeds: Annotated[str, typer.Option(help="Of each value, such as 0,1,2.")] = "0",
    fold: Annotated[str | None, typer.Option(help="0 … 4, or of splits_final.json.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Length of each run (default 1000).")] = None,
    iterations_per_epoch: IterationsPerEpoch = None,
    base_channels: BaseChannels = None,
    sparsity: Sparsity = None,
    plan: PlanFile = None,
    device: Device = "auto",
    workers: ReadingWorkers = None,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Train a model for each value of one setting: Dice, live cost and PT score.

    The same command goes on after an interruption.
    """

    def work(reporter: Reporter) -> None:
        from e2enet.training.analyses.sweep import sweep as do

        setting: Any = "base" if vary is Vary.start else vary.value.replace("-", "_")
        options = {"base_channels": base_channels, "sparsity": sparsity}
        if options.pop(setting, None) is not None:
            raise BadInput(
                f"--{vary.value} is what the sweep varies.",
                help="Leave it out; --values says which.",
                code="bad-setting",
            )
        points = do(
            dataset,
            output,
            setting,
            [_value(text, vary) for text in values.split(",")],
            seeds=[int(_value(text, Vary.levels)) for text in seeds.split(",")],
            fold=fold,
            epochs=epochs,
            iterations_per_epoch=iterations_per_epoch,
            plan=plan,
            device=device,
            workers=workers,
            reporter=reporter,
            **options,
        )
        reporter.close()
        if progress is ProgressStyle.bar:
            _say(points, vary.value, output)

    run(work, progress=progress, debug=debug)


def _value(text: str, vary: Vary) -> Any:
    text = text.strip()
    if vary is Vary.method:
        return text
    if vary is Vary.start:
        return None if text == "scratch" else text
    try:
        return float(text) if vary is Vary.sparsity else int(text)
    except ValueError as error:
        raise BadInput(f"{text!r} is no number.", code="bad-setting") from error


def _say(points: list[Any] | None, setting: str, output: Path) -> None:
    if points is None:
        typer.echo("Paused. The same command goes on.")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(setting, "Seed", "Dice", "Live parameters", "Live multiply-adds", "PT score")
    for column in table.columns[1:]:
        column.justify = "right"
    for point in points:
        table.add_row(
            point.value,
            str(point.seed),
            f"{point.dice:.4f}",
            f"{point.live_parameters / 1e6:.3f} M",
            f"{point.live_multiply_adds / 1e9:.3f} G",
            f"{point.pt_score:.3f}",
        )
    console = Console()
    console.print(table)
    console.print(str(output / "sweep.png"), soft_wrap=True)
