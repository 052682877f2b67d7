"""`e2enet evaluate`: Dice of label maps against references."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2enet.cli.app import Debug, Progress, ProgressStyle, run
from e2enet.events import Reporter

if TYPE_CHECKING:
    from e2enet.evaluation.dice import Evaluation


def register(app: typer.Typer) -> None:
    app.command(name="evaluate")(evaluate)


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="A label map or a folder of them.")],
    references: Annotated[Path, typer.Argument(help="The reference or a folder of references.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Compare label maps with references: Dice for each label and case, and the means.

    Files of two folders belong together by name. A label that prediction and reference both leave
    out has no Dice there (-) and is left out of the means; one that only one of them has counts 0.
    """

    def work(reporter: Reporter) -> None:
        from e2enet.evaluation.dice import evaluate as compare

        found = compare(predictions, references, reporter=reporter)
        getattr(reporter, "close", lambda: None)()
        reporter.result(**found.to_dict())
        if as_json and progress is ProgressStyle.bar:
            typer.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        elif progress is ProgressStyle.bar:
            _print_table(found)

    run(work, progress=progress, debug=debug)


def _print_table(found: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("Case", *found.names.values(), "Mean", title="Dice")
    for column in table.columns[1:]:
        column.justify = "right"
    for case, scores in found.cases.items():
        table.add_row(
            case, *(_short(score) for score in scores.values()), _short(found.of_case(case))
        )
    table.add_section()
    means = (_short(found.of_label(value)) for value in found.names)
    table.add_row("Mean", *means, _short(found.mean), style="bold")
    Console().print(table)


def _short(score: float) -> str:
    return "-" if math.isnan(score) else f"{score:.4f}"
