"""`e2enet explain`: which scales a model fused, and where in an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2enet.cli.common import Debug, Device, Progress, ProgressStyle, complete_model, run
from e2enet.events import Reporter

if TYPE_CHECKING:
    from e2enet.explain.explanation import Explanation


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command(name="explain")(explain)


def explain(
    model: Annotated[
        str,
        typer.Option(
            help="A model's name (see e2enet models) or path.",
            show_default=False,
            autocompletion=complete_model,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="A folder; an earlier explanation in it is replaced.",
            show_default=False,
        ),
    ],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[INPUT...]",
            help="An image file, the files of one case's channels in the model's order, or a DICOM "
            "folder or a zip of one. Without it only the model's fusion flow is shown.",
            show_default=False,
        ),
    ] = None,
    nodes: Annotated[
        list[str] | None,
        typer.Option(
            help="Nodes to look at: STAGE:LEVEL, several with commas, or all. By default those of "
            "the last diagonal, which give the segmentation.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="Also show what this label rests on: its name or number. May be repeated.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    roi: Annotated[
        list[str] | None,
        typer.Option(
            help="Look only at this region, as in e2enet segment.",
            show_default=False,
        ),
    ] = None,
    series: Annotated[
        list[str] | None,
        typer.Option(
            help="Which series of a DICOM folder or zip, as in e2enet segment.",
            show_default=False,
        ),
    ] = None,
    faithfulness: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="IMAGES LABELS",
            help="Folders of images and of their label maps: delete connections by importance, at "
            "random and by size, and compare the loss of Dice.",
            show_default=False,
        ),
    ] = None,
    cases: Annotated[
        int, typer.Option(min=1, help="How many of those images, from the first by name.")
    ] = 10,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Show which scales a model fused: its flow, and its importance voxel by voxel in an image.

    OUTPUT holds report.html, volumes on the input's voxels in and around what was found, figures,
    flow.json and flow.csv; explain.json lists them. Not for clinical use.
    """

    def work(reporter: Reporter) -> None:
        from e2enet.explain.explanation import explain as explain_one

        result = explain_one(
            inputs or None,
            model,
            output=output,
            nodes=nodes or None,
            labels=label or (),
            device=device,
            roi=roi or None,
            series=series or None,
            faithfulness_on=faithfulness,
            cases=cases,
            reporter=reporter,
        )
        reporter.result(**result.describe())
        if progress is ProgressStyle.bar:
            _say(result)

    run(work, progress=progress, debug=debug)


def _say(result: Explanation) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    wanted = [share for share in result.index["shares"] if share["where"] == "region"]
    if wanted:
        table = Table("Node", "Map of", "Forward", "Upward", "Downward")
        for column in table.columns[2:]:
            column.justify = "right"
        for share in wanted:
            about = share["label"]["name"] if share["label"] else "importance"
            table.add_row(
                f"{share['stage']}:{share['level']}",
                about,
                *(_percent(share["directions"].get(d)) for d in ("forward", "upward", "downward")),
            )
        console.print(table)
    if result.index["faithfulness"]:
        console.print(_deletions(result.index["faithfulness"]))
    console.print(f"{result.folder / result.index['report']}", highlight=False, soft_wrap=True)


def _deletions(check: dict[str, Any]) -> Any:
    from rich.table import Table

    fractions = sorted({row["fraction"] for row in check["rows"]})
    table = Table(
        "Deleted",
        *(f"{100 * fraction:.0f} %" for fraction in fractions),
        title=f"Mean loss of Dice, {len(check['cases'])} cases "
        f"(intact: {check['mean_dice_intact']:.3f})",
        title_justify="left",
    )
    for rule in dict.fromkeys(row["rule"] for row in check["rows"]):
        losses = {r["fraction"]: r["mean_loss"] for r in check["rows"] if r["rule"] == rule}
        table.add_row(rule, *(f"{round(losses[fraction], 3) + 0.0:.3f}" for fraction in fractions))
    return table


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"
