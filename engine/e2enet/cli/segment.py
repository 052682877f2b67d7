"""`e2enet segment`: label maps from images."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2enet.cli.common import Debug, Device, Progress, ProgressStyle, complete_model, run
from e2enet.events import BadInput, Reporter

if TYPE_CHECKING:
    from collections.abc import Sequence


class RuntimeChoice(str, Enum):
    """What computes the network."""

    sparse = "sparse"
    reference = "reference"


class PrecisionChoice(str, Enum):
    """What the network is computed in."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command(name="segment")(segment)


def segment(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="An image file, the files of one case's channels in the model's order, a DICOM "
            "folder or a zip of one, or a folder of cases.",
            show_default=False,
        ),
    ],
    model: Annotated[
        list[str],
        typer.Option(
            help="A model's name (see e2enet models) or path, or the folder of a cross-validation. "
            "Given several times, the models' probabilities are averaged.",
            show_default=False,
            autocompletion=complete_model,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The segmentation's file name, such as out.nii.gz, or out.dcm for a DICOM SEG of "
            "a DICOM input; for a folder of cases a folder.",
            show_default=False,
        ),
    ],
    device: Device = "auto",
    tta: Annotated[
        bool,
        typer.Option(
            "--tta/--no-tta",
            help="Average over mirrored images: a little better, up to 8 times slower.",
        ),
    ] = False,
    roi: Annotated[
        list[str] | None,
        typer.Option(
            help="Segment only this region: x0,y0,z0,x1,y1,z1 in mm (LPS, as in DICOM), or a "
            "markups ROI of 3D Slicer (.mrk.json). For a model with a locator, NAME:REGION says "
            "which of its regions that is, and may be given several times.",
            show_default=False,
        ),
    ] = None,
    series: Annotated[
        list[str] | None,
        typer.Option(
            help="Which series of a DICOM folder or zip: its number, a part of its description or "
            "its UID; several times for the channels of one study. By default the only one that "
            "is a volume of the model's modality.",
            show_default=False,
        ),
    ] = None,
    save_probabilities: Annotated[
        bool, typer.Option("--save-probabilities", help="Also save each label's probability.")
    ] = False,
    runtime: Annotated[
        RuntimeChoice,
        typer.Option(
            help="sparse skips what the model's sparsity removed; reference runs the network as it "
            "was trained, slower."
        ),
    ] = RuntimeChoice.sparse,
    precision: Annotated[
        PrecisionChoice | None,
        typer.Option(
            help="float16 and bfloat16 are faster and take less memory; a few voxels at borders "
            "differ. Where the CPU cannot, float32 runs. By default float16 on a graphics card, "
            "else float32.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="For a folder of cases: leave out those that OUTPUT has results of already, made "
            "of the same images by the same model and options.",
        ),
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Segment a folder of cases on Ray: ray for this machine, or ray://HOST:PORT. All "
            "machines must see the same folders.",
            show_default=False,
        ),
    ] = None,
    cluster_workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Workers of the cluster; by default one a GPU, or one for four cores.",
            show_default=False,
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            help="Segment on this server (https://HOST:PORT) with one of its models, the cases of "
            "a folder one after the other. Voxels and geometry are sent, nothing else, and deleted "
            "there once the result is here.",
            show_default=False,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File that holds your token for the server; otherwise $E2ENET_TOKEN does.",
            show_default=False,
        ),
    ] = None,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Segment images: a label map on the input's grid, volumes in mL, and a record of the run.

    Beside OUTPUT lie NAME.volumes.csv and NAME.manifest.json. Not for clinical use.
    """  # fmt: skip

    def work(reporter: Reporter) -> None:
        from e2enet.bundle.bundle import MODEL
        from e2enet.inference.case.inputs import is_case_folder

        if astray := [path for path in inputs[1:] if (path / MODEL).is_file()]:
            raise BadInput(
                f"{astray[0]} is a model and no image.",
                help=f"Name several models one by one: --model {model[0]} --model {astray[0]}.",
                code="no-image",
            )
        models = model[0] if len(model) == 1 else model
        options: dict[str, Any] = {
            "output": output,
            "device": device,
            "tta": tta,
            "roi": roi or None,
            "save_probabilities": save_probabilities,
            "runtime": runtime.value,
            "precision": precision.value if precision else None,
            "reporter": reporter,
        }
        if server is not None:
            from e2enet.inference.case.result import Outputs

            options |= {"series": series or None, "resume": resume, "cluster": cluster}
            result = _on_server(server, token_file, inputs, model, options)
            if isinstance(result, dict):
                reporter.result(**result)
                _take_bar_away(reporter)
                _say_batch(result, progress)
                return
            reporter.result(**result.describe(Outputs.of(output)))
            _take_bar_away(reporter)
            _say(result.labels, Outputs.of(output), progress)
            return
        several = is_case_folder(inputs[0]) or (resume and inputs[0].is_dir())
        if len(inputs) == 1 and several:
            if series:
                raise _no_series(inputs[0])
            if cluster is not None:
                from e2enet.cluster.segmenting import segment_on_cluster

                options |= {"address": cluster, "workers": cluster_workers}
                outcome = segment_on_cluster(inputs[0], models, resume=resume, **options)
            else:
                from e2enet.inference.batch import segment_folder

                outcome = segment_folder(inputs[0], models, resume=resume, **options)
            reporter.result(**outcome)
            _take_bar_away(reporter)
            _say_batch(outcome, progress)
            return
        if cluster is not None:
            raise BadInput(
                "A cluster segments a folder of cases; this is one case.",
                help="Leave --cluster out.",
                code="cluster-one-case",
            )
        if resume:
            raise BadInput(
                "--resume goes on with a folder of cases; this is one case.",
                help="Leave it out.",
                code="resume-one-case",
            )
        options["series"] = series or None
        if output.suffix.lower() == ".dcm":
            from e2enet.interop.dicom.writing import segment_to_seg

            result, outputs = segment_to_seg(inputs, models, **options)
        else:
            from e2enet.inference.case.result import Outputs
            from e2enet.inference.segmenter import segment as segment_one

            result, outputs = segment_one(inputs, models, **options), Outputs.of(output)
        reporter.result(**result.describe(outputs))
        _take_bar_away(reporter)
        _say(result.labels, outputs, progress)

    run(work, progress=progress, debug=debug)


def _on_server(
    server: str,
    token_file: Path | None,
    inputs: list[Path],
    model: list[str],
    options: dict[str, Any],
) -> Any:
    from e2enet.inference.case.inputs import is_case_folder
    from e2enet.service.client import segment_on_server
    from e2enet.service.connection import Server, read_token
    from e2enet.service.folder import segment_folder_on_server

    left = {
        "--resume": options["resume"],
        "an output in DICOM": options["output"].suffix.lower() == ".dcm",
        "several models": len(model) > 1,
        "--cluster": options["cluster"] is not None,
        "--save-probabilities": options["save_probabilities"],
        "--device": options["device"] != "auto",
        "--runtime": options["runtime"] != RuntimeChoice.sparse.value,
        "--precision": options["precision"] is not None,
    }
    for name, given in left.items():
        if given:
            raise BadInput(
                f"A server does not take {name}.", help="Leave it out.", code="not-on-a-server"
            )
    there = Server(server, read_token(token_file))
    shared = {name: options[name] for name in ("output", "tta", "roi", "reporter")}
    if len(inputs) == 1 and is_case_folder(inputs[0]):
        if options["series"]:
            raise _no_series(inputs[0])
        return segment_folder_on_server(inputs[0], model[0], server=there, **shared)
    return segment_on_server(inputs, model[0], server=there, series=options["series"], **shared)


def _no_series(folder: Path) -> BadInput:
    return BadInput(
        f"{folder} is a folder of images, not of DICOM series to choose from.",
        help="Leave --series out.",
        code="no-dicom",
    )


def _take_bar_away(reporter: Reporter) -> None:
    reporter.close()


def _say(labels: Sequence[Any], outputs: Any, progress: ProgressStyle) -> None:
    if progress is not ProgressStyle.bar:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("Label", "Structure", "Volume (mL)")
    table.columns[2].justify = "right"
    for label in labels:
        doubt = " (doubtful)" if label.doubtful else ""
        table.add_row(str(label.value), label.name + doubt, f"{label.volume_ml:.2f}")
    console = Console()
    console.print(table)
    console.print(f"{outputs.segmentation}", highlight=False, soft_wrap=True)


def _say_batch(outcome: dict[str, list[dict[str, Any]]], progress: ProgressStyle) -> None:
    done, failed = outcome["cases"], outcome["failed"]
    if progress is ProgressStyle.bar and done:
        from rich.console import Console
        from rich.table import Table

        # Cases can differ in their labels: a crop has no sides.
        names = list(dict.fromkeys(label["name"] for case in done for label in case["labels"]))
        table = Table("Case", *(f"{name} (mL)" for name in names))
        for column in table.columns[1:]:
            column.justify = "right"
        for case in done:
            volumes = {label["name"]: f"{label['volume_ml']:.2f}" for label in case["labels"]}
            doubt = " (doubtful)" if case["doubtful"] else ""
            table.add_row(case["case"] + doubt, *(volumes.get(name, "") for name in names))
        Console().print(table)
        if before := sum("resumed" in case for case in done):
            typer.echo(f"{before} of these {len(done)} were done before.")
    if not failed:
        return
    if progress is ProgressStyle.bar:
        for one in failed:
            typer.echo(f"Left out: {one['case']}: {one['message']} {one['help']}".rstrip())
        listed = ""
    else:
        told = "; ".join(f"{one['case']}: {one['message']}" for one in failed[:5])
        listed = f": {told}" + (f" (and {len(failed) - 5} more)" if len(failed) > 5 else "")
    raise BadInput(
        f"{len(failed)} of {len(done) + len(failed)} cases could not be segmented{listed}"
        + ("" if listed else "."),
        help="The others are done." if done else "",
        code="cases-failed",
    )
