"""`e2enet cross-validate`: every fold of a dataset, and what its model says of what it held out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from e2enet.events import Reporter

if TYPE_CHECKING:
    from e2enet.training.cross_validation import CrossValidated


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("cross-validate")(cross_validate)


def cross_validate(
    dataset: Dataset,
    output: Annotated[
        Path, typer.Option(help="Folder for models, held-out predictions and their report.")
    ],
    base: Base = None,
    preset: PresetName = None,
    sparsity: Sparsity = None,
    epochs: Annotated[int | None, typer.Option(help="Length of each fold (default 1000).")] = None,
    iterations_per_epoch: IterationsPerEpoch = None,
    evolve_every: EvolveEvery = None,
    optimizer: OptimizerName = None,
    lr: LearningRate = None,
    base_channels: BaseChannels = None,
    plan: PlanFile = None,
    seed: Seed = None,
    into: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Also write the means into model.json and README of this model, which is of the "
            "same network and dataset, trained on all cases.",
        ),
    ] = None,
    device: Device = "auto",
    workers: ReadingWorkers = None,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Train all folds, segment what each holds out, and evaluate it together.

    The same command goes on after an interruption. Afterwards `e2enet segment --model OUTPUT`
    averages the folds, with the post-processing that helped on the held-out cases.
    """

    def work(reporter: Reporter) -> None:
        from e2enet.evaluation.record import open_to_record, record_cross_validation
        from e2enet.training.cross_validation import cross_validate as do

        target = None if into is None else open_to_record(into)
        done = do(
            dataset,
            output,
            base=base,
            preset=preset,
            plan=plan,
            device=device,
            workers=workers,
            reporter=reporter,
            sparsity=sparsity,
            epochs=epochs,
            iterations_per_epoch=iterations_per_epoch,
            evolve_every=evolve_every,
            optimizer=optimizer,
            lr=lr,
            base_channels=base_channels,
            seed=seed,
        )
        if target is not None and done.evaluation is not None:
            record_cross_validation(target, done.evaluation, done.folds)
        reporter.close()
        if progress is ProgressStyle.bar:
            _say(done)
            if target is not None and done.evaluation is not None:
                typer.echo(f"Results: {target.path / 'README.md'}")

    run(work, progress=progress, debug=debug)


def _say(done: CrossValidated) -> None:
    if done.evaluation is None or done.chosen is None:
        typer.echo(f"{done.state.capitalize()}. The same command goes on.")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("Label", "Dice", "95 % interval", "HD95 (mm)", "Only largest part", "Kept")
    for column in table.columns[1:5]:
        column.justify = "right"
    intervals = done.evaluation.intervals("Dice")
    for name in done.evaluation.names:
        one, choice = intervals[name], done.chosen.structures[name]
        table.add_row(
            name,
            f"{one.mean:.4f}",
            f"{one.low:.3f} – {one.high:.3f}",
            f"{done.evaluation.of_structure(name, 'HD95'):.2f}",
            f"{choice.after:.4f}",
            "largest part" if choice.keep_largest else "all",
        )
    console = Console()
    console.print(table)
    if whole := done.chosen.foreground:
        console.print(
            f"All labels as one: Dice {whole.before:.4f}, of the largest part {whole.after:.4f}; "
            f"{'only that is kept, and then' if whole.keep_largest else 'all parts stay, and'} "
            "each label was tried by itself.",
            soft_wrap=True,
        )
    console.print(f"Report: {done.folder / 'report' / 'report.html'}", soft_wrap=True)
