"""The command line: `e2enet VERB …`, one file a verb."""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """Entry point of the `e2enet` command."""
    # PyTorch's threads would otherwise keep a core busy while they wait, and the kernels of the
    # runtime have threads of their own: a step of a small training takes a third longer.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A terminal, or a pipe of Windows, that cannot show a character shows a question mark.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    from e2enet.cli.app import app

    app()
