"""`e2enet evaluate`: label maps against references."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2enet.cli.common import AsJson, CaseWorkers, Debug, Progress, ProgressStyle, run
from e2enet.events import BadInput, Reporter

if TYPE_CHECKING:
    from e2enet.evaluation.evaluate import Evaluation

_SHOWN = ("Dice", "NSD", "HD95", "ASSD", "RAVD")


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command(name="evaluate")(evaluate)


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="A label map or a folder of them.")],
    references: Annotated[Path, typer.Argument(help="The reference or a folder of references.")],
    report: Annotated[
        Path | None,
        typer.Option(
            help="New folder for report.html, metrics.json, metrics.csv and nnU-Net's summary.json."
        ),
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            help="Of the normalised surface Dice, in mm: 2, or liver=3 for one label; may be given "
            "several times. [default: 1]",
            show_default=False,
        ),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Also write the means into this model's model.json and README. The predictions "
            "have to be its own, with the manifests that e2enet segment leaves beside them.",
        ),
    ] = None,
    as_json: AsJson = False,
    workers: CaseWorkers = None,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Compare label maps with references: Dice, surface distances, volumes, with their means.

    Files of two folders belong together by name. A label that prediction and reference both leave
    out has no value there (-) and is left out of the means. Every definition is in the report.
    """

    def work(reporter: Reporter) -> None:
        from e2enet.evaluation.evaluate import TOLERANCE
        from e2enet.evaluation.evaluate import evaluate as compare
        from e2enet.evaluation.report.tables import to_dict

        if report is not None:
            from e2enet.evaluation.report.folder import check_folder
            from e2enet.evaluation.report.page import write_report

            check_folder(report)
        if into is not None:
            from e2enet.evaluation.record import open_to_record, record_evaluation

            bundle = open_to_record(into)
        general, own = parse_tolerances(tolerance or [])
        found = compare(
            predictions,
            references,
            tolerance=TOLERANCE if general is None else general,
            tolerances=own,
            workers=workers,
            reporter=reporter,
        )
        if report is not None:
            write_report(report, found, reporter)
        if into is not None:
            record_evaluation(bundle, found, references)
        reporter.close()
        record = to_dict(found)
        reporter.result(**record)
        if as_json and progress is ProgressStyle.bar:
            typer.echo(json.dumps(record, indent=2, ensure_ascii=False))
        elif progress is ProgressStyle.bar:
            _print_tables(found)
            if report is not None:
                typer.echo(f"Report: {report / 'report.html'}")
            if into is not None:
                typer.echo(f"Results: {bundle.path / 'README.md'}")

    run(work, progress=progress, debug=debug)


def parse_tolerances(given: list[str]) -> tuple[float | None, dict[str, float]]:
    """The general tolerance, if one is given, and those of single labels, in mm."""
    general: float | None = None
    own: dict[str, float] = {}
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise BadInput(
                f"--tolerance {text} is no distance.",
                help="Give millimetres, such as 2, or a label and millimetres, such as liver=3.",
                code="bad-setting",
            )
        if name:
            own[name] = value
        else:
            general = value
    return general, own


def _print_tables(found: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    from e2enet.evaluation.metrics.measures import METRICS

    console = Console()
    if len(found.cases) > 1:
        table = Table("Case", *found.names, "Mean", title="Dice")
        for case, structures in found.cases.items():
            scores = [one.values["Dice"] for one in structures.values()]
            table.add_row(case, *map(_short, scores), _short(found.of_case(case)))
        _aligned(table)
        console.print(table)
    heads = [f"{key} ({unit})" if (unit := METRICS[key].unit) else key for key in _SHOWN]
    table = Table("Mean", *heads)
    for name in found.names:
        table.add_row(name, *(_short(found.of_structure(name, key)) for key in _SHOWN))
    table.add_section()
    table.add_row("all", *(_short(found.mean(key)) for key in _SHOWN), style="bold")
    _aligned(table)
    console.print(table)
    tolerances = found.tolerances.values()
    if len(set(tolerances)) == 1:
        console.print(f"NSD at {next(iter(tolerances)):g} mm.")
    elif tolerances:
        told = ", ".join(f"{name} {value:g} mm" for name, value in found.tolerances.items())
        console.print(f"NSD at {told}.")


def _aligned(table: Any) -> None:
    for column in table.columns[1:]:
        column.justify = "right"


def _short(score: float) -> str:
    return "-" if math.isnan(score) else f"{score:.4f}" if abs(score) < 10 else f"{score:.1f}"
