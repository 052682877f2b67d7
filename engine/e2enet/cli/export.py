"""`e2enet export`: the model a training has come to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from e2enet.cli.common import Debug, Progress, ProgressStyle, run
from e2enet.events import Reporter


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("export")(export)


def export(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a training: OUTPUT.run beside OUTPUT.")
    ],
    output: Annotated[Path, typer.Argument(help="The bundle to write; must not exist.")],
    best: Annotated[
        bool,
        typer.Option(
            "--best", help="The checkpoint of the best Dice on held-out patches, not the last one."
        ),
    ] = False,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Write the model of the last checkpoint of a training, running, paused or stopped.

    The training is not touched. A model from before the end says so in model.json and its README.
    """

    def work(reporter: Reporter) -> None:
        import os

        from e2enet.training.product.export import export_run

        bundle = export_run(folder, Path(os.path.abspath(output)), best=best)
        provenance = bundle.model["provenance"]
        reporter.result(
            bundle=str(bundle.path),
            epoch=provenance["epochs"],
            finished="unfinished" not in provenance,
        )
        if progress is ProgressStyle.bar:
            typer.echo(f"Model: {bundle.path}, after epoch {provenance['epochs']}")

    run(work, progress=progress, debug=debug)
