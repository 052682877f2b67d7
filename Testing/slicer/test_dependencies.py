"""Packages in a folder of the engine's own: asked for, installed by the real pip, never half."""

import os
import subprocess
import sys
import textwrap
import time
import zipfile

import pytest
import slicer
from E2ENetSegmentationLib.engine.process import EngineProcess
from E2ENetSegmentationLib.engine.python import installation as installing
from E2ENetSegmentationLib.engine.python import interpreter, pip
from E2ENetSegmentationLib.engine.python.dependencies import SEGMENT, TRAIN, Dependencies
from E2ENetSegmentationLib.engine.python.inspection import Inspection
from E2ENetSegmentationLib.engine.python.installation import Installation
from E2ENetSegmentationLib.engine.python.requirements import (
    installed,
    missing,
    nameOf,
    requirements,
    satisfies,
)
from E2ENetSegmentationLib.engine.temporary import temporaryFolder
from E2ENetSegmentationLib.refusal import Cancelled, Refused
from harness.host import FakeHost
from harness.tabs import RESOURCES
from harness.wheels import wheel


def test_asked_first_then_installed_into_a_folder_of_its_own(asks, ours):
    asks.host.answers = [True]
    before = sorted(sys.path)
    asks.ensure(SEGMENT)
    assert "lesson" in asks.host.asked[0]
    assert installed(ours.packages) == {"lesson": "1.2", "helper": "1.0"}
    window = asks.host.windows[0]
    assert not window.open
    assert window.shown[-2:] == [("Trying it", 95), ("Preparing the engine", 97)]
    assert sorted(sys.path) == before
    asks.ensure(SEGMENT)  # nothing is missing now, so nothing is asked
    assert len(asks.host.asked) == 1
    assert [p.name for p in ours.packages.parent.iterdir()] == [ours.packages.name]


def test_second_step_brings_pytorch(asks, ours):
    asks.host.answers = [True, True]
    asks.ensure(SEGMENT)
    assert asks.purpose == SEGMENT
    asks.ensure(SEGMENT, device="cuda:0")  # a graphics card needs it
    assert installed(ours.packages) == {"lesson": "1.2", "helper": "1.0", "heavy": "3.0"}
    assert asks.purpose == TRAIN
    asks.ensure(TRAIN)
    assert len(asks.host.asked) == 2


def test_no_is_an_answer(asks, ours):
    with pytest.raises(Refused, match="Without its Python packages"):
        asks.ensure(SEGMENT)
    assert not ours.packages.exists()


def test_cancel_leaves_nothing(asks, ours):
    asks.host.answers, asks.host.patience = [True], 3
    with pytest.raises(Cancelled):
        asks.ensure(SEGMENT)
    assert list(ours.packages.parent.iterdir()) == []
    assert not asks.host.windows[0].open
    asks.host.answers, asks.host.patience = [True], 10**9
    asks.ensure(SEGMENT)  # and it can be done again
    assert not asks.missing(SEGMENT)


def test_failure_keeps_what_was_there(asks, ours, tmp_path):
    """No package of that name, and one that cannot be imported: neither replaces anything."""
    asks.host.answers = [True, True, True]
    asks.ensure(SEGMENT)
    (asks.folder / "requirements.txt").write_text("lesson\nnosuchpackage\n")
    with pytest.raises(Refused, match=r"could not be installed: .*nosuchpackage"):
        asks.ensure(SEGMENT)
    wheel(tmp_path / "wheels", "broken", "1.0", "raise OSError('a DLL is missing')\n")
    (asks.folder / "requirements.txt").write_text("lesson\nbroken\n")
    with pytest.raises(Refused, match="broken: OSError: a DLL is missing does not run"):
        asks.ensure(SEGMENT)
    assert installed(ours.packages) == {"lesson": "1.2", "helper": "1.0"}
    assert [p.name for p in ours.packages.parent.iterdir()] == [ours.packages.name]


def test_repair_replaces_all(asks, ours):
    asks.host.answers = [True]
    asks.ensure(SEGMENT)
    (ours.packages / "lesson" / "__init__.py").write_text("import nothing_of_that_name\n")
    look = Inspection(ours, ["lesson"])
    finish(look)
    assert look.result.broken[0].startswith("lesson: ModuleNotFoundError")
    (ours.packages / "helper" / "stray.py").write_text("")
    repair = asks.installation(asks.purpose)
    finish(repair)
    assert repair.result.broken == []
    # The engine looked at itself; that it cannot run with these packages is not their fault.
    assert any(line.startswith("ModuleNotFoundError") for line in repair.lines)
    assert not (ours.packages / "helper" / "stray.py").exists()


def test_one_installation_at_a_time(asks):
    first, second = asks.installation(SEGMENT), asks.installation(SEGMENT)
    first.start()
    with pytest.raises(Refused, match="being installed already"):
        second.start()
    first.cancel()
    finish(second)
    assert installing._underWay == []


