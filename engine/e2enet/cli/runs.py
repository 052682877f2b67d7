"""`e2enet runs`: the trainings in a folder, and what can be deleted of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2enet.cli.common import Debug, ProgressStyle, run
from e2enet.events import BadInput

if TYPE_CHECKING:
    from e2enet.training.run.listing import RunState

runs = typer.Typer(help="List, show and clear up trainings.", no_args_is_help=False)

Folder = Annotated[Path, typer.Argument(help="Where to look, with all folders below.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.add_typer(runs, name="runs")


@runs.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        _list(Path(), as_json=False, debug=False)


@runs.command("list")
def list_(folder: Folder = Path(), as_json: AsJson = False, debug: Debug = False) -> None:
    """List trainings with state, progress, last online Dice and disk use."""
    _list(folder, as_json=as_json, debug=debug)


@runs.command()
def show(
    folder: Annotated[Path, typer.Argument(help="OUTPUT.run, the folder of a training.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what a training was started with and how far it is."""

    def work(_: Any) -> None:
        from e2enet.training.run.listing import run_state
        from e2enet.training.run.settings import RUN, Run

        if not (folder / RUN).is_file():
            raise BadInput(
                f"{folder} is not the folder of a training: it has no {RUN}.",
                help="`e2enet runs list` finds them.",
                code="no-run",
            )
        loaded, state = Run.load(folder), run_state(folder)
        training, held_out = loaded.split()
        told = {
            **state.to_dict(),
            "training_cases": len(training),
            "held_out_cases": len(held_out),
            "from": loaded.source["name"] if loaded.source else None,
            **{k: v for k, v in vars(loaded.settings).items() if v is not None and k != "epochs"},
        }
        if as_json:
            typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
            return
        for name, value in told.items():
            if value is not None:
                typer.echo(f"{name.replace('_', ' '):<22}{_text(name, value)}")

    run(work, progress=ProgressStyle.bar, debug=debug)


@runs.command()
def prune(
    folder: Folder = Path(),
    caches: Annotated[
        bool, typer.Option("--caches", help="Preprocessed datasets in the cache as well.")
    ] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete; without it they are only listed.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Delete the folders of finished trainings; their models stay, but cannot be extended."""

    def work(_: Any) -> None:
        from e2enet.training.run import listing

        found = listing.find_runs(folder)
        if caches and any(one.state == "running" for one in found):
            raise BadInput(
                "A training is under way that may need the cache.",
                help="Wait until it ends, or leave --caches out.",
                code="run-in-use",
            )
        chosen = listing.prunable(found) + (listing.preprocessed_folders() if caches else [])
        total = 0
        for path in chosen:
            size = listing.folder_bytes(path)
            total += size
            if delete:
                listing.delete(path)
            typer.echo(f"{_size(size):>9}  {path}")
        if not chosen:
            typer.echo("Nothing to delete.")
        elif delete:
            typer.echo(f"{_size(total):>9}  deleted.")
        else:
            typer.echo(f"{_size(total):>9}  can go; --delete deletes them.")

    run(work, progress=ProgressStyle.bar, debug=debug)


def _list(folder: Path, *, as_json: bool, debug: bool) -> None:
    def work(_: Any) -> None:
        from e2enet.training.run.listing import find_runs

        found = find_runs(folder)
        if as_json:
            typer.echo(json.dumps({"runs": [one.to_dict() for one in found]}, indent=2))
        elif found:
            _print_table(found, folder)
        else:
            typer.echo(f"{folder.resolve()} holds no training.")

    run(work, progress=ProgressStyle.bar, debug=debug)


def _print_table(found: Sequence[RunState], folder: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("Run", "State", "Dataset", "Epoch", "Dice", "Size", box=box.SIMPLE_HEAD)
    for column in table.columns[3:]:
        column.justify = "right"
        column.no_wrap = True
    for one in found:
        table.add_row(
            str(one.folder.relative_to(folder)),
            one.state,
            one.dataset,
            f"{one.epoch}/{one.epochs}",
            "–" if one.dice is None else f"{one.dice:.3f}",
            _size(one.bytes),
        )
    Console(markup=False, highlight=False).print(table)


def _text(name: str, value: Any) -> str:
    if name == "bytes":
        return _size(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
