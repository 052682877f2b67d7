"""A tab as a person has it before them: panel, widgets and host together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import slicer
import vtk
from E2ENetSegmentationLib.core import Core
from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.engine.python import dependencies
from E2ENetSegmentationLib.explain.panel import ExplainPanel
from E2ENetSegmentationLib.mrml.choices import Choices
from E2ENetSegmentationLib.segment.panel import SegmentPanel
from E2ENetSegmentationLib.training.panel import FineTunePanel

from .host import FakeHost
from .parameters import Parameters
from .widgets import Ui

RESOURCES = Path(paths.LIB).parent / "Resources"


class BoundTab:
    """A tab whose choices stand in the parameter node."""

    def bind(self, parameters=None):
        """What the module does with a parameter node, in its order."""
        self.parameters = parameters or Parameters(slicer.mrmlScene)
        self.choices = Choices(self.parameters)
        self.parameters.connectGui(self.ui)
        self.parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self.panel.update())
        self.panel.setParameterNode(self.parameters)

    def forget(self):
        """What the module does when a scene is about to close."""
        self.choices.release()
        self.panel.setParameterNode(None)
        self.panel.sceneAboutToClose()

    def close_scene(self, scene):
        """A person closes the scene."""
        self.forget()
        scene.Clear(False)
        self.bind()

    def choose_node(self, selector, node):
        """As a person does; a real selector tells of both."""
        selector.setCurrentNode(node)
        selector._emit("nodeActivated(vtkMRMLNode*)", node)


class SegmentTab(BoundTab):
    """The panel with its widgets and its host."""

    def __init__(self, model="tiny", host=None):
        self.ui, self.host = Ui(RESOURCES / "UI" / "SegmentTab.ui"), host or FakeHost()
        checks = dependencies.Dependencies(RESOURCES, self.host)
        self.panel = SegmentPanel(self.ui, Core(), self.host, checks)
        self.bind()
        if self.panel.models:
            self.panel.selectModel(model)

    def choose(self, volume):
        self.choose_node(self.ui.inputSelector, volume)

    def wait(self):
        self.host.pump(lambda: not self.panel.running)

    def segment(self):
        self.ui.segmentButton.click()
        self.wait()

    @property
    def usable(self):
        """Segment can be clicked again, and nothing is left running."""
        return self.ui.segmentButton.enabled and not self.ui.cancelButton.enabled


class ExplainTab(BoundTab):
    """The Explain panel with its widgets and its host."""

    def __init__(self, model="tiny"):
        self.ui, self.host = Ui(RESOURCES / "UI" / "ExplainTab.ui"), FakeHost()
        checks = dependencies.Dependencies(RESOURCES, self.host)
        self.panel = ExplainPanel(self.ui, Core(), self.host, checks)
        self.bind()
        self.panel.selectModel(model)

    def choose(self, volume, stage=1, level=0, label=0):
        """A volume, a node, and a label by its place in the list (0: none)."""
        self.choose_node(self.ui.inputSelector, volume)
        self.ui.nodeTable.setCurrentCell(level, stage - 1)
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
        able = (ui.showButton, ui.flowButton, ui.allFlowsButton)
        return all(button.enabled for button in able) and not ui.cancelButton.enabled


class FineTuneTab:
    """The Fine-tune panel with its widgets and its host, set to a small training of `model`."""

    def __init__(self, model="tiny", host=None):
        self.ui, self.host = Ui(RESOURCES / "UI" / "FineTuneTab.ui"), host or FakeHost()
        self.new = []  # names of finished models
        checks = dependencies.Dependencies(RESOURCES, self.host)
        self.panel = FineTunePanel(self.ui, Core(), self.host, checks, self.new.append)
        self.parameters = self.fresh_parameters()
        self.panel.setParameterNode(self.parameters)
        names = ["", *(model.name for model in self.panel.models)]
        self.ui.baseComboBox.currentIndex = names.index(model)
        self.host.settings["trainArguments"] = "--workers 0"
        self.ui.nameEdit.text = "Mine"
        self.length(2, 2)

    @staticmethod
    def fresh_parameters():
        """The parameter node of an empty scene."""
        return SimpleNamespace(
            trainingVolumes=[], trainingSegmentations=[], trainingHeldOut=[], trainingLabels={}
        )

    def length(self, epochs, iterations):
        self.ui.epochsSpinBox.value, self.ui.iterationsSpinBox.value = epochs, iterations

    def add(self, case):
        self.ui.caseVolumeSelector.setCurrentNode(case.volumeNodes[0])
        self.ui.caseSegmentationSelector.setCurrentNode(case.segmentationNode)
        self.ui.addCaseButton.click()

    def hold_out(self, row):
        self.ui.casesTable._rows[row][2] = True
        self.ui.casesTable._emit("itemChanged(QTableWidgetItem*)", None)

    def close_scene(self, scene):
        """What the module does when a person closes the scene."""
        self.panel.setParameterNode(None)
        self.panel.sceneAboutToClose()
        scene.Clear(False)
        self.parameters = self.fresh_parameters()
        self.panel.setParameterNode(self.parameters)

    def wait(self, until=None):
        self.host.pump(until or (lambda: not self.panel.running))

    @property
    def said(self):
        """For a message: what the tab and its log say."""
        return self.ui.trainStatusLabel.text + "\n" + self.ui.trainLogText.plainText