def test_wheels_folder_that_is_gone(asks):
    asks.host.settings["wheelsFolder"] = "/no/such/folder"
    asks.host.answers = [True]
    with pytest.raises(Refused, match="There is no folder /no/such/folder"):
        asks.ensure(SEGMENT)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_killed_slicer_leaves_no_pip_and_the_next_one_cleans(asks, ours, tmp_path):
    """Slicer is killed in the middle of an installation."""
    wheel(tmp_path / "wheels", "slow", "1.0", "import time\ntime.sleep(600)\n")
    code = textwrap.dedent(f"""
        import sys, time
        sys.path[:0] = {[str(RESOURCES.parent)]!r}
        from E2ENetSegmentationLib.engine.python import interpreter
        from E2ENetSegmentationLib.engine.python.installation import Installation
        run = Installation(interpreter.current(), ["slow"],
                           expected=1, wheels={str(tmp_path / "wheels")!r},
                           onProgress=lambda text, percent: print(text, flush=True))
        run.start()
        while run.poll():
            time.sleep(0.02)
    """)
    slicer_ = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    for line in slicer_.stdout:
        if line.startswith("Trying it"):
            break
    marker = str(ours.packages.parent)
    wait(lambda: children(marker))
    slicer_.kill()
    slicer_.wait()
    slicer_.stdout.close()
    wait(lambda: not children(marker))
    assert [p.name for p in ours.packages.parent.iterdir()] == [f".installing-{slicer_.pid}"]
    again = asks.installation(SEGMENT)
    finish(again)
    assert [p.name for p in ours.packages.parent.iterdir()] == [ours.packages.name]


