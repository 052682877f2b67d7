"""The command line: `e2enet VERB …`, one file a verb."""

from __future__ import annotations

import os


def main() -> None:
    """Entry point of the `e2enet` command."""
    # PyTorch's threads would otherwise keep a core busy while they wait, and the kernels of the
    # runtime have threads of their own: a step of a small training takes a third longer.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from e2enet.cli.app import app

    app()
