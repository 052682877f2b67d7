"""The command line: `e2enet VERB …`, one file a verb."""

from __future__ import annotations


def main() -> None:
    """Entry point of the `e2enet` command."""
    from e2enet.cli.app import app

    app()
