"""The Typer application: finds the verbs, one file each."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Annotated

import typer

from e2enet import __version__

app = typer.Typer(
    name="e2enet",
    help="E2ENet: 3D medical image segmentation with dynamic sparse feature fusion.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"e2enet {__version__}")
        raise typer.Exit()


def _flow(commands: typer.Typer) -> None:
    """Let the terminal break the lines of help, not the source; paragraphs stay apart."""
    for command in commands.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = command.help or "\n\n".join(" ".join(p.split()) for p in paragraphs)
    for group in commands.registered_groups:
        if group.typer_instance:
            _flow(group.typer_instance)


for _module in pkgutil.iter_modules([str(Path(__file__).parent)]):
    if _module.name not in ("app", "common", "console", "training_options"):
        importlib.import_module(f"e2enet.cli.{_module.name}").register(app)
_flow(app)
