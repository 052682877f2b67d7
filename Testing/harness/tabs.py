"""A tab as a person has it before them: panel, widgets and host together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from E2ENetSegmentationLib import dependencies, paths
from E2ENetSegmentationLib.core import Core
from E2ENetSegmentationLib.fusionpanel import FusionPanel
from E2ENetSegmentationLib.segmentpanel import SegmentPanel

from .host import FakeHost
from .widgets import Ui

RESOURCES = Path(paths.LIB).parent / "Resources"


class SegmentTab:
    """The panel with its widgets and its host."""

    def __init__(self, model="tiny", host=None, parameters=None):
        self.ui, self.host = Ui(RESOURCES / "UI" / "SegmentTab.ui"), host or FakeHost()
        checks = dependencies.Dependencies(RESOURCES, self.host)
        self.panel = SegmentPanel(self.ui, Core(), self.host, checks)
        self.parameters = parameters or SimpleNamespace(model="", extraVolumes=[])
        self.panel.setParameterNode(self.parameters)
        if self.panel.models:
            self.panel.selectModel(model)

    def choose(self, volume):
        self.ui.inputSelector.setCurrentNode(volume)
        self.panel.update()

    def wait(self):
        self.host.pump(lambda: not self.panel.running)

    def segment(self):
        self.ui.segmentButton.click()
        self.wait()

    @property
    def usable(self):
        """Segment can be clicked again, and nothing is left running."""
        return self.ui.segmentButton.enabled and not self.ui.cancelButton.enabled


class FusionTab:
    """The Fusion panel with its widgets and its host."""

    def __init__(self, model="tiny"):
        self.ui, self.host = Ui(RESOURCES / "UI" / "FusionTab.ui"), FakeHost()
        checks = dependencies.Dependencies(RESOURCES, self.host)
        self.panel = FusionPanel(self.ui, Core(), self.host, checks)
        self.panel.selectModel(model)

    def choose(self, volume, stage=1, level=0, label=0):
        """A volume, a node, and a label by its place in the list (0: none)."""
        self.ui.inputSelector.setCurrentNode(volume)
        self.ui.stageComboBox.currentIndex = stage - 1
        self.ui.levelComboBox.currentIndex = level
        self.ui.labelComboBox.currentIndex = label
        self.panel.update()

    def direction(self, name):
        self.ui.directionComboBox.currentIndex = self.panel._directions.index(name)

    def click(self, button):
        button.click()
        self.host.pump(lambda: not self.panel.running)

    @property
    def usable(self):
        ui = self.ui
        return ui.showButton.enabled and ui.flowButton.enabled and not ui.cancelButton.enabled
