"""`e2enet plan`: how a dataset would be trained, to be read, edited and given to training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from e2enet.cli.app import Debug, Progress, ProgressStyle, run
from e2enet.events import Reporter


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("plan")(plan)


def plan(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder in nnU-Net's raw layout.")],
    output: Annotated[Path | None, typer.Option(help="Write the plan here as JSON.")] = None,
    memory: Annotated[float, typer.Option(help="GPU memory to plan for, in GB.")] = 12.0,
    levels: Annotated[int | None, typer.Option(help="Levels of the network.")] = None,
    patch: Annotated[
        str | None, typer.Option(help="Patch in voxels, depth first, such as 64x128x128.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Patches in a batch.")] = None,
    base_channels: Annotated[int, typer.Option(min=1, help="Width of the network.")] = 48,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; 0 for none beside this one.")
    ] = None,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Plan spacing, patch, strides and normalisation of a dataset.

    Prints the plan, or writes it to --output; edit it and hand it to training.
    """

    def work(reporter: Reporter) -> None:
        from e2enet.data.datasets.raw import read_dataset
        from e2enet.data.planning.fingerprint import fingerprint
        from e2enet.data.planning.plan import make_plan, parse_patch

        sizes = None if patch is None else parse_patch(patch)
        data = read_dataset(dataset)
        made = make_plan(
            fingerprint(data, workers=workers, reporter=reporter),
            data,
            memory_gb=memory,
            levels=levels,
            patch=sizes,
            batch_size=batch_size,
            base_channels=base_channels,
        )
        if output is not None:
            made.save(output)
            reporter.result(plan=str(output.resolve()))
        elif progress is ProgressStyle.json:
            reporter.result(plan=made.to_dict())
        else:
            typer.echo(made.to_json())

    run(work, progress=progress, debug=debug)
