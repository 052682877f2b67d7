"""`e2enet dataset`: other people's folders as datasets, and what is wrong with one."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from e2enet.cli.common import CaseWorkers, Debug, Progress, ProgressStyle, run
from e2enet.events import BadInput, Reporter


class Kind(str, Enum):
    """The layouts that are known, and `pattern` for any other."""

    msd = "msd"
    amos_ct = "amos-ct"
    amos_mr = "amos-mr"
    btcv = "btcv"
    brats = "brats"
    camus = "camus"
    chaos_ct = "chaos-ct"
    chaos_t1 = "chaos-t1"
    chaos_t2 = "chaos-t2"
    pattern = "pattern"


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    group = typer.Typer(no_args_is_help=True, help="Import a dataset, or check one.")
    group.command("import")(import_)
    group.command("check")(check)
    app.add_typer(group, name="dataset")


def import_(
    source: Annotated[Path, typer.Argument(help="The folder as it was downloaded.")],
    output: Annotated[Path, typer.Argument(help="New folder, such as Dataset007_Liver.")],
    kind: Annotated[
        Kind, typer.Option(help="Whose layout it is; pattern pairs any files by their names.")
    ],
    images: Annotated[
        list[str] | None,
        typer.Option(
            help='For pattern: of the images, such as "scans/{case}.nii.gz"; one a channel.'
        ),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help='For pattern: of the label maps, as "masks/{case}.nii.gz".')
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="For pattern: name of label 1, 2 …, in this order.")
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(help="For pattern: name of each channel; CT decides how it is normalised."),
    ] = None,
    workers: CaseWorkers = None,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Write a dataset in nnU-Net's raw layout from somebody's folder, whole or not at all."""

    def work(reporter: Reporter) -> None:
        from e2enet.data.datasets.importing.importing import DOORS, import_dataset
        from e2enet.data.datasets.importing.pattern import read_pattern

        if not source.is_dir():
            raise BadInput(f"{source} is no folder.", code="missing-file")
        if kind is Kind.pattern:
            if not images or not labels or not name:
                raise BadInput(
                    "--kind pattern needs --images, --labels and --name.",
                    help='For example --images "scans/{case}.nii.gz" --labels '
                    '"masks/{case}.nii.gz" --name liver --channel CT.',
                    code="bad-pattern",
                )
            found = read_pattern(
                source, images=images, labels=labels, names=name, channels=channel or ["MRI"]
            )
        else:
            found = DOORS[kind.value](source)
        counts = import_dataset(found, source, output, workers=workers, reporter=reporter)
        reporter.close()
        reporter.result(dataset=str(output), **counts)
        if progress is ProgressStyle.bar:
            typer.echo(f"{output}: {counts['training']} training and {counts['test']} test cases")

    run(work, progress=progress, debug=debug)


def check(
    dataset: Annotated[Path, typer.Argument(help="Folder in nnU-Net's raw layout.")],
    report: Annotated[
        Path | None, typer.Option(help="New folder for report.html with pictures, and check.json.")
    ] = None,
    workers: CaseWorkers = None,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Find what will go wrong: grids, labels, flips, duplicates, NaN, odd intensities and spacings.

    The exit status is 2 if a case cannot be used, and 0 if there are only doubts.
    """

    def work(reporter: Reporter) -> None:
        from e2enet.data.datasets.checking import check_dataset
        from e2enet.evaluation.report.folder import check_folder

        if report is not None:
            check_folder(report)
        found = check_dataset(dataset, workers=workers, reporter=reporter)
        if report is not None:
            from e2enet.evaluation.report.dataset_page import write_check

            write_check(report, found, reporter)
        reporter.close()
        reporter.result(**found.to_dict())
        if progress is ProgressStyle.bar:
            for finding in found.findings:
                typer.echo(f"{finding.severity}: {finding.case}: {finding.message}")
            if report is not None:
                typer.echo(f"Report: {report / 'report.html'}")
            elif not found.findings:
                typer.echo(f"{len(found.cases)} cases, nothing found.")
        if found.errors:
            raise BadInput(
                f"{len(found.errors)} of {len(found.dataset.cases)} cases of {dataset} cannot be "
                f"used: {found.errors[0].message}",
                help="Correct them or move them away, and check again.",
                code="unusable-cases",
            )

    run(work, progress=progress, debug=debug)
