"""The commands of the recipes are commands: verbs, options and kinds exist."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import typer
from e2enet.cli.app import app

RECIPES = Path(__file__).resolve().parents[2] / "engine" / "recipes"
PAGES = [RECIPES / "README.md", *sorted(RECIPES.glob("*/README.md"))]


def commands(page: Path) -> list[list[str]]:
    lines = page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("e2enet ")]


def test_every_recipe_is_looked_at():
    assert {page.parent.name for page in PAGES} >= {"amos", "btcv", "brats", "camus", "chaos"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_commands_can_be_parsed(page):
    assert commands(page)
    for words in commands(page):
        command = typer.main.get_command(app)
        context = command.make_context("e2enet", list(words))
        while hasattr(command, "resolve_command"):
            name, command, rest = command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            context = command.make_context(name, rest, parent=context)
