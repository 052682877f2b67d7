from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from e2enet import __version__
from e2enet.cli.app import app
from e2enet.cli.common import Debug, Progress, ProgressStyle, run
from e2enet.events import BadInput, Cancelled, Reporter
from typer.testing import CliRunner, Result


@pytest.fixture(autouse=True)
def _own_sigterm() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def invoke(work: Callable[[Reporter], Any], *arguments: str) -> Result:
    verb = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @verb.command()
    def _(progress: Progress = ProgressStyle.bar, debug: Debug = False) -> None:
        run(work, progress=progress, debug=debug)

    return CliRunner().invoke(verb, arguments)


def failing(error: BaseException) -> Callable[[Reporter], Any]:
    def work(_: Reporter) -> None:
        raise error

    return work


CASES = [
    (BadInput("a.nii is empty.", help="Export it again.", code="empty"), 2, "empty"),
    (Cancelled(), 130, "cancelled"),
    (KeyboardInterrupt(), 130, "cancelled"),
    (RuntimeError("it broke\nin many lines"), 1, "failure"),
    (MemoryError(), 1, "out-of-memory"),
    (OSError(errno.ENOSPC, "No space left on device"), 2, "disk-full"),
    (PermissionError(errno.EACCES, "Permission denied", "/a.nii"), 2, "not-permitted"),
    (OSError(errno.EROFS, "Read-only file system", "/a.nii"), 2, "not-permitted"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), 2, "name-too-long"),
    (OSError(errno.EIO, "Input/output error", "/a.nii"), 1, "failure"),
]


@pytest.mark.parametrize(("error", "status", "code"), CASES)
def test_exit_statuses_and_error_events(error: BaseException, status: int, code: str) -> None:
    result = invoke(failing(error), "--progress", "json")
    assert result.exit_code == status
    (event,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert (event["event"], event["code"]) == ("error", code)
    assert "\n" not in event["message"]
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("error", "status", "code"), CASES)
def test_a_person_reads_a_sentence(error: BaseException, status: int, code: str) -> None:
    result = invoke(failing(error))
    assert result.exit_code == status
    assert result.stdout == ""
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr
    if isinstance(error, BadInput):
        assert result.stderr.splitlines() == ["a.nii is empty.", "Export it again."]


@pytest.mark.parametrize("error", [BadInput("It is bad."), RuntimeError("it broke")])
def test_debug_shows_the_traceback(error: Exception) -> None:
    result = invoke(failing(error), "--debug")
    assert "Traceback" in result.stderr
    assert type(error).__name__ in result.stderr


def test_success_is_0_and_events_are_json_lines() -> None:
    def work(reporter: Reporter) -> None:
        reporter.progress("inference", 1, 2)
        reporter.warning("no-gpu", "Slow.")
        reporter.result(output="a.nii.gz")

    result = invoke(work, "--progress", "json")
    assert result.exit_code == 0
    events = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert events == ["progress", "warning", "result"]
    assert result.stderr == ""


def test_a_bar_keeps_out_of_standard_output() -> None:
    def work(reporter: Reporter) -> None:
        for done in range(3):
            reporter.progress("inference", done, 2)
        reporter.metric("epoch", epoch=1, loss=0.123456, mean_dice=0.9, dice={"left": 0.9})
        reporter.warning("no-gpu", "It is slow.")

    result = invoke(work)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "0.1235" in result.stderr
    assert "It is slow." in result.stderr


def test_brackets_in_a_message_are_text() -> None:
    error = BadInput("[/scans/a] has [3, 4] voxels.", help="See [red]this[/red].")
    result = invoke(failing(error))
    assert result.exit_code == 2
    assert "[/scans/a] has [3, 4] voxels." in result.stderr
    assert "See [red]this[/red]." in result.stderr


