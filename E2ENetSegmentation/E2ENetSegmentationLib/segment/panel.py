"""The Segment tab: choose, click, watch; decides everything, touches widgets as PythonQt allows."""

from E2ENetSegmentationLib.engine import devices
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.mrml import roi
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.segment import sequences
from E2ENetSegmentationLib.segment.run import SegmentRequest
from E2ENetSegmentationLib.ui.panel import fillCombo
from E2ENetSegmentationLib.ui.run_panel import RunPanel


class SegmentPanel(RunPanel):
    """See the module's documentation, and `RunPanel` for the arguments."""

    def __init__(self, ui, core, host, dependencies) -> None:
        super().__init__(ui, core, host, dependencies)
        self.result = None
        self._showDevices()
        devices.whenKnown(host, self._showDevices)
        self.refreshModels()
        self._connect()
        self.update()

    def _connect(self) -> None:
        ui = self.ui
        ui.deviceComboBox.connect("currentIndexChanged(int)", self.onDeviceChanged)
        ui.inputSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onInputChanged)
        ui.placeRoiButton.connect("clicked()", self.onPlaceRoi)
        ui.segmentButton.connect("clicked()", self.onSegment)
        ui.batchButton.connect("clicked()", self.onBatch)
        ui.sequenceButton.connect("clicked()", self.onSequence)
        ui.sequenceSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.update)
        ui.batchSelector.connect("checkedNodesChanged()", self.update)
        ui.statisticsButton.connect("clicked()", self.onStatistics)
        ui.editorButton.connect("clicked()", self.onEditor)
        for name in ("mirroring", "standardNames", "show3D"):
            box = getattr(ui, name + "CheckBox")
            box.connect("toggled(bool)", lambda on, name=name: self.host.setSetting(name, int(on)))

    def _showDevices(self) -> None:
        names = [name for name, _value in self._devices]
        wanted = {value: name for name, value in self._devices}.get(self.host.setting("device"), "")
        fillCombo(self.ui.deviceComboBox, names, wanted)

    # State

    def setParameterNode(self, parameters) -> None:
        """Follow another parameter node, also in what model was chosen."""
        self.parameters = parameters
        if parameters is not None and parameters.model:
            self.selectModel(parameters.model)
        super().setParameterNode(parameters)

    def restore(self, parameters) -> None:
        """Give a new scene's parameters the choices of the last session."""
        for name, default in (("mirroring", "0"), ("standardNames", "0"), ("show3D", "1")):
            setattr(parameters, name, self.host.setting(name, default) == "1")

    def update(self, *_args) -> None:
        """Enable what can be done now."""
        ui, model = self.ui, self.model
        super().update()
        chosen = ui.inputSelector.currentNode() is not None
        ui.segmentButton.enabled = self.ready and chosen
        ui.placeRoiButton.enabled = chosen
        single = self.ready and len(model.channels) == 1
        ui.batchButton.enabled = single and len(ui.batchSelector.checkedNodes()) > 0
        ui.sequenceButton.enabled = single and ui.sequenceSelector.currentNode() is not None
        if not chosen:
            ui.segmentButton.toolTip = _("Choose a volume first.")
        elif model is None:
            ui.segmentButton.toolTip = _("There is no model; import one in the tab Models.")
        else:
            ui.segmentButton.toolTip = _("Segment {volume} with {model}.").format(
                volume=ui.inputSelector.currentNode().GetName(), model=model.title
            )

    # What the person does

    def onModelChanged(self, *_args) -> None:
        if self.model is not None:
            self.host.setSetting("model", self.model.name)
            if self.parameters is not None:
                self.parameters.model = self.model.name
        super().onModelChanged()

    def onDeviceChanged(self, *_args) -> None:
        index = max(0, self.ui.deviceComboBox.currentIndex)
        self.host.setSetting("device", self._devices[index][1])

    def onInputChanged(self, *_args) -> None:
        """Another volume gets a result of its own; the last one's is not overwritten."""
        volume = self.ui.inputSelector.currentNode()
        output = self.ui.outputSelector.currentNode()
        if output is not None and volume is not None:
            reference = output.GetNodeReference(output.GetReferenceImageGeometryReferenceRole())
            if reference is not None and reference is not volume:
                self.ui.outputSelector.setCurrentNode(None)
        self.update()

    def onPlaceRoi(self) -> None:
        with self.sentences():
            volume = self.ui.inputSelector.currentNode()
            if volume is None or volume.GetImageData() is None:
                raise Refused(_("Choose a volume with voxels first."))
            size = self.model.fieldOfView() if self.model else None
            node = roi.fitRoi(volume, size, self.ui.roiSelector.currentNode())
            node.GetDisplayNode().SetVisibility(True)
            self.ui.roiSelector.setCurrentNode(node)
            self.say(_("Drag the box so that it holds the structure."))

    def onSegment(self) -> None:
        with self.sentences():
            self._begin([self._request(self._volumes(), self.ui.outputSelector.currentNode())])

    def onBatch(self) -> None:
        with self.sentences():
            nodes = list(self.ui.batchSelector.checkedNodes())
            if not nodes:
                raise Refused(_("Check the volumes that are to be segmented."))
            self._begin([self._request([node], None, withRegion=False) for node in nodes])

    def onSequence(self) -> None:
        with self.sentences():
            sequence = self.ui.sequenceSelector.currentNode()
            if sequence is None:
                raise Refused(_("Choose a sequence."))
            self._begin(sequences.jobs(sequence, self._request([None], None, withRegion=False)))

    def onStatistics(self) -> None:
        self._handOver(self.host.openStatistics)

    def onEditor(self) -> None:
        self._handOver(self.host.openEditor)

    def sceneAboutToClose(self) -> None:
        """The nodes go away: end the run and forget the result."""
        super().sceneAboutToClose()
        self.result = None
        self.ui.resultsWidget.visible = False

    # The run

    def _request(self, volumeNodes, outputNode, withRegion: bool = True) -> SegmentRequest:
        return SegmentRequest(
            volumeNodes=volumeNodes,
            model=self._chosenModel(),
            outputNode=outputNode,
            roiNode=self.ui.roiSelector.currentNode() if withRegion else None,
            device=self.device,
            mirroring=self.ui.mirroringCheckBox.checked,
            standardNames=self.ui.standardNamesCheckBox.checked,
            show3D=self.ui.show3DCheckBox.checked,
        )

    def _started(self, request):
        return self.core.startSegmentation(request, self.onEvent)

    def _title(self, request) -> str:
        return _("{volume}: segmenting with {model}").format(
            volume=request.volumeNodes[0].GetName(), model=request.model.title
        )

    def _show(self, results) -> None:
        self.result = results[-1]
        rows = []
        for result in results:
            prefix = f"{result.volumeNode.GetName()}: " if len(results) > 1 else ""
            rows += [(prefix + name, f"{volume:.2f}") for name, _value, volume in result.rows]
        self.host.fillTable(self.ui.resultsTable, rows)
        self.ui.resultsWidget.visible = True
        if len(results) == 1 and self.result.segmentationNode.GetScene() is not None:
            self.ui.outputSelector.setCurrentNode(self.result.segmentationNode)
            self.host.showVolume(self.result.volumeNode)
            if self.result.centre is not None:
                self.host.jumpTo(self.result.centre)
        warnings = [warning for result in results for warning in result.warnings]
        if len(results) == 1:
            text = _("Done: {name}.").format(name=self.result.segmentationNode.GetName())
        else:
            text = _("Done: {count} volumes.").format(count=len(results))
        self.say(" ".join([text, *dict.fromkeys(warnings)]))
        self.log(text)

    def _handOver(self, opener) -> None:
        with self.sentences():
            if self.result is None or self.result.segmentationNode.GetScene() is None:
                raise Refused(_("There is no result any more; segment again."))
            opener(self.result.segmentationNode, self.result.volumeNode)

    def _showModel(self) -> None:
        """Lines about the model as well."""
        super()._showModel()
        lines = self.model.summary() if self.model else [_("There is no model.")]
        self.ui.modelInfoLabel.text = "\n".join(lines)
