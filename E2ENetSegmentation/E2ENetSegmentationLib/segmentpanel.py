"""The Segment tab: choose, click, watch; decides everything, touches widgets as PythonQt allows."""

from . import devices, roi, sequences
from .dependencies import SEGMENT
from .events import progressPercent, progressText
from .i18n import tr as _
from .panelbase import Panel, fillCombo
from .refusal import Refused
from .segmentrun import SegmentRequest

POLL_MILLISECONDS = 100


class SegmentPanel(Panel):
    """See the module's documentation.

    Args:
        dependencies: `Dependencies`; asked before the first run.
    """

    def __init__(self, ui, core, host, dependencies) -> None:
        super().__init__(ui, core, host)
        self.statusLabel, self.logText = ui.statusLabel, ui.logText
        self.dependencies = dependencies
        self.models = []
        self.parameters = None
        self.result = None
        self._run = None
        self._jobs = []
        self._done = []
        self._seenLines = 0
        self._selectors = []
        self._devices = devices.devices()
        self._timer = host.timer(POLL_MILLISECONDS, self.poll)
        names = [name for name, _value in self._devices]
        wanted = {value: name for name, value in self._devices}.get(host.setting("device"), "")
        fillCombo(ui.deviceComboBox, names, wanted)
        self.refreshModels()
        self._connect()
        self.update()

    def _connect(self) -> None:
        ui = self.ui
        ui.modelComboBox.connect("currentIndexChanged(int)", self.onModelChanged)
        ui.deviceComboBox.connect("currentIndexChanged(int)", self.onDeviceChanged)
        ui.inputSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onInputChanged)
        ui.placeRoiButton.connect("clicked()", self.onPlaceRoi)
        ui.segmentButton.connect("clicked()", self.onSegment)
        ui.cancelButton.connect("clicked()", self.onCancel)
        ui.batchButton.connect("clicked()", self.onBatch)
        ui.sequenceButton.connect("clicked()", self.onSequence)
        ui.sequenceSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.update)
        ui.batchSelector.connect("checkedNodesChanged()", self.update)
        ui.statisticsButton.connect("clicked()", self.onStatistics)
        ui.editorButton.connect("clicked()", self.onEditor)
        for name in ("mirroring", "standardNames", "show3D"):
            box = getattr(ui, name + "CheckBox")
            box.connect("toggled(bool)", lambda on, name=name: self.host.setSetting(name, int(on)))

    # State

    @property
    def running(self) -> bool:
        return self._run is not None

    @property
    def model(self):
        index = self.ui.modelComboBox.currentIndex
        return self.models[index] if 0 <= index < len(self.models) else None

    def setParameterNode(self, parameters) -> None:
        """Follow another parameter node; None while the scene is closing."""
        self.parameters = parameters
        if parameters is None:
            return
        if parameters.model:
            self.selectModel(parameters.model)
        for selector, node in zip(self._selectors, parameters.extraVolumes, strict=False):
            selector.setCurrentNode(node)
        self.update()

    def restore(self, parameters) -> None:
        """Give a new scene's parameters the choices of the last session."""
        for name, default in (("mirroring", "0"), ("standardNames", "0"), ("show3D", "1")):
            setattr(parameters, name, self.host.setting(name, default) == "1")

    def refreshModels(self, select: str = "") -> None:
        """List the models again, and keep or select one by name."""
        current = select or (self.model.name if self.model else self.host.setting("model"))
        try:
            self.models = self.core.store.models()
        except Refused as refusal:
            self.models = []
            self.say(str(refusal))
        for problem in self.core.store.problems:
            self.log(problem)
        titles = [model.title for model in self.models]
        names = [model.name for model in self.models]
        wanted = titles[names.index(current)] if current in names else ""
        fillCombo(self.ui.modelComboBox, titles, wanted)
        self._showModel()

    def selectModel(self, name: str) -> None:
        names = [model.name for model in self.models]
        if name in names:
            self.ui.modelComboBox.currentIndex = names.index(name)

    def update(self, *_args) -> None:
        """Enable what can be done now."""
        ui, model = self.ui, self.model
        ready = model is not None and not self.running
        chosen = ui.inputSelector.currentNode() is not None
        ui.segmentButton.enabled = ready and chosen
        ui.cancelButton.enabled = self.running
        ui.progressBar.visible = self.running
        ui.placeRoiButton.enabled = chosen
        single = ready and len(model.channels) == 1
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
        self._showModel()
        self.update()

    def onDeviceChanged(self, *_args) -> None:
        self.host.setSetting("device", self._device())

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

    def onCancel(self) -> None:
        if self.running:
            self._run.cancel()
            self._end(_("Cancelled."))

    def onStatistics(self) -> None:
        self._handOver(self.host.openStatistics)

    def onEditor(self) -> None:
        self._handOver(self.host.openEditor)

    def sceneAboutToClose(self) -> None:
        """The nodes go away: end the run and forget the result."""
        if self.running:
            self._run.cancel()
            self._end(_("Cancelled, because the scene was closed."))
        self.result = None
        self.ui.resultsWidget.visible = False

    def cleanup(self) -> None:
        """Slicer exits or the module is reloaded."""
        self._timer.stop()
        if self.running:
            self._run.cancel()
            self._run = None

    # The run

    def _volumes(self) -> list:
        return [
            self.ui.inputSelector.currentNode(),
            *(selector.currentNode() for selector in self._selectors),
        ]

    def _device(self) -> str:
        return self._devices[max(0, self.ui.deviceComboBox.currentIndex)][1]

    def _request(self, volumeNodes, outputNode, withRegion: bool = True) -> SegmentRequest:
        if self.model is None:
            raise Refused(_("There is no model; import one in the tab Models."))
        return SegmentRequest(
            volumeNodes=volumeNodes,
            model=self.model,
            outputNode=outputNode,
            roiNode=self.ui.roiSelector.currentNode() if withRegion else None,
            device=self._device(),
            mirroring=self.ui.mirroringCheckBox.checked,
            standardNames=self.ui.standardNamesCheckBox.checked,
            show3D=self.ui.show3DCheckBox.checked,
        )

    def _begin(self, jobs) -> None:
        if self.running:
            return
        self.dependencies.ensure(SEGMENT)
        self._jobs, self._done = list(jobs), []
        self._next()
        if self.parameters is not None:
            self.parameters.extraVolumes = [s.currentNode() for s in self._selectors]

    def _next(self) -> None:
        job = self._jobs.pop(0)
        self.ui.progressBar.value = 0
        self.say(_("Writing the volume…"))
        run = self.core.startSegmentation(job, self.onEvent)
        self._run, self._seenLines = run, 0
        name = job.volumeNodes[0].GetName()
        self.log(_("{volume}: segmenting with {model}").format(volume=name, model=job.model.title))
        self.say(_("Starting the engine…"))
        self.update()
        self._timer.start()

    def onEvent(self, event: dict) -> None:
        """Show what the engine says."""
        if event["event"] == "progress":
            self.ui.progressBar.value = progressPercent(event)
            text = progressText(event)
            if self._jobs or self._done:
                total = len(self._done) + 1 + len(self._jobs)
                text = f"{len(self._done) + 1}/{total}  {text}"
            self.say(text)
        elif event["event"] == "warning":
            self.log(str(event.get("message", "")))

    def poll(self) -> None:
        """Called by the timer while a run goes on."""
        if not self.running:
            self._timer.stop()
            return
        finished = True
        with self.sentences():
            finished = False
            try:
                if self._run.poll():
                    return
                finished = True
            finally:
                self._logLines()
            self._done.append(self._run.result)
            if self._jobs:
                self._next()
                return
            self._show(self._done)
            return
        if not finished:
            self._run.cancel()
        self._end()

    def _end(self, text: str = "") -> None:
        self._timer.stop()
        self._run, self._jobs = None, []
        if text:
            self.say(text)
            self.log(text)
        self.update()

    def _logLines(self) -> None:
        for line in self._run.lines[self._seenLines :]:
            self.log(line)
        self._seenLines = len(self._run.lines)

    def _show(self, results) -> None:
        self._end()
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
            self.host.centre3D()
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

    # The model

    def _showModel(self) -> None:
        """Lines about the model, and one selector a channel."""
        ui, model = self.ui, self.model
        ui.modelInfoLabel.text = "\n".join(model.summary()) if model else _("There is no model.")
        automatic = model is not None and model.hasLocator
        ui.roiSelector.noneDisplay = _("Find it automatically") if automatic else _("Whole volume")
        channels = model.channels if model else [_("Volume")]
        several = len(channels) > 1
        ui.inputLabel.text = f"{channels[0]}:" if several else _("Volume:")
        before = [selector.currentNode() for selector in self._selectors]
        self.host.clearForm(ui.channelsWidget)
        self._selectors = [
            self.host.volumeSelector(ui.channelsWidget, f"{name}:") for name in channels[1:]
        ]
        ui.channelsWidget.visible = several
        for selector, node in zip(self._selectors, before, strict=False):
            selector.setCurrentNode(node)
