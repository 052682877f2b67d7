"""`e2enet transfer`: from a 2D model to the beginning of a 3D one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from e2enet.cli.common import Debug, Progress, ProgressStyle, run
from e2enet.events import BadInput, Reporter


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("transfer")(transfer)


def transfer(
    source: Annotated[str, typer.Argument(help="A 2D model, by name or path.")],
    output: Annotated[Path, typer.Option(help="The bundle to write; must not exist.")],
    to: Annotated[
        str,
        typer.Option(
            help="e2enet (an E2ENet of slices as it is, another network's encoder as backbone), ds "
            "or dx."
        ),
    ] = "e2enet",
    patch: Annotated[
        str | None, typer.Option(help="D,H,W in voxels (default 16 slices of the model's patch).")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(help="Plan (JSON) of a dataset of volumes, for a model of single images."),
    ] = None,
    norm_axes: Annotated[
        str,
        typer.Option(
            help="Statistics of an E2ENet: volume; or slice, with which, and --shift-groups 1, it "
            "gives what it gave on slices."
        ),
    ] = "volume",
    shift_groups: Annotated[int, typer.Option(min=1, help="Depth-shift groups of an E2ENet.")] = 3,
    expansion: Annotated[
        str, typer.Option(help="How 2D kernels enter dx: inflate or centre.")
    ] = "inflate",
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Make a 3D model to fine-tune of a 2D one: e2enet train DATASET --from OUTPUT."""

    def work(reporter: Reporter) -> None:
        import os

        from e2enet.bundle import Bundle
        from e2enet.data.axes import parse_sizes
        from e2enet.training.starting_point import transfer_bundle
        from e2enet.transfer.expansion import EXPANSIONS

        if expansion not in EXPANSIONS:
            raise BadInput(
                f"--expansion is {expansion!r}.", help=f"Choose one of {', '.join(EXPANSIONS)}."
            )
        bundle = transfer_bundle(
            Bundle.open(source),
            Path(os.path.abspath(output)),
            to=to,
            patch=parse_sizes(patch, "--patch") if patch else None,
            plan=plan,
            norm_axes=norm_axes,
            shift_groups=shift_groups,
            expansion=expansion,  # type: ignore[arg-type]
            reporter=reporter,
        )
        kind = bundle.model["network"]["kind"]
        reporter.result(bundle=str(bundle.path), network=kind)
        if progress is ProgressStyle.bar:
            typer.echo(f"{kind} to fine-tune: {bundle.path}")

    run(work, progress=progress, debug=debug)
