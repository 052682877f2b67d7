"""`e2enet import`: models that were trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from e2enet.cli.common import Debug, Progress, ProgressStyle, run
from e2enet.events import Reporter


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("import")(import_model)


def import_model(
    folder: Annotated[
        Path,
        typer.Argument(
            help="nnUNetTrainerE2ENet__PLANS__CONFIGURATION of nnU-Net v2, or the folder of the "
            "released E2ENet's training with its plans.pkl."
        ),
    ],
    output: Annotated[Path, typer.Argument(help="The bundle to write; must not exist.")],
    fold: Annotated[str, typer.Option(help="Which fold: a number, or all.")] = "0",
    shift_groups: Annotated[
        int, typer.Option(help="Depth-shift groups of a released model; no weight shows them.")
    ] = 5,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Make a model of a folder that nnU-Net trained an E2ENet in; nothing in it is executed."""

    def work(reporter: Reporter) -> None:
        from e2enet.interop.nnunet.importing import import_folder

        bundle = import_folder(
            folder, output, fold=fold, shift_groups=shift_groups, reporter=reporter
        )
        reporter.result(bundle=str(bundle.path))
        if progress is ProgressStyle.bar:
            typer.echo(f"Model: {bundle.path}")

    run(work, progress=progress, debug=debug)
