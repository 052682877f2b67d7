"""The tab Advanced, Engine: the real pip behind its buttons."""

import sys

import pytest
from E2ENetSegmentationLib.advanced.panel import EnginePanel
from E2ENetSegmentationLib.core import Core
from E2ENetSegmentationLib.engine import devices
from E2ENetSegmentationLib.engine.python import interpreter
from harness.tabs import RESOURCES
from harness.wheels import wheel
from harness.widgets import Ui


class Tab:
    def __init__(self, dependencies):
        self.ui, self.host = Ui(RESOURCES / "UI" / "AdvancedTab.ui"), dependencies.host
        self.panel = EnginePanel(self.ui, Core(), self.host, dependencies)

    def click(self, button):
        button.click()
        self.host.pump(lambda: not self.panel.running)

    @property
    def rows(self):
        return dict(self.ui.engineTable._rows)

    @property
    def said(self):
        return self.ui.engineStatusLabel.text


@pytest.fixture
def tab(asks):
    tab = Tab(asks)
    yield tab
    tab.panel.cleanup()


def test_install_check_damage_repair_remove(tab, ours):
    ui = tab.ui
    assert tab.rows["State"] == "not installed"
    assert not ui.repairButton.enabled
    assert not ui.removeButton.enabled
    tab.click(ui.installButton)
    assert tab.said == "Installed and tried."
    assert tab.rows["State"] == "ready to segment on the CPU"
    assert tab.rows["Packages"] == "lesson 1.2"
    assert tab.rows["Folder"] == str(ours.packages)
    assert tab.rows["Python"].startswith(".".join(map(str, sys.version_info[:3])))
    (ours.packages / "lesson" / "__init__.py").write_text("raise ImportError('no DLL')\n")
    tab.click(ui.checkButton)
    assert tab.rows["State"] == "damaged: lesson: ImportError: no DLL"
    assert tab.said.startswith("Damaged")
    tab.click(ui.repairButton)
    assert tab.rows["State"] == "ready to segment on the CPU"
    tab.click(ui.installTorchButton)
    assert tab.rows["State"] == "ready, with PyTorch"
    tab.click(ui.removeButton)  # asked: no
    assert ours.packages.exists()
    tab.host.answers = [True]
    tab.click(ui.removeButton)
    assert not ours.packages.exists()
    assert tab.rows["State"] == "not installed"
    assert list(ours.packages.parent.iterdir()) == []


def test_cancel(tab, ours):
    tab.ui.installButton.click()
    assert not tab.ui.installTorchButton.enabled
    assert tab.ui.engineProgressBar.visible
    tab.ui.engineCancelButton.click()
    assert tab.said == "Cancelled."
    assert tab.ui.installButton.enabled
    assert not tab.ui.engineCancelButton.enabled
    assert list(ours.packages.parent.iterdir()) == []


def test_failure_is_one_sentence(tab, asks):
    asks.host.settings["wheelsFolder"] = ""
    tab.ui.wheelsEdit.currentPath = "/no/such/folder"
    assert asks.host.settings["wheelsFolder"] == "/no/such/folder"
    tab.ui.installButton.click()
    assert tab.said == "There is no folder /no/such/folder."
    assert tab.ui.installButton.enabled


def test_another_python(tab, asks, tmp_path):
    """With packages of its own it is used as it is; otherwise a folder is offered."""
    ui = tab.ui
    asks.host.answers = [str(tmp_path / "nothing")]
    tab.click(ui.pythonButton)
    assert "cannot be started" in tab.said
    asks.host.answers = [sys.executable, False]
    tab.click(ui.pythonButton)  # it lacks `lesson`; a folder of ours for it? no
    assert "lacks lesson" in asks.host.asked[-1]
    assert interpreter.current().origin == interpreter.SLICER
    asks.host.answers = [sys.executable, True]
    tab.click(ui.pythonButton)
    assert interpreter.current().packages is not None
    assert "chosen here" in tab.rows["Python"]
    (asks.folder / "requirements.txt").write_text("numpy\n")
    asks.host.answers = [sys.executable]
    tab.click(ui.pythonButton)
    assert interpreter.current().packages is None
    assert tab.said.startswith("The engine uses this Python and its packages")
    assert not ui.installButton.enabled
    tab.click(ui.slicerPythonButton)
    assert interpreter.current().origin == interpreter.SLICER


def test_chosen_python_that_is_gone(tab):
    interpreter.choose("/gone/python", "3.12-linux-x86_64")
    tab.panel.refresh()
    assert tab.said.startswith("The Python /gone/python is gone.")
    tab.click(tab.ui.slicerPythonButton)
    assert tab.rows["State"] == "not installed"


def test_card_without_pytorch_is_told(tab, asks, monkeypatch, tmp_path):
    monkeypatch.setattr(
        devices, "devices", lambda: [("Automatic", "auto"), ("CPU", "cpu"), ("NVIDIA T4", "cuda:0")]
    )
    wheel(tmp_path / "wheels", "torch", "2.13.0", "")
    tab.panel.refresh()
    assert tab.rows["Device"] == "CPU; NVIDIA T4 needs the installation with PyTorch"
    assert "3 GB" in tab.ui.installTorchButton.text


def test_intel_slicer_on_an_apple_processor(asks, monkeypatch):
    monkeypatch.setattr(interpreter, "isTranslated", lambda: True)
    assert "Intel program on an Apple processor" in Tab(asks).said
