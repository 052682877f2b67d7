"""The engine's process: read in pieces, ended as a whole, gone with its parent."""

import os
import subprocess
import sys
import time

import pytest
from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.engine.alive import isAlive
from E2ENetSegmentationLib.engine.events import (
    EventReader,
    durationText,
    progressPercent,
    progressText,
)
from E2ENetSegmentationLib.engine.process import EngineProcess
from E2ENetSegmentationLib.engine.python import interpreter
from E2ENetSegmentationLib.refusal import Refused

CHILD = paths.LIB / "engine" / "child.py"


def wait(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


def test_lines_may_come_in_pieces():
    reader = EventReader()
    assert reader.feed(b'{"event": "progr') == ([], [])
    events, other = reader.feed(b'ess", "done": 1}\nhello\n\n{"no": 1}\n{broken\n')
    assert events == [{"event": "progress", "done": 1}]
    assert other == ["hello", '{"no": 1}', "{broken"]


def test_progress_in_words():
    event = {"event": "progress", "stage": "inference", "done": 1, "total": 4, "eta_s": 90.0}
    assert progressText(event) == "Segmenting, 2 min left"
    assert progressPercent(event) == 25
    assert progressPercent({"total": 0}) == 0
    assert progressText({"stage": "new-thing"}) == "New thing"
    assert durationText(3.4) == "3 s"
    assert durationText(3700) == "1 h 2 min"


def test_output_is_read_while_it_runs(tmp_path):
    code = 'import sys\nprint(\'{"event": "a"}\', flush=True)\nsys.stdin.read()'
    process = EngineProcess([sys.executable, "-c", code], tmp_path)
    process.start()
    found = []
    wait(lambda: found.extend(process.poll()) or found)
    assert found == [{"event": "a"}]
    assert process.running
    process.kill()
    assert process.exitCode not in (None, 0)
    assert not process.running


def test_cancel_ends_the_whole_tree(tmp_path):
    code = (
        "import subprocess, sys, time\n"
        "c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        'print(\'{"event": "pid", "pid": %d}\' % c.pid, flush=True)\ntime.sleep(600)'
    )
    process = EngineProcess([sys.executable, "-c", code], tmp_path)
    process.start()
    found = []
    wait(lambda: found.extend(process.poll()) or found)
    grandchild = found[0]["pid"]
    process.kill()
    wait(lambda: not isAlive(grandchild))


def test_program_that_does_not_exist(tmp_path):
    with pytest.raises(Refused, match="cannot be started"):
        EngineProcess(["/no/such/program"], tmp_path, {}).start()


@pytest.fixture
def sleepy_engine(tmp_path, monkeypatch):
    """A package e2enet that sleeps, for the launcher."""
    package = tmp_path / "e2enet"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(
        "import sys, time, os\nprint(os.getpid(), sys.argv[1:], flush=True)\ntime.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_engine_ends_with_its_parent(sleepy_engine):
    """A parent that dies without a word breaks the pipe; the engine ends itself."""
    parent = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, {str(CHILD)!r}, 'e2enet', 'verb'],"
        " stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True)\n"
        "print(p.stdout.readline(), flush=True)\ntime.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    pid, arguments = process.stdout.readline().split(" ", 1)
    assert arguments.strip() == "['verb']"
    assert isAlive(int(pid))
    process.kill()
    process.wait()
    process.stdout.close()
    wait(lambda: not isAlive(int(pid)))


def test_launcher_hides_the_lib(sleepy_engine):
    """The Lib has modules of common names, which the engine must not import by accident."""
    (sleepy_engine / "e2enet" / "__main__.py").write_text(
        "import importlib.util as u\nprint([n for n in ('roi', 'volumes') if u.find_spec(n)])\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(CHILD), "e2enet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.read().strip() == "[]"
    process.communicate()


def test_environment_of_the_engine(monkeypatch):
    """The engine alone with a Python of the user's; its packages as well with Slicer's."""
    monkeypatch.setenv("PYTHONPATH", "/slicer/own")
    environment = interpreter.current().environment()
    assert environment["PYTHONPATH"] == str(paths.engineFolder())
    monkeypatch.delenv("E2ENET_PYTHON")
    python = interpreter.current()
    environment = python.environment()
    assert environment["PYTHONPATH"].split(os.pathsep) == [
        str(paths.engineFolder()),
        str(python.packages),
    ]
    assert environment["E2ENET_PATH"] == environment["PYTHONPATH"]
