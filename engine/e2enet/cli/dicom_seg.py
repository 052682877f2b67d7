"""`e2enet dicom-seg`: a label map as DICOM SEG."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from e2enet.cli.common import Debug, Progress, ProgressStyle, run
from e2enet.events import Reporter


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("dicom-seg")(dicom_seg)


def dicom_seg(
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="A label map, such as a result of segment.")
    ],
    source: Annotated[
        Path,
        typer.Argument(
            help="The DICOM folder, its zip or one file of the series that was segmented."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A name that ends in .dcm.", show_default=False)
    ],
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="The record of the run, which names the structures; by default the one beside "
            "LABELS.",
            show_default=False,
        ),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(
            help="Which series of SOURCE: its number, a part of its description or its UID; by "
            "default the one that the record names.",
            show_default=False,
        ),
    ] = None,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Write a label map as DICOM SEG on the series it was made from. Not for clinical use."""

    def work(reporter: Reporter) -> None:
        from e2enet.interop.dicom.writing import label_map_to_seg

        written = label_map_to_seg(labels, source, output, manifest=manifest, series=series)
        reporter.result(
            output=str(written.path),
            series_uid=written.series_uid,
            sop_instance_uid=written.sop_instance_uid,
        )
        if progress is ProgressStyle.bar:
            typer.echo(f"{written.path}")

    run(work, progress=progress, debug=debug)