def e2enet(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "e2enet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def test_version_and_help() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"e2enet {__version__}\n")
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for verb in ("segment", "train", "evaluate", "profile", "plan", "models"):
        assert verb in result.stdout


def test_the_module_runs_as_a_program_and_takes_unknown_options_for_bad_input() -> None:
    result = e2enet("profile", "--no-such-option")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to a child")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_cancel(number: signal.Signals) -> None:
    code = (
        "import time, typer\n"
        "from e2enet.cli.common import ProgressStyle, run\n"
        "def work(reporter):\n"
        "    reporter.progress('wait', 0, 1)\n"
        "    time.sleep(60)\n"
        "app = typer.Typer(pretty_exceptions_enable=False)\n"
        "@app.command()\n"
        "def main():\n"
        "    run(work, progress=ProgressStyle.json)\n"
        "app()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["event"] == "progress"
    child.send_signal(number)
    output, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert json.loads(output)["code"] == "cancelled"
    assert "Traceback" not in errors


@pytest.mark.skipif(os.name == "nt", reason="A pipe breaks differently on Windows")
def test_a_reader_that_goes_away_leaves_no_traceback() -> None:
    code = (
        "import typer\n"
        "from e2enet.cli.common import ProgressStyle, run\n"
        "def work(reporter):\n"
        "    for n in range(100_000):\n"
        "        reporter.progress('a', n, 100_000)\n"
        "app = typer.Typer(pretty_exceptions_enable=False)\n"
        "@app.command()\n"
        "def main():\n"
        "    run(work, progress=ProgressStyle.json)\n"
        "app()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    errors = child.stderr.read()
    child.stderr.close()
    assert child.wait(timeout=60) == 1
    assert errors == ""


LONG = "n" * 300


@pytest.mark.parametrize(
    "words",
    [
        ("segment", LONG, "--model", "tiny", "--output", "o.nii.gz"),
        ("evaluate", LONG, LONG),
        ("export", LONG, "o"),
        ("plan", LONG),
        ("train", LONG, "--output", "o"),
        ("profile", "--model", LONG),
        ("explain", "--model", "tiny", "--output", LONG),
    ],
    ids=lambda words: words[0],
)
def test_a_name_that_is_too_long_is_bad_input_in_every_verb(
    words: tuple[str, ...], tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("E2ENET_MODELS", str(tiny_bundle.parent))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shell", "words", "answer"),
    [
        ("bash", {"COMP_WORDS": "e2enet segment a.nii --model ti", "COMP_CWORD": "4"}, "tiny"),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "e2enet expl"}, "explain"),
        (
            "fish",
            {
                "_TYPER_COMPLETE_ARGS": "e2enet segment a.nii --model ti",
                "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            },
            "tiny",
        ),
    ],
)
def test_shells_complete_verbs_and_models(
    shell: str, words: dict[str, str], answer: str, tiny_bundle: Path
) -> None:
    models = {"E2ENET_MODELS": str(tiny_bundle.parent)}

    def ask(instruction: str) -> str:
        variables = {**os.environ, **models, **words, "_E2ENET_COMPLETE": f"{instruction}_{shell}"}
        done = subprocess.run(
            [sys.executable, "-c", "from e2enet.cli.app import app; app(prog_name='e2enet')"],
            env=variables, capture_output=True, text=True, encoding="utf-8", check=False,
        )  # fmt: skip
        return done.stdout

    assert answer in ask("complete")
    assert "_E2ENET_COMPLETE" in ask("source")  # what --install-completion puts into the shell


def test_a_terminal_without_utf_8_is_no_failure(tiny_bundle: Path, tmp_path: Path) -> None:
    model = tmp_path / "tiny"
    shutil.copytree(tiny_bundle, model)
    text = (model / "model.json").read_text(encoding="utf-8")
    (model / "model.json").write_text(text.replace("Made shapes", "Größe …"), encoding="utf-8")
    variables = {"PYTHONIOENCODING": "ascii", "E2ENET_MODELS": str(tmp_path), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "e2enet", "models"],
        env={**os.environ, **variables}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"Gr??e ?" in done.stdout


def test_sizes_are_written_in_one_way() -> None:
    """Depth, height and width with commas, in the help of every verb that takes them."""

    def options(command: Any, verb: str) -> Iterator[tuple[str, Any]]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from options(inner, f"{verb} {name}")
        yield from ((f"{verb} {one.opts[0]}", one) for one in command.params if one.opts)

    patches = {
        name: one.help for name, one in options(typer.main.get_command(app), "e2enet")
        if name.endswith("--patch")
    }  # fmt: skip
    assert len(patches) > 3
    for name, text in patches.items():
        assert str(text).startswith("D,H,W in voxels"), name
    for name, one in options(typer.main.get_command(app), "e2enet"):
        assert not re.search(r"\dx\d", str(getattr(one, "help", ""))), name


def test_the_terminal_breaks_lines_of_help() -> None:
    told = CliRunner().invoke(app, ["evaluate", "--help"], terminal_width=200).output
    words = [" ".join(line.split()) for line in told.splitlines()]
    assert any("reference both leave out has no value" in line for line in words)
