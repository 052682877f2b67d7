"""`e2enet compare`: two models on the same cases."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2enet.cli.common import AsJson, CaseWorkers, Debug, Progress, ProgressStyle, run
from e2enet.cli.evaluate import parse_tolerances
from e2enet.events import Reporter

if TYPE_CHECKING:
    from e2enet.evaluation.comparison import Difference

_SHOWN = ("Dice", "NSD", "HD95", "ASSD")


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command(name="compare")(compare)


def compare(
    first: Annotated[Path, typer.Argument(help="Folder with the first model's label maps.")],
    second: Annotated[Path, typer.Argument(help="Folder with the second model's.")],
    references: Annotated[Path, typer.Argument(help="Folder with the references.")],
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            help="Of the normalised surface Dice, as for evaluate. [default: 1]",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    workers: CaseWorkers = None,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Compare two models case by case: Wilcoxon's signed-rank test and its effect size.

    The effect lies between -1 and 1: above 0 the first model has the larger values, which is
    better for Dice and NSD and worse for distances. p is two-sided and not corrected for the
    number of rows.
    """

    def work(reporter: Reporter) -> None:
        from e2enet.evaluation.comparison import compare as measure
        from e2enet.evaluation.comparison import to_dict
        from e2enet.evaluation.evaluate import TOLERANCE

        general, own = parse_tolerances(tolerance or [])
        found = measure(
            first,
            second,
            references,
            tolerance=TOLERANCE if general is None else general,
            tolerances=own,
            workers=workers,
            reporter=reporter,
        )
        reporter.close()
        reporter.result(comparison=to_dict(found))
        if as_json and progress is ProgressStyle.bar:
            typer.echo(json.dumps(to_dict(found), indent=2, ensure_ascii=False))
        elif progress is ProgressStyle.bar:
            _print_table(found)

    run(work, progress=progress, debug=debug)


def _print_table(found: dict[str, dict[str, Difference]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("Label", "Metric", "Cases", "First", "Second", "Larger", "Effect", "p")
    for column in table.columns[2:]:
        column.justify = "right"
    for name, differences in found.items():
        for metric in _SHOWN:
            one = differences[metric]
            table.add_row(
                name if metric == _SHOWN[0] else "",
                metric,
                str(one.cases),
                _short(one.first),
                _short(one.second),
                f"{one.wins} : {one.losses}",
                "-" if math.isnan(one.effect) else f"{one.effect:+.2f}",
                "-" if math.isnan(one.p) else f"{one.p:.2g}",
            )
        table.add_section()
    Console().print(table)


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"
