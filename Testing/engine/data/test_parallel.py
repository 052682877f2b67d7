"""Parallel cases: in order, without a guarded main program, and never left hanging."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from e2enet.data.parallel import default_workers, map_cases
from e2enet.events import Reporter


def test_in_this_process_and_in_order() -> None:
    results = map_cases(abs, [-3, 2, -1], workers=0, reporter=Reporter(), stage="s")
    assert results == [3, 2, 1]
    assert map_cases(abs, [], workers=2, reporter=Reporter(), stage="s") == []
    assert default_workers() >= 1


def test_in_other_processes() -> None:
    assert map_cases(abs, range(-5, 0), workers=2, reporter=Reporter(), stage="s") == [
        5, 4, 3, 2, 1,
    ]  # fmt: skip


def test_the_first_error_comes_through() -> None:
    with pytest.raises(TypeError):
        map_cases(len, [[1], 3, [2]], workers=2, reporter=Reporter(), stage="s")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_dead_worker_is_replaced_by_this_process() -> None:
    class Listener(Reporter):
        codes: list[str] = []  # noqa: RUF012

        def warning(self, code: str, message: str) -> None:
            self.codes.append(code)

    # The shell kills the process that started it, unless that is this one.
    command = f'[ "$PPID" = "{os.getpid()}" ] || kill -9 $PPID'
    results = map_cases(os.system, [command] * 2, workers=1, reporter=Listener(), stage="s")
    assert results == [0, 0]
    assert Listener.codes == ["worker-died"]


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from e2enet.data.parallel import map_cases\nfrom e2enet.events import Reporter\n"
        "print(map_cases(abs, [-1, -2], workers=2, reporter=Reporter(), stage='s'))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("[1, 2]\n", "")
