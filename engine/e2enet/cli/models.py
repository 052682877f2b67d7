"""`e2enet models`: the models that can be named, and how they come and go."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2enet.cli.common import AsJson, Debug, Progress, ProgressStyle, complete_model, run
from e2enet.events import BadInput, Reporter

if TYPE_CHECKING:
    from rich.table import Table

    from e2enet.bundle.index import Entry

models = typer.Typer(help="List, install, check, pack and remove models.", no_args_is_help=False)

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME...", help="Names or paths; all that there are by default.",
        autocompletion=complete_model, show_default=False,
    ),
]  # fmt: skip
Index = Annotated[
    str | None,
    typer.Option(
        help="Address or path of a list of models; $E2ENET_INDEX or the project's own by default. "
        "An address may end in #sha256=….",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the application."""
    app.add_typer(models, name="models")


@models.callback(invoke_without_command=True)
def _default(context: typer.Context, as_json: AsJson = False, debug: Debug = False) -> None:
    if context.invoked_subcommand is None:
        list_(as_json=as_json, debug=debug)


@models.command("list")
def list_(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the models that --model takes by name."""

    def work(reporter: Reporter) -> None:
        found = _described()
        if as_json:
            typer.echo(json.dumps({"models": found}, indent=2, ensure_ascii=False))
            return
        _print_table(found, reporter)

    run(work, progress=ProgressStyle.bar, debug=debug)


@models.command()
def available(index: Index = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """List the models that an index offers."""

    def work(_: Reporter) -> None:
        from e2enet.bundle.index import default_index, read_index

        entries = read_index(index or default_index())
        if as_json:
            told = [
                {"name": one.name, "bytes": one.bytes, "sha256": one.file.sha256, **one.model}
                for one in entries
            ]
            typer.echo(json.dumps({"models": told}, indent=2, ensure_ascii=False))
            return
        _print_available(entries)

    run(work, progress=ProgressStyle.bar, debug=debug)


@models.command()
def install(
    source: Annotated[
        str,
        typer.Argument(
            metavar="URL|FILE|NAME",
            help="Address of a model's zip or model.json, a zip or folder on this computer, or a "
            "name that the index lists.",
            show_default=False,
        ),
    ],
    sha256: Annotated[
        str, typer.Option(help="What the file's SHA-256 must be.", show_default=False)
    ] = "",
    index: Index = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a model of the same name.")
    ] = False,
    progress: Progress = ProgressStyle.bar,
    debug: Debug = False,
) -> None:
    """Install a model, or a pack of several; a download that was cut off is gone on with.

    Proxies are taken from HTTPS_PROXY. Everything is checked before anything changes, and nothing
    of it is executed.
    """

    def work(reporter: Reporter) -> None:
        from e2enet.bundle.install import install as install_models

        placed = install_models(
            source, sha256=sha256, index=index, replace=replace, reporter=reporter
        )
        reporter.close()
        reporter.result(models=[{"name": path.name, "path": str(path)} for path in placed])
        if progress is ProgressStyle.bar:
            for path in placed:
                typer.echo(f"{path.name} is installed in {path}")

    run(work, progress=progress, debug=debug)


@models.command()
def verify(names: Names = None, debug: Debug = False) -> None:
    """Compare every file of models with its hash, and see whether the weights can be loaded."""

    def work(_: Reporter) -> None:
        from e2enet.bundle import find_model, list_models

        paths = [find_model(name) for name in names] if names else list(list_models())
        wrong = []
        for path in paths:
            damage = _damage(path)
            typer.echo(f"{path.name}: {' '.join(damage) or 'sound'}")
            wrong += [path.name] if damage else []
        if wrong:
            raise BadInput(
                f"{len(wrong)} of {len(paths)} models are damaged: {', '.join(wrong)}.",
                help="Install them again.",
                code="damaged-model",
            )

    run(work, progress=ProgressStyle.bar, debug=debug)


@models.command()
def remove(
    name: Annotated[str, typer.Argument(autocompletion=complete_model, show_default=False)],
    debug: Debug = False,
) -> None:
    """Delete a model that was installed; what came with the program stays."""

    def work(_: Reporter) -> None:
        from e2enet.bundle.install import remove as remove_model

        typer.echo(f"{remove_model(name)} is deleted.")

    run(work, progress=ProgressStyle.bar, debug=debug)


@models.command()
def pack(
    output: Annotated[Path, typer.Argument(help="New zip.", show_default=False)],
    names: Names = None,
    debug: Debug = False,
) -> None:
    """Write models as one zip, for computers without internet: `models install` takes it."""

    def work(_: Reporter) -> None:
        from e2enet.bundle import Bundle, list_models
        from e2enet.bundle.archive import pack as pack_models
        from e2enet.bundle.checking import find_damage
        from e2enet.files import output_errors, sha256

        if output.suffix.lower() != ".zip":
            raise BadInput(f"{output} is no name of a zip.", help="Let it end in .zip.")
        if output.exists():
            raise BadInput(f"{output} already exists.", help="Choose another name.", code="exists")
        chosen: list[Any] = list(names or list_models())
        bundles = [Bundle.open(one) for one in chosen]
        for bundle in bundles:
            if damage := find_damage(bundle.path):
                raise BadInput(damage[0], help="Install it again.", code="damaged-model")
        folders = {bundle.path.name: bundle.path for bundle in bundles}
        if len(folders) < len(bundles) or not folders:
            raise BadInput(
                f"{output} would hold {len(bundles)} models in {len(folders)} folders.",
                help="Name each model once.",
                code="no-model",
            )
        with output_errors(output):
            pack_models(list(folders.values()), output)
        typer.echo(f"{output}: {', '.join(folders)}\nSHA-256: {sha256(output)}")

    run(work, progress=ProgressStyle.bar, debug=debug)


@models.command("index")
def index_(
    folder: Annotated[Path, typer.Argument(help="Holds models, as folders or zips.")],
    sample: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="An image that the model NAME can be tried on, hosted along with the folder.",
            show_default=False,
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Write FOLDER/index.json: then any server of files can offer its models."""

    def work(_: Reporter) -> None:
        from e2enet.bundle.index import write_index
        from e2enet.files import sha256

        samples = dict(one.partition("=")[::2] for one in sample or [])
        written = write_index(folder, samples)
        typer.echo(f"{written}\nSHA-256: {sha256(written)}")

    run(work, progress=ProgressStyle.bar, debug=debug)


def _damage(path: Path) -> list[str]:
    """What is wrong with a model; a zip is checked as it is opened."""
    from e2enet.bundle import Bundle
    from e2enet.bundle.checking import find_damage

    try:
        bundle = Bundle.open(path)
        damage = find_damage(bundle.path)
        if not damage:
            bundle.load_weights()
    except BadInput as error:
        return [error.message]
    return damage


def _described() -> list[dict[str, Any]]:
    """What can be said of every model; of a damaged one its error."""
    from e2enet.bundle import Bundle, list_models

    entries: list[dict[str, Any]] = []
    for path in list_models():
        try:
            bundle = Bundle.open(path)
        except BadInput as error:
            entries.append({"name": path.name, "path": str(path), "error": error.message})
            continue
        model = bundle.model
        entries.append(
            {
                "name": path.name,
                "path": str(path),
                "title": bundle.title,
                "modality": model.get("modality", ""),
                "anatomy": model.get("anatomy", ""),
                "channels": bundle.channels,
                "labels": [label.to_dict() for label in bundle.labels],
                "regions": [box.get("name") for box in (bundle.locator or {}).get("boxes", [])],
                "licence": model.get("licence", ""),
                "citation": model.get("citation", ""),
                "provenance": model.get("provenance", {}),
            }
        )
    return entries


def _print_table(entries: list[dict[str, Any]], reporter: Reporter) -> None:
    from rich.console import Console

    for entry in entries:
        if "error" in entry:
            reporter.warning("damaged-model", entry["error"])
    usable = [entry for entry in entries if "error" not in entry]
    if not usable:
        typer.echo("No models are installed; `e2enet models available` lists what can be had.")
        return
    table = _table("Name", "Anatomy", "Modality", "Channels", "Labels", "Licence")
    for entry in usable:
        table.add_row(
            entry["name"],
            entry["anatomy"],
            entry["modality"],
            ", ".join(entry["channels"]),
            ", ".join(label["name"] for label in entry["labels"]),
            entry["licence"],
        )
    Console().print(table)


def _state(entry: Entry, path: Path | None) -> str:
    if path is None:
        return ""
    return "yes" if entry.is_at(path) else "another version"


_TERMINAL = 80
_WIDTHS = {"Anatomy": 12, "Modality": 8, "Labels": 13, "Licence": 10}


def _table(*titles: str) -> Table:
    """Names are for typing: they are never cut. Columns of words are as wide as most words."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        *titles, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    wide = Console().width >= _TERMINAL  # where there is less room, words are broken
    for column in table.columns:
        column.overflow = "fold"
        column.min_width = _WIDTHS.get(str(column.header)) if wide else None
        column.no_wrap = column.header in ("Name", "Size", "Here")
    return table


def _print_available(entries: Sequence[Entry]) -> None:
    from rich.console import Console

    from e2enet.bundle import list_models

    there = {path.name: path for path in list_models()}
    table = _table("Name", "Anatomy", "Modality", "Labels", "Size", "Licence", "Here")
    table.columns[4].justify = "right"
    for one in entries:
        table.add_row(
            one.name,
            str(one.model.get("anatomy", "")),
            str(one.model.get("modality", "")),
            ", ".join(str(label["name"]) for label in one.model.get("labels") or []),
            f"{one.bytes / 1e6:.1f} MB",
            str(one.model.get("licence", "")),
            _state(one, there.get(one.name)),
        )
    console = Console(markup=False, highlight=False)
    console.print(table, width=console.width - 1)  # a table without edges is one wider than told
