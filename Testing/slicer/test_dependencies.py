"""What is asked for, what is installed, and what is never replaced."""

import sys
import types

import pytest
import slicer
from E2ENetSegmentationLib.engine import dependencies, devices
from E2ENetSegmentationLib.engine.dependencies import SEGMENT, TRAIN, Dependencies
from E2ENetSegmentationLib.engine.temporary import temporaryFolder
from E2ENetSegmentationLib.refusal import Refused
from harness.host import FakeHost
from harness.tabs import RESOURCES


@pytest.fixture
def slicers_python(monkeypatch):
    """The engine shall run in Slicer's own Python, which lacks what a test says."""
    monkeypatch.delenv("E2ENET_PYTHON")
    calls, lacking = [], {"torch", "safetensors", "monai"}
    monkeypatch.setattr(
        dependencies, "_satisfied", lambda line: dependencies._name(line) not in lacking
    )

    class Logic:
        def installTorch(self, **options):
            calls.append(("torch", options))
            lacking.discard("torch")

    torch = types.SimpleNamespace(PyTorchUtilsLogic=Logic)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", torch)

    def pip_install(arguments):
        with open(arguments[1], encoding="utf-8") as stream:
            calls.append(("pip", arguments[2:], stream.read().split()))

    monkeypatch.setattr(slicer.util, "pip_install", pip_install, raising=False)
    monkeypatch.setattr(dependencies, "_slicerPackaging", lambda: None)
    return calls


def test_asked_first_then_installed(slicers_python):
    host = FakeHost()
    host.answers = [True]
    Dependencies(RESOURCES, host).ensure(SEGMENT)
    assert "torch>=2.4, safetensors>=0.4.3" in host.asked[0]
    (kind, options), (pip, wanted, kept) = slicers_python
    assert (kind, pip) == ("torch", "pip")
    assert options["askConfirmation"] is False
    assert wanted == ["safetensors>=0.4.3"]
    assert any(line.startswith("numpy==") for line in kept)
    assert any(line.startswith("SimpleITK==") for line in kept)


def test_training_needs_more(slicers_python):
    host = FakeHost()
    host.answers = [True]
    Dependencies(RESOURCES, host).ensure(TRAIN)
    assert slicers_python[1][1] == ["safetensors>=0.4.3", "monai>=1.4"]


def test_newer_slicer_shows_progress(slicers_python, monkeypatch):
    seen = []

    def pip_ensure(requirements, **options):
        seen.append((requirements, options))

    packaging = types.SimpleNamespace(pip_ensure=pip_ensure)
    monkeypatch.setattr(dependencies, "_slicerPackaging", lambda: packaging)
    host = FakeHost()
    host.answers = [True]
    Dependencies(RESOURCES, host).ensure(SEGMENT)
    assert seen[0][0] == ["safetensors>=0.4.3"]
    assert seen[0][1]["prompt_install"] is False


def test_no_pytorch_extension(slicers_python, monkeypatch):
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    host = FakeHost()
    host.answers = [True]
    with pytest.raises(Refused, match="PyTorch extension that installs it"):
        Dependencies(RESOURCES, host).ensure(SEGMENT)


def test_installation_that_fails(slicers_python, monkeypatch):
    def pip_install(arguments):
        raise RuntimeError("no network\nlong story")

    monkeypatch.setattr(slicer.util, "pip_install", pip_install, raising=False)
    host = FakeHost()
    host.answers = [True]
    with pytest.raises(Refused, match="could not be installed: no network"):
        Dependencies(RESOURCES, host).ensure(SEGMENT)


def test_own_interpreter_is_left_alone():
    host = FakeHost()
    Dependencies(RESOURCES, host).ensure(TRAIN)
    assert host.asked == []


def test_versions():
    assert dependencies._satisfied("numpy>=1.20")
    assert not dependencies._satisfied("numpy>=999")
    assert not dependencies._satisfied("no-such-package-anywhere")
    assert dependencies._numbers("2.13.0+cpu") == (2, 13, 0)
    assert dependencies._numbers("5.0rc1") == (5, 0)


def test_graphics_cards_by_name():
    listing = "GPU 0: NVIDIA RTX A4000 (UUID: GPU-1)\nGPU 1: NVIDIA T4 (UUID: GPU-2)\n"
    assert devices.parseNvidia(listing) == [
        ("NVIDIA RTX A4000 (0)", "cuda:0"),
        ("NVIDIA T4 (1)", "cuda:1"),
    ]
    assert devices.parseNvidia("GPU 0: NVIDIA T4 (UUID: GPU-2)") == [("NVIDIA T4", "cuda:0")]
    assert [value for _name, value in devices.devices()][:2] == ["auto", "cpu"]


def test_folders_of_a_crashed_slicer_are_removed(left_behind, tmp_path):
    import tempfile
    from pathlib import Path

    crashed = Path(tempfile.gettempdir()) / "E2ENet-999999999-abc"
    crashed.mkdir()
    folder = temporaryFolder()
    assert left_behind() == [folder.name]
    folder.rmdir()
