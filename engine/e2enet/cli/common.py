"""What all verbs share: options, reporters and exit statuses."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any

import typer

from e2enet.events import BadInput, Cancelled, JsonReporter, Reporter
from e2enet.extras import TORCH_HELP

EXIT_BAD_INPUT = 2
EXIT_FAILURE = 1
EXIT_CANCELLED = 130

_ROOM = ("disk-full", "Make room on the disk, or choose another one.")
_RIGHTS = ("not-permitted", "Choose a place where you may read and write.")
# What the system refuses for a reason that a person can do something about.
_REFUSALS = {
    "ENOSPC": _ROOM,
    "EDQUOT": _ROOM,
    "EACCES": _RIGHTS,
    "EPERM": _RIGHTS,
    "EROFS": _RIGHTS,
    "ENAMETOOLONG": ("name-too-long", "Choose a shorter name."),
}


class ProgressStyle(str, Enum):
    """How progress is told: a bar for a person, JSON lines for a program."""

    bar = "bar"
    json = "json"


Progress = Annotated[ProgressStyle, typer.Option(help="A progress bar, or one JSON event a line.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback when something fails.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
CaseWorkers = Annotated[
    int | None, typer.Option(min=0, help="Processes, one a core by default; each holds one case.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def complete_model(incomplete: str) -> list[str]:
    """Names of models for the shell's completion of --model."""
    from e2enet.bundle import list_models

    return [path.name for path in list_models() if path.name.startswith(incomplete)]


def run(work: Callable[[Reporter], Any], *, progress: ProgressStyle, debug: bool = False) -> None:
    """Do the work of a verb and end the process with the status that DESIGN promises.

    0 when it succeeded, 2 for bad input, 130 when cancelled, 1 for the rest. A person reads one
    sentence; the traceback only comes with `--debug`.
    """
    reporter = _reporter(progress)
    signal.signal(signal.SIGTERM, _cancel)
    status = 0
    try:
        work(reporter)
    except BadInput as error:
        status = EXIT_BAD_INPUT
        reporter.error(error.code, error.message, error.help)
        _trace(debug)
    except (Cancelled, KeyboardInterrupt) as error:
        status = EXIT_CANCELLED
        said = error if isinstance(error, Cancelled) else Cancelled()
        reporter.error("cancelled", said.message, said.help)
    except BrokenPipeError:  # the reader of our events has gone
        status = EXIT_FAILURE
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the interpreter's own last flush
    except MemoryError:
        status = EXIT_FAILURE
        reporter.error("out-of-memory", "There is not enough memory.", "Close other programs.")
        _trace(debug)
    except Exception as error:
        verb = work.__qualname__.partition(".")[0].replace("_", "-")  # of which it is a part
        status = _report(error, reporter, f"e2enet {verb}")
        _trace(debug)
    finally:
        reporter.close()
    if status:
        raise typer.Exit(status)


def _report(error: Exception, reporter: Reporter, verb: str) -> int:
    """Say what nobody answered where it happened, and return the status that it means."""
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        reporter.error("no-torch", f"{verb} needs PyTorch, which is not installed.", TORCH_HELP)
        return EXIT_BAD_INPUT
    name = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
    if isinstance(error, OSError) and name in _REFUSALS:
        code, help = _REFUSALS[name]
        what = f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
        reporter.error(code, what, help)
        return EXIT_BAD_INPUT
    text = str(error).strip().split("\n")[0] or type(error).__name__
    reporter.error("failure", f"{type(error).__name__}: {text}", "--debug shows where.")
    return EXIT_FAILURE


def _reporter(progress: ProgressStyle) -> Reporter:
    if progress is ProgressStyle.json:
        return JsonReporter()
    from e2enet.cli.console import ConsoleReporter

    return ConsoleReporter()


def _cancel(signum: int, frame: Any) -> None:
    raise Cancelled


def _trace(debug: bool) -> None:
    if debug:
        traceback.print_exc()
