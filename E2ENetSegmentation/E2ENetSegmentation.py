"""E2ENetSegmentation: segment a volume with one click, fine-tune a model from the scene.

This file is glue. What decides something is in E2ENetSegmentationLib, which runs without windows.
"""

import pathlib
import sys

import slicer
import vtk
from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class E2ENetSegmentation(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("E2ENet Segmentation")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["The E2ENetSegmentation contributors"]
        self.parent.helpText = _(
            "Segments a volume with E2ENet, a network whose fusion across scales is sparse, and "
            "fine-tunes it from the segmentations in the scene. For research; not for clinical "
            "decisions."
        )
        self.parent.acknowledgementText = _(
            "The method: B. Wu et al., E2ENet: Dynamic Sparse Feature Fusion for Accurate "
            "and Efficient 3D Medical Image Segmentation."
        )
        slicer.app.connect("startupCompleted()", onStartup)


def onStartup():
    """Offer the sample in Sample Data, and the models' terminology where segments are named."""
    from E2ENetSegmentationLib.mrml import samples

    samples.register()
    samples.loadTerminology()


@parameterNodeWrapper
class E2ENetSegmentationParameterNode:
    """What belongs to the scene: the nodes that were chosen, and the choices made with them.

    inputVolume, extraVolumes - First and further channels of the input.
    roi - Region the work is limited to.
    outputSegmentation - Where the result goes.
    explainedSegmentation, explainedNode - The result and the node that the Explain tab is about.
    model - Name of the model.
    mirroring, standardNames, show3D - Options of the Segment tab.
    trainingName, datasetFolder - Name of the new model; a dataset outside the scene.
    trainingVolumes - Volumes of all training cases, channels of a case together.
    trainingSegmentations, trainingHeldOut - One entry a training case.
    trainingLabels - Label a segment of that name teaches.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    extraVolumes: list[vtkMRMLScalarVolumeNode]
    roi: vtkMRMLMarkupsROINode
    outputSegmentation: vtkMRMLSegmentationNode
    explainedSegmentation: vtkMRMLSegmentationNode
    explainedNode: str
    model: str
    mirroring: bool = False
    standardNames: bool = False
    show3D: bool = True
    trainingName: str
    datasetFolder: pathlib.Path
    trainingVolumes: list[vtkMRMLScalarVolumeNode]
    trainingSegmentations: list[vtkMRMLSegmentationNode]
    trainingHeldOut: list[bool]
    trainingLabels: dict[str, str]


class E2ENetSegmentationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Loads the .ui files, makes one panel a tab, and keeps them in step with the scene."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.panels = []
        self._parameterNode = None
        self._guiTags = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        from E2ENetSegmentationLib.advanced.panel import EnginePanel
        from E2ENetSegmentationLib.engine.python.dependencies import Dependencies
        from E2ENetSegmentationLib.explain.panel import ExplainPanel
        from E2ENetSegmentationLib.models.panel import ModelsPanel
        from E2ENetSegmentationLib.segment.panel import SegmentPanel
        from E2ENetSegmentationLib.training.panel import FineTunePanel
        from E2ENetSegmentationLib.ui.host import SlicerHost

        self.logic = E2ENetSegmentationLogic()
        self.host = SlicerHost()
        frame = self._load("E2ENetSegmentation")
        self.layout.addWidget(frame)
        self.ui = slicer.util.childWidgetVariables(frame)
        titles = {
            "SegmentTab": _("Segment"),
            "FineTuneTab": _("Fine-tune"),
            "ModelsTab": _("Models"),
            "ExplainTab": _("Explain (research)"),
            "AdvancedTab": _("Advanced"),
        }
        self.tabs = {}
        for name, title in titles.items():
            tab = self._load(name)
            self.ui.tabWidget.addTab(tab, title)
            self.tabs[name] = slicer.util.childWidgetVariables(tab)

        core = self.logic.core
        needs = Dependencies(self.resourcePath(""), self.host)
        self.models = ModelsPanel(self.tabs["ModelsTab"], core, self.host, self.onModelsChanged)
        self.segment = SegmentPanel(self.tabs["SegmentTab"], core, self.host, needs)
        self.fineTune = FineTunePanel(
            self.tabs["FineTuneTab"], core, self.host, needs, self.onModelsChanged
        )
        self.explain = ExplainPanel(self.tabs["ExplainTab"], core, self.host, needs)
        self.engine = EnginePanel(self.tabs["AdvancedTab"], core, self.host, needs)
        self.panels = [self.segment, self.fineTune, self.models, self.explain, self.engine]
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndClose)
        self.initializeParameterNode()

    def _load(self, name):
        widget = slicer.util.loadUI(self.resourcePath(f"UI/{name}.ui"))
        widget.setMRMLScene(slicer.mrmlScene)
        return widget

    def cleanup(self):
        """Slicer exits, or the module is reloaded: nothing of ours goes on."""
        self.setParameterNode(None)
        self.removeObservers()
        for panel in self.panels:
            panel.cleanup()

    def onReload(self):
        for name in [n for n in sys.modules if n.split(".")[0] == "E2ENetSegmentationLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def enter(self):
        self.initializeParameterNode()
        self.host.entered = True
        for panel in self.panels:
            panel.update()

    def exit(self):
        """Runs go on while another module is shown, whose views are left alone."""
        self.host.entered = False

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)
        for panel in self.panels:
            panel.sceneAboutToClose()

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onModelsChanged(self, name=""):
        """The list of models changed; `name` is new and worth selecting."""
        self.segment.refreshModels(name)
        self.segment.update()
        self.fineTune.refreshModels()
        self.explain.refreshModels()
        self.explain.update()
        self.models.refresh()

    def initializeParameterNode(self):
        from E2ENetSegmentationLib.mrml import segmentations

        parameters = self.logic.getParameterNode()
        if not parameters.parameterNode.GetAttribute("E2ENet.known"):
            parameters.parameterNode.SetAttribute("E2ENet.known", "1")
            self.segment.restore(parameters)
        if parameters.inputVolume is None:
            parameters.inputVolume = segmentations.shownVolume(slicer.app.applicationLogic())
        self.setParameterNode(parameters)

    def setParameterNode(self, parameters):
        from E2ENetSegmentationLib.mrml.choices import Choices

        if self._parameterNode is not None:
            self._choices.release()
            for tag in self._guiTags:
                self._parameterNode.disconnectGui(tag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onModified)
        self._parameterNode, self._guiTags = parameters, []
        if parameters is not None:
            self._choices = Choices(parameters)
            self._guiTags = [parameters.connectGui(ui) for ui in self.tabs.values()]
            self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self.onModified)
        for panel in self.panels:
            panel.setParameterNode(parameters)

    def onModified(self, caller=None, event=None):
        if slicer.mrmlScene.IsBatchProcessing():  # half of it is loaded
            return
        for panel in self.panels:
            panel.update()


class E2ENetSegmentationLogic(ScriptedLoadableModuleLogic):
    """What a script calls; `core` does the work.

    >>> logic = E2ENetSegmentationLogic()
    >>> segmentation = logic.segment(slicer.util.getNode("MRHead"), "hippocampus-mr")
    """

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        from E2ENetSegmentationLib.core import Core

        self.core = Core()

    def getParameterNode(self):
        return E2ENetSegmentationParameterNode(super().getParameterNode())

    def segment(self, volumeNodes, model, **options):
        """Segment a volume (or a list with one a channel) and wait; returns the segmentation node.

        Options: outputNode, roiNode, device, mirroring, standardNames, show3D.
        Raises an exception whose text is one sentence when it cannot be done.
        """
        return self.core.segment(volumeNodes, model, **options)


class E2ENetSegmentationTest(ScriptedLoadableModuleTest):
    """What must work in every Slicer, with nothing installed; then the sample head on the CPU."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        for test in (self.test_EngineStarts, self.test_ResultIntoScene, self.test_SegmentSample):
            self.setUp()
            test()

    def test_EngineStarts(self):
        """The engine's interpreter runs as a process of its own and says what it is."""
        import time

        from E2ENetSegmentationLib.engine.python import interpreter
        from E2ENetSegmentationLib.engine.python.inspection import Inspection

        run = Inspection(interpreter.current(), ["numpy"])
        run.start()
        while run.poll():
            time.sleep(0.05)
        assert run.result.version >= (3, 10)
        self.delayDisplay(f"The engine runs in Python {run.result.version}")

    def test_ResultIntoScene(self):
        """The sample goes to a file and back, and labels of the shipped model into the scene."""
        import tempfile

        import numpy as np
        from E2ENetSegmentationLib.mrml import segmentations, volumes

        volume = self._sample()
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "head.nrrd"
            volumes.writeVolume(volume, path)
            again = volumes.readResult(path, volume)
        assert np.array_equal(again, slicer.util.arrayFromVolume(volume))
        labels = E2ENetSegmentationLogic().core.store.open("hippocampus-mr").labels
        array = np.zeros(again.shape, np.uint8)
        for label in labels:
            array[60:80, 60:80, 30 * label.value : 30 * label.value + 20] = label.value
        node = segmentations.importLabels(array, volume, labels, modelName="test")
        for identifier in segmentations.segmentIds(node.GetSegmentation()):
            inside = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume)
            # 20 voxels of 1 mm along each axis
            assert abs((inside > 0).sum() * volumes.voxelMillilitres(volume) - 8.0) < 0.01
        self._check(node, volume)

    def test_SegmentSample(self):
        """The whole path, where the engine's packages for the CPU are installed."""
        from E2ENetSegmentationLib.engine.python.dependencies import SEGMENT, Dependencies

        folder = pathlib.Path(__file__).parent / "Resources"
        missing = Dependencies(folder, None).missing(SEGMENT)
        if missing:
            self.delayDisplay(f"Left out, these packages are not installed: {', '.join(missing)}")
            return
        volume = self._sample()
        self.delayDisplay("Segmenting the sample head")
        node = E2ENetSegmentationLogic().segment(volume, "hippocampus-mr", device="cpu")
        self._check(node, volume)

    def _sample(self):
        import SampleData
        from E2ENetSegmentationLib.mrml import samples

        samples.register()
        return SampleData.SampleDataLogic().downloadSample(samples.HEAD)

    def _check(self, node, volume):
        segmentation = node.GetSegmentation()
        assert segmentation.GetNumberOfSegments() >= 2
        assert segmentation.ContainsRepresentation("Closed surface")
        assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
        for index in range(segmentation.GetNumberOfSegments()):
            assert segmentation.GetNthSegment(index).GetTerminology()
        self.delayDisplay("Test passed")
