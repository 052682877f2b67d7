"""`e2enet convert`: a model for other programs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from e2enet.cli.common import Debug, Progress, ProgressStyle, complete_model, run
from e2enet.events import Reporter


class Format(str, Enum):
    """What other programs read."""

    onnx = "onnx"
    monai = "monai"


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("convert")(convert)


def convert(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model's name (see e2enet models) or path.",
            autocompletion=complete_model,
        ),
    ],
    output: Annotated[
        Path, typer.Argument(help="The .onnx file, or the folder of the MONAI bundle, to write.")
    ],
    to: Annotated[
        Format,
        typer.Option(
            "--to",
            help="onnx: the dense equivalent, for ONNX Runtime, OpenVINO and others. monai: a "
            "folder for monai.bundle.",
            show_default=False,
        ),
    ],
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Write a model in a format of other programs. Not for clinical use."""

    def work(reporter: Reporter) -> None:
        if to is Format.onnx:
            from e2enet.interop.onnx_model import write_onnx

            written = write_onnx(model, output)
        else:
            from e2enet.interop.monai_bundle import write_monai_bundle

            written = write_monai_bundle(model, output)
        reporter.result(output=str(written))
        if progress is ProgressStyle.bar:
            typer.echo(f"{written}")

    run(work, progress=progress, debug=debug)
