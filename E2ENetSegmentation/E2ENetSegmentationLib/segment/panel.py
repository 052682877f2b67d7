"""The Segment tab: choose, click, watch; decides everything, touches widgets as PythonQt allows."""

from pathlib import Path
from typing import ClassVar

from E2ENetSegmentationLib.engine import devices
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.mrml import roi, segmentations
from E2ENetSegmentationLib.mrml.choices import nodeId
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.segment import sequences
from E2ENetSegmentationLib.segment.dicom import DicomExport, comesFrom
from E2ENetSegmentationLib.segment.folder import CaseResult, FolderRequest, FolderResult, FolderRun
from E2ENetSegmentationLib.segment.outcome import (
    cells,
    headline,
    headlineOfFolder,
    headlineOfSeveral,
    summary,
)
from E2ENetSegmentationLib.segment.results import resultOf
from E2ENetSegmentationLib.segment.run import SegmentRequest
from E2ENetSegmentationLib.segment.server_panel import ServerPanel
from E2ENetSegmentationLib.ui.panel import fillCombo
from E2ENetSegmentationLib.ui.run_panel import RunPanel


class SegmentPanel(ServerPanel):
    """See the module's documentation, and `RunPanel` for the arguments."""

    SELECTORS: ClassVar[dict] = {**RunPanel.SELECTORS, "outputSegmentation": "outputSelector"}

    def __init__(self, ui, core, host, dependencies) -> None:
        super().__init__(ui, core, host, dependencies)
        self._forSeveral = False  # whether several volumes were asked for, be it one
        self._several = []  # their results, until something else is chosen
        self._chosen = None  # what was chosen when results were last looked for
        self._withheld = None  # the choice of which a run goes on, or came to nothing
        self._read = (None, None)  # (which state of which segmentation, its result)
        self._showDevices()
        devices.whenKnown(host, self._showDevices)
        self.refreshModels()
        self._connect()
        self.update()

    def _connect(self) -> None:
        ui = self.ui
        ui.deviceComboBox.connect("currentIndexChanged(int)", self.onDeviceChanged)
        ui.placeRoiButton.connect("clicked()", self.onPlaceRoi)
        ui.segmentButton.connect("clicked()", self.onSegment)
        ui.batchButton.connect("clicked()", self.onBatch)
        ui.folderButton.connect("clicked()", self.onFolder)
        ui.sequenceButton.connect("clicked()", self.onSequence)
        ui.sequenceSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.update)
        ui.batchSelector.connect("checkedNodesChanged()", self.update)
        ui.statisticsButton.connect("clicked()", self.onStatistics)
        ui.editorButton.connect("clicked()", self.onEditor)
        ui.dicomButton.connect("clicked()", self.onDicom)
        ui.show3DCheckBox.connect("toggled(bool)", self.onShow3D)
        for name in ("mirroring", "standardNames", "show3D"):
            box = getattr(ui, name + "CheckBox")
            box.connect("toggled(bool)", lambda on, name=name: self.host.setSetting(name, int(on)))
        self._connectServer()

    def _showDevices(self) -> None:
        names = [name for name, _value in self._devices]
        wanted = {value: name for name, value in self._devices}.get(self.host.setting("device"), "")
        fillCombo(self.ui.deviceComboBox, names, wanted)

    # State

    def setParameterNode(self, parameters) -> None:
        """Follow another parameter node, also in what model was chosen."""
        self.parameters = parameters
        if parameters is None:  # IDs of the next scene's nodes mean others
            self._chosen = None
        elif parameters.model:
            self.selectModel(parameters.model)
        super().setParameterNode(parameters)

    def restore(self, parameters) -> None:
        """Give a new scene's parameters the choices of the last session."""
        for name, default in (("mirroring", "0"), ("standardNames", "0"), ("show3D", "1")):
            setattr(parameters, name, self.host.setting(name, default) == "1")

    def update(self, *_args) -> None:
        """Enable what can be done now, and show the result of what is chosen."""
        ui, model = self.ui, self.model
        super().update()
        self._showServer()
        self._followChoice()
        chosen = self.volume is not None
        ui.segmentButton.enabled = self.ready and chosen
        ui.placeRoiButton.enabled = chosen
        ui.folderButton.enabled = self.ready
        single = self.ready and len(model.channels) == 1
        ui.batchButton.enabled = single and len(ui.batchSelector.checkedNodes()) > 0
        ui.sequenceButton.enabled = single and ui.sequenceSelector.currentNode() is not None
        if not chosen:
            ui.segmentButton.toolTip = _("Choose a volume first.")
        elif model is None:
            ui.segmentButton.toolTip = _("There is no model; import one in the tab Models.")
        else:
            ui.segmentButton.toolTip = _("Segment {volume} with {model}.").format(
                volume=self.volume.GetName(), model=model.title
            )

    # What the person does

    def refreshModels(self, select: str = "") -> None:
        """As `RunPanel.refreshModels`; what is shown then is what was chosen."""
        super().refreshModels(select)
        self._keepModel()

    def onModelChanged(self, *_args) -> None:
        self._keepModel()
        super().onModelChanged()

    def _keepModel(self) -> None:
        if self.model is not None and self.parameters is not None:
            self.host.setSetting("model", self.model.name)
            self.parameters.model = self.model.name

    def onDeviceChanged(self, *_args) -> None:
        index = max(0, self.ui.deviceComboBox.currentIndex)
        self.host.setSetting("device", self._devices[index][1])

    def onPlaceRoi(self) -> None:
        with self.sentences():
            volume = self.volume
            if volume is None or volume.GetImageData() is None:
                raise Refused(_("Choose a volume with voxels first."))
            size = self.model.fieldOfView() if self.model else None
            node = roi.fitRoi(volume, size, self.parameters.roi)
            node.GetDisplayNode().SetVisibility(True)
            self.choose(roi=node)
            self.say(_("Drag the box so that it holds the structure."))

    def onSegment(self) -> None:
        with self.sentences():
            self.onActivated()
            if self.busy:
                return
            output = self.parameters.outputSegmentation
            self._checkOutput(output)
            self._begin([self._request(self._volumes(), output)])

    def _checkOutput(self, output) -> None:
        """What was made of another volume is only overwritten when a person says so."""
        if segmentations.isOf(output, self.volume):
            return
        question = _(
            "{output} was made of another volume, {other}.\n\n"
            "Replace its segments by those of {volume}?"
        ).format(
            output=output.GetName(),
            other=segmentations.origin(output)[0][0].GetName(),
            volume=self.volume.GetName(),
        )
        if not self.host.confirm(question):
            raise Refused(
                _("{output} was left as it is.").format(output=output.GetName()),
                _("Choose another output, or none for a new segmentation."),
            )

    def onBatch(self) -> None:
        with self.sentences():
            nodes = list(self.ui.batchSelector.checkedNodes())
            if not nodes:
                raise Refused(_("Check the volumes that are to be segmented."))
            requests = [self._request([node], None, withRegion=False) for node in nodes]
            self._begin(requests, several=True)

    def onFolder(self) -> None:
        with self.sentences():
            if self._server is not None:
                raise Refused(
                    _("A folder is segmented on this computer, not on a server."),
                    _("Uncheck the server first."),
                )
            folder = self.host.openFolder(_("Folder of images"))
            if folder:
                mirroring = self.ui.mirroringCheckBox.checked
                model = self._chosenModel()
                self._begin([FolderRequest(Path(folder), model, self.device, mirroring)])

    def onSequence(self) -> None:
        with self.sentences():
            sequence = self.ui.sequenceSelector.currentNode()
            if sequence is None:
                raise Refused(_("Choose a sequence."))
            requests = sequences.jobs(sequence, self._request([None], None, withRegion=False))
            self._begin(requests, several=True)

    def onCancel(self) -> None:
        if self.running and isinstance(self._run, FolderRun):
            self.cancel(_("Cancelled; choose the folder again to go on from here."))
        else:
            super().onCancel()

    def onShow3D(self, *_args) -> None:
        """The surface of the result that is shown comes or goes at once."""
        with self.sentences():
            if self.result is not None and not self.busy:
                on = self.ui.show3DCheckBox.checked
                segmentations.showSurface(self.result.segmentationNode, on)

    def onStatistics(self) -> None:
        self._handOver(self.host.openStatistics)

    def onEditor(self) -> None:
        self._handOver(self.host.openEditor)

    def onDicom(self) -> None:
        """Store the result as DICOM SEG where its volume came from."""
        with self.sentences():
            if self.busy:
                return
            result = self.result
            if result is None:
                raise Refused(_("There is no result any more; segment again."))
            name = segmentations.origin(result.segmentationNode)[1]
            title = {model.name: model.title for model in self.models}.get(name, name)
            with self.starting():
                self.dependencies.ensure(self.purpose)
                self._requests, self._done, self._failed = [], [], []
                database = self.host.dicomDatabase
                run = DicomExport(result, database, self.host.storeDicom, title, self.onEvent)
                run.start()
                self._watch(run)
                self.say(_("Writing the DICOM file…"))

    def sceneAboutToClose(self) -> None:
        """The nodes go away: end the run and forget the results."""
        self._several, self._read = [], (None, None)
        super().sceneAboutToClose()

    # The result of what is chosen

    @property
    def result(self):
        """Of the volume and the segmentation that are chosen, as the scene has it; or None."""
        output = self.parameters.outputSegmentation if self.parameters is not None else None
        if output is None or not segmentations.isOf(output, self.volume):
            return None
        state = (output.GetID(), output.GetSegmentation().GetMTime())
        if state != self._read[0]:
            self._read = (state, resultOf(output))
        return self._read[1]

    def _choice(self) -> tuple:
        nodes = (self.volume, self.parameters.outputSegmentation) if self.parameters else ()
        return tuple(nodeId(node) for node in nodes)

    def _followChoice(self) -> None:
        """Show the result of what is chosen now; what was of something else goes."""
        before, now = self._chosen, self._choice()
        self._chosen = now
        if before != now:
            self._several = []
            self._withheld = self._withheld if self.busy else None
            if before and now and before[0] != now[0]:
                self._showVolume()
        results = self._several
        if not results and self._withheld != now and self.result is not None:
            results = [self.result]
        if before != now and not self.busy and (before or results):
            self.say(headline(results[0]) if results else "")
        self._fillTable(results)

    def _showVolume(self) -> None:
        """The views show the patient whose results the panel shows."""
        there = self.volume is not None and self.volume.GetImageData() is not None
        if there and self.host.entered:
            self.host.showVolume(self.volume)
            segmentations.showOnlyOf(self.volume)

    def _fillTable(self, results) -> None:
        rows = [row for result in results for row in result.rows]
        self.ui.resultsWidget.visible = bool(rows)
        shown = None if self._several else self.result
        ours = shown is not None and comesFrom(shown.volumeNode, self.host.dicomDatabase)
        self.ui.dicomButton.visible = bool(rows) and ours
        self.ui.dicomButton.enabled = not self.busy
        if not rows:
            return
        texts = []
        for result in results:
            texts += cells(result.rows, f"{result.title}: " if self._several else "")
        marked = [index for index, row in enumerate(rows) if row.doubtful]
        self.host.fillTable(self.ui.resultsTable, texts, marked=marked)

    # The run

    def _request(self, volumeNodes, outputNode, withRegion: bool = True) -> SegmentRequest:
        return SegmentRequest(
            volumeNodes=volumeNodes,
            model=self._chosenModel(),
            outputNode=outputNode,
            roiNode=self.parameters.roi if withRegion else None,
            device=self.device,
            mirroring=self.ui.mirroringCheckBox.checked,
            standardNames=self.ui.standardNamesCheckBox.checked,
            show3D=self.ui.show3DCheckBox.checked,
            server=self._server,
        )

    def _started(self, request):
        if isinstance(request, FolderRequest):
            run = FolderRun(request, self.onEvent)
            run.start()
            return run
        return self.core.startSegmentation(request, self.onEvent)

    def _title(self, request) -> str:
        return _("{volume}: segmenting with {model}").format(
            volume=request.title, model=request.model.title
        )

    def _begin(self, requests, several: bool = False) -> None:
        """A result that is shown is of an earlier run: it goes until this one has its own."""
        with self.sentences():
            self._agree()
            self._beginAgreed(requests, several)

    def _beginAgreed(self, requests, several: bool) -> None:
        if not self.busy:
            self._forSeveral, self._several, self._withheld = several, [], self._choice()
        super()._begin(requests)

    def _finished(self, run) -> None:
        if isinstance(run, DicomExport):
            text = _("Stored beside {volume} in the DICOM database.").format(
                volume=run.volumeNode.GetName()
            )
            self.say(text)
            self.log(f"{text} {run.result}")
            return
        if run.result is not None:
            self.log(summary(run.result, run.request.model.title))
        super()._finished(run)

    def _show(self, results) -> None:
        asked, self._withheld = self._withheld, None
        if results and isinstance(results[0], FolderResult):
            self._several = results[0].cases
            text = headlineOfFolder(results[0])
            self.say(text)
            self.log(text)
            return
        if self._forSeveral:
            self._several = results
            text = headlineOfSeveral(results, self._failed)
            self._showVolume()
            self.say(text)
            self.log(text)
            return
        (result,) = results
        text = headline(result)
        self.log(text)
        if asked == self._choice():
            self.choose(outputSegmentation=result.segmentationNode)
            self._showVolume()
            if result.centre is not None and self.host.entered:
                self.host.jumpTo(result.centre)
        elif self.volume is not result.volumeNode:
            text = _("{text} Choose {volume} to see it.").format(
                text=text, volume=result.volumeNode.GetName()
            )
        self.say(text)

    def _handOver(self, opener) -> None:
        with self.sentences():
            opener(*self._shownNodes())

    def _shownNodes(self) -> tuple:
        """The segmentation and the volume in the scene that further steps go on with."""
        result = self._several[-1] if self._several else self.result
        if isinstance(result, CaseResult):
            raise Refused(_("The results are files; load one into the scene first."))
        node = (result.sequence or result.segmentationNode) if result is not None else None
        if node is None or node.GetScene() is None:
            raise Refused(_("There is no result any more; segment again."))
        if result.sequence is not None:  # the items of a sequence lie in a scene of its own
            return sequences.played(result.sequence)
        return node, result.volumeNode

    def _showModel(self) -> None:
        """Lines about the model as well."""
        super()._showModel()
        lines = self.model.summary() if self.model else [_("There is no model.")]
        self.ui.modelInfoLabel.text = "\n".join(lines)
