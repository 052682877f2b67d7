"""Runs of `e2enet train` in processes of their own that are quick to start, in order to be killed.

They are forks of a process that has imported what a training needs and computed nothing: the
import takes longer than the small trainings of the tests.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IMPORTED = (
    "e2enet.cli.app",
    "e2enet.networks.encoder_e2enet",
    "e2enet.training.train",
    "e2enet.training.loop.trainer",
    "monai.networks.nets",
    "monai.transforms",
)


class Fork:
    """One run.

    Attributes:
        pid: Of its process.
        events: What it says, to be read once.
    """

    def __init__(self, forks: Forks, words: list[str], pipe: Path) -> None:
        os.mkfifo(pipe)
        self._forks = forks
        self.pid: int = forks.ask({"words": words, "stdout": os.fspath(pipe)})
        self._stream = pipe.open(encoding="utf-8")
        self.events: Iterator[dict[str, Any]] = map(json.loads, self._stream)

    def until(self, key: str, value: Any) -> dict[str, Any]:
        """Read up to the first event that has a value, and return it."""
        return next(event for event in self.events if event.get(key) == value)

    def kill(self) -> int:
        """SIGKILL; its exit status, 0 where it had come to its end by then."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        """Its exit status, or minus the signal that ended it."""
        code: int = self._forks.ask({"wait": self.pid})
        self._stream.close()
        return code


class Forks:
    """The process that is forked.

    Args:
        folder: For its pipes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question: dict[str, Any]) -> Any:
        """What the process answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def train(self, dataset: Path, output: Path, *options: str) -> Fork:
        """Start `e2enet train … --workers 0 --device cpu --progress json`."""
        self._count += 1
        words = ["train", os.fspath(dataset), "--output", os.fspath(output), *options]
        words += ["--workers", "0", "--device", "cpu", "--progress", "json"]
        return Fork(self, words, self._folder / f"pipe{self._count}")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def serve() -> None:
    """Fork for each question on stdin that has words, wait for each that names a process."""
    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            status = os.waitpid(question["wait"], 0)[1]
            print(os.waitstatus_to_exitcode(status), flush=True)
        elif child := os.fork():
            print(child, flush=True)
        else:
            run(question["words"], question["stdout"])


def run(words: list[str], stdout: str) -> None:
    """What `python -m e2enet` does, and the end of the process."""
    from e2enet.cli import main

    os.dup2(os.open(stdout, os.O_WRONLY), 1)
    sys.argv = ["e2enet", *words]
    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    os._exit(int(code or 0))


if __name__ == "__main__":
    serve()
