"""`e2enet models`: the models that can be named."""

from __future__ import annotations

import json
from typing import Any

import typer

from e2enet.cli.common import AsJson, Debug, ProgressStyle, run
from e2enet.events import BadInput, Reporter


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command(name="models")(models)


def models(
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the models that --model takes by name."""

    def work(reporter: Reporter) -> None:
        models = _described()
        if as_json:
            typer.echo(json.dumps({"models": models}, indent=2, ensure_ascii=False))
            return
        _print_table(models, reporter)

    run(work, progress=ProgressStyle.bar, debug=debug)


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
    from rich.table import Table

    for entry in entries:
        if "error" in entry:
            reporter.warning("damaged-model", entry["error"])
    usable = [entry for entry in entries if "error" not in entry]
    if not usable:
        typer.echo("No models are installed; set E2ENET_MODELS to a folder of bundles.")
        return
    table = Table("Name", "Anatomy", "Modality", "Channels", "Labels", "Licence")
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