def children(marker):
    """Processes whose environment names a folder."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/environ", "rb") as stream:
                if marker.encode() in stream.read():
                    found.append(int(number))
        except OSError:
            continue
    return found


def wait(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


def finish(run, seconds=60.0):
    run.start()
    end = time.monotonic() + seconds
    while run.poll():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


def test_engine_sees_its_own_packages_only(asks, ours, tmp_path, monkeypatch):
    """Neither those of the interpreter nor those that a launcher puts first."""
    asks.host.answers = [True]
    asks.ensure(SEGMENT)
    launcher = tmp_path / "lib" / "site-packages"
    wheel(tmp_path / "more", "lesson", "0.1", "")
    with zipfile.ZipFile(tmp_path / "more" / "lesson-0.1-py3-none-any.whl") as archive:
        archive.extractall(launcher)
    environment = ours.environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(launcher), environment["PYTHONPATH"]])
    process = EngineProcess(
        ours.command(interpreter.CHILD.parent / "python" / "look.py", "lesson", "pip", "numpy"),
        tmp_path,
        environment,
    )
    process.start()
    found = []
    wait(lambda: found.extend(process.poll()) or not process.running)
    packages = found[0]["packages"]
    assert packages["lesson"]["version"] == "1.2"
    assert packages["lesson"]["file"].startswith(str(ours.packages))
    assert packages["pip"] == {}
    assert packages["numpy"] == {}


def test_own_interpreter_is_left_alone(asks, monkeypatch):
    monkeypatch.setenv("E2ENET_PYTHON", sys.executable)
    asks.ensure(TRAIN)
    assert asks.host.asked == []
    with pytest.raises(Refused, match="has packages of its own"):
        asks.installation(TRAIN)


def test_chosen_python(asks, ours):
    """One that a person chose: with a folder of ours, or with packages of its own."""
    interpreter.choose(sys.executable, "3.11-darwin-arm64")
    chosen = interpreter.current()
    assert chosen.origin == interpreter.CHOSEN
    assert chosen.packages.name == "3.11-darwin-arm64"
    interpreter.choose(sys.executable)
    assert interpreter.current().packages is None
    asks.ensure(SEGMENT)
    assert asks.host.asked == []
    interpreter.choose("/gone/python", "")
    with pytest.raises(Refused, match="The Python /gone/python is gone"):
        asks.ensure(SEGMENT)
    interpreter.useSlicers()
    assert interpreter.current() == ours


def test_apple_processor(monkeypatch):
    """Below an Intel Slicer a native Python is started natively; Intel gets no PyTorch."""
    monkeypatch.setattr(sys, "platform", "darwin")
    chosen = interpreter.Interpreter("/opt/python3", interpreter.CHOSEN, "3.12-darwin-arm64")
    assert chosen.command("e2enet", "models")[:3] == ["/usr/bin/arch", "-arm64", "/opt/python3"]
    intel = interpreter.Interpreter("/opt/python3", interpreter.SLICER, "3.12-darwin-x86_64")
    assert intel.command("e2enet", "models")[0] == "/opt/python3"
    monkeypatch.setattr(interpreter, "current", lambda: intel)
    with pytest.raises(Refused, match="no PyTorch any more for Intel programs"):
        Dependencies(RESOURCES, FakeHost()).installation(TRAIN)


def test_what_is_no_python(tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho no >&2\nexit 3\n")
    program.chmod(0o755)
    run = Inspection(interpreter.Interpreter(str(program), interpreter.CHOSEN), [])
    with pytest.raises(Refused, match="cannot run as Python: no"):
        finish(run)


def test_environment_of_another_python_is_not_slicers(monkeypatch):
    monkeypatch.setattr(slicer, "app", object(), raising=False)
    monkeypatch.setattr(
        slicer.util,
        "startupEnvironment",
        lambda: {"PATH": "/bin", "PYTHONHOME": "/slicer", "PYTHONPATH": "/slicer/lib"},
        raising=False,
    )
    python = interpreter.Interpreter(sys.executable, interpreter.VARIABLE)
    environment = python.environment()
    assert environment["PATH"] == "/bin"
    assert "PYTHONHOME" not in environment
    assert "/slicer/lib" not in environment["PYTHONPATH"]
    assert "E2ENET_PATH" not in environment


def test_requirement_lines():
    assert satisfies("numpy>=1.20", "2.0")
    assert satisfies("numba>=0.61,<0.70", "0.61.2")
    assert not satisfies("numba>=0.61,<0.70", "0.70")
    assert not satisfies("numpy>=999", "2.0")
    assert not satisfies("numpy", "")
    assert satisfies("numpy", "1")
    assert satisfies("torch==2.13.0", "2.13.0+cpu")
    assert satisfies("torch>=2.4", "5.0rc1")
    assert nameOf("numba>=0.61") == "numba"
    segment, train = requirements(RESOURCES, SEGMENT), requirements(RESOURCES, TRAIN)
    assert {"numba", "SimpleITK", "safetensors"} <= set(map(nameOf, segment))
    assert not {"torch", "monai"} & set(map(nameOf, segment))
    assert {"torch", "monai"} <= set(map(nameOf, train))
    assert segment == train[: len(segment)]


def test_folder_that_is_not_there(tmp_path):
    assert missing(["numpy"], tmp_path / "no") == ["numpy"]


def test_what_pip_says():
    said = pip.Progress(10_000_000)
    for line in (
        "Collecting numba>=0.61",
        "  Downloading numba-0.62.1-cp312-cp312-win_amd64.whl.metadata (2.9 kB)",
        "Collecting numpy>=1.26 (from -r r.txt (line 1))",
    ):
        said.feed(line)
    assert (said.text, said.percent) == ("Finding numpy", 0)
    said.feed("Downloading numba-0.62.1-cp312-cp312-win_amd64.whl (5.0 MB)")
    assert (said.text, said.percent) == ("Downloading numba-0.62.1 (5.0 MB)", 0)
    said.feed("Progress 2500000 of 5000000")
    assert (said.text, said.percent) == ("Downloading numba-0.62.1 (5.0 MB): 50%", 22)
    said.feed("Progress 5000000 of 5000000")
    assert said.percent == 45
    said.feed("Using cached numpy-2.3.5-cp312-cp312-win_amd64.whl (2000 kB)")
    assert said.percent == 62
    said.feed("Collecting rich>=13")
    assert said.percent == 62
    said.feed("Installing collected packages: numpy, numba")
    assert (said.text, said.percent) == ("Unpacking", 90)
    said.feed("ERROR: No space left")
    said.feed("ERROR: and more")
    assert said.error == "No space left"


def test_arguments_of_pip():
    words = pip.arguments(["numpy"], "/x", "25.1.1", wheels="/w", extraIndex="https://i")
    assert words[words.index("--progress-bar") + 1] == "raw"
    assert words[-4:] == ["--no-index", "--find-links", "/w", "numpy"]
    words = pip.arguments(["numpy"], "/x", "23.2.1", extraIndex="https://i")
    assert words[words.index("--progress-bar") + 1] == "off"
    assert words[-5:] == ["--extra-index-url", "https://i", "--retries", "2", "numpy"]
    environment = pip.environment({"HTTPS_PROXY": "http://p", "TMP": "/other"}, "/scratch")
    assert environment["HTTPS_PROXY"] == "http://p"
    assert environment["TMP"] == "/scratch"


def test_pytorch_for_this_computer():
    assert pip.torchIndex("win32", True) == pip.CUDA_WHEELS
    assert pip.torchIndex("linux", False) == pip.CPU_WHEELS
    assert pip.torchIndex("linux", True) == ""
    assert pip.torchIndex("darwin", False) == ""


def test_installation_needs_pip(ours, tmp_path):
    import venv

    venv.create(tmp_path / "bare", with_pip=False)
    program = tmp_path / "bare" / ("Scripts" if os.name == "nt" else "bin") / "python"
    run = Installation(
        interpreter.Interpreter(str(program), interpreter.CHOSEN, "any"), ["numpy"], expected=1
    )
    with pytest.raises(Refused, match="has no pip"):
        finish(run)


def test_folders_of_a_crashed_slicer_are_removed(left_behind, tmp_path):
    import tempfile
    from pathlib import Path

    crashed = Path(tempfile.gettempdir()) / "E2ENet-999999999-abc"
    crashed.mkdir()
    folder = temporaryFolder()
    assert left_behind() == [folder.name]
    folder.rmdir()
