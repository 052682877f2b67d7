"""The module on the real MRML core; skips as a whole where `slicer-core` is not installed."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "E2ENetSegmentation"
sys.path[:0] = [str(REPOSITORY / "Testing"), str(MODULE)]

# pytest makes a package of this folder's name while it loads this file; the wheel's must win.
if not hasattr(sys.modules.get("slicer"), "vtkMRMLScene"):
    sys.modules.pop("slicer", None)
if importlib.util.find_spec("slicer_core") is None:
    collect_ignore_glob = ["test_*.py"]


else:
    import slicer  # noqa: F401


def pytest_report_header() -> str:
    if importlib.util.find_spec("slicer_core") is None:
        return "Testing/slicer: left out, the wheel slicer-core is not installed"
    return "Testing/slicer: real MRML core of slicer-core"


def _engine_fixtures():
    spec = importlib.util.spec_from_file_location(
        "engine_fixtures", REPOSITORY / "Testing" / "engine" / "conftest.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_engine = _engine_fixtures()
shared = _engine.shared
tiny_bundle = _engine.tiny_bundle
tiny_dataset = _engine.tiny_dataset
dicom_series = _engine.dicom_series
_own_folders = _engine._own_folders


@pytest.fixture(scope="session", autouse=True)
def _interpreter(_own_folders):
    """The engine's process runs in the interpreter of the tests."""
    patch = pytest.MonkeyPatch()
    patch.setenv("E2ENET_PYTHON", sys.executable)
    # Tiny volumes: more threads only wait for each other on a busy machine.
    patch.setenv("OMP_NUM_THREADS", "1")
    yield
    patch.undo()


@pytest.fixture(scope="session")
def mrml():
    from harness import mrml

    return mrml.start()


@pytest.fixture
def scene(mrml):
    import slicer

    slicer.mrmlScene.Clear(False)
    return slicer.mrmlScene


@pytest.fixture
def slices(scene):
    """The composite node of a slice view, which the thin scene lacks."""
    return scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode", "Red")


@pytest.fixture
def models(tiny_bundle, monkeypatch):
    """The tiny bundle can be chosen by name."""
    monkeypatch.setenv("E2ENET_MODELS", str(tiny_bundle.parent))
    return tiny_bundle


@pytest.fixture
def blind(models, tmp_path, monkeypatch):
    """The name of a model that takes everything for background."""
    from harness.bundles import variant

    folder = tmp_path / "more"
    variant(models, folder / "blind", blind=True)
    monkeypatch.setenv("E2ENET_MODELS", os.pathsep.join(map(str, (models.parent, folder))))
    return "blind"


@pytest.fixture
def tab(scene, models, left_behind):
    """The tab Segment with the tiny bundle chosen."""
    from harness.tabs import SegmentTab

    tab = SegmentTab()
    yield tab
    tab.panel.cleanup()


@pytest.fixture
def stub(monkeypatch):
    """Call it with what the engine shall do wrong: the stub then stands in for the real one."""

    def choose(mode: str) -> None:
        command = [sys.executable, str(REPOSITORY / "Testing" / "harness" / "stub_engine.py")]
        monkeypatch.setenv("E2ENET_STUB", mode)
        monkeypatch.setattr(
            "E2ENetSegmentationLib.engine.run.engineCommand",
            lambda arguments: [*command, *map(str, arguments)],
        )

    return choose


@pytest.fixture
def answers(monkeypatch):
    """The engine's label maps as SimpleITK reads them, in the order the module took them."""
    import SimpleITK as sitk
    from E2ENetSegmentationLib.mrml import volumes

    found, original = [], volumes.readResult

    def read(path, volumeNode):
        found.append(sitk.ReadImage(str(path)))
        return original(path, volumeNode)

    monkeypatch.setattr(volumes, "readResult", read)
    return found


@pytest.fixture
def left_behind(tmp_path, monkeypatch):
    """A temporary folder for the runs; call it for what lies in it."""
    import tempfile

    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return lambda: sorted(os.listdir(folder))


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    """A data folder of the user, for this test alone."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def ours(user_folder, tmp_path, monkeypatch):
    """The engine's packages are ours to look after, in a folder that is empty yet."""
    monkeypatch.delenv("E2ENET_PYTHON")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    from E2ENetSegmentationLib.engine.python import interpreter

    return interpreter.current()


@pytest.fixture
def asks(tmp_path, ours):
    """Dependencies that small wheels satisfy, with a host that answers."""
    from E2ENetSegmentationLib.engine.python.dependencies import Dependencies
    from harness.host import FakeHost
    from harness.wheels import wheel

    resources, wheels = tmp_path / "resources", tmp_path / "wheels"
    resources.mkdir()
    wheel(wheels, "lesson", "1.2", "import helper\n", ["helper>=1"])
    wheel(wheels, "helper", "1.0", "")
    wheel(wheels, "heavy", "3.0", "")
    (resources / "requirements.txt").write_text("# a comment\nlesson>=1.1\n")
    (resources / "requirements-torch.txt").write_text("heavy\n")
    host = FakeHost()
    host.settings["wheelsFolder"] = str(wheels)
    return Dependencies(resources, host)
