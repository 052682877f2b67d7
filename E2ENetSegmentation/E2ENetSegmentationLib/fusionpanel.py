"""The Fusion tab: where and at which scale a model took its evidence, as overlay and plot."""

from . import devices, fusionview
from .dependencies import SEGMENT
from .events import progressPercent, progressText
from .fusionplot import FlowPlot, directionName
from .fusionrun import FusionRequest, FusionRun, directionsOf, levelsOf, nodesOf
from .i18n import tr as _
from .panelbase import Panel, fillCombo
from .refusal import Refused

POLL_MILLISECONDS = 100


class FusionPanel(Panel):
    """See the module's documentation.

    Args:
        dependencies: `Dependencies`; asked before the first run.
    """

    def __init__(self, ui, core, host, dependencies) -> None:
        super().__init__(ui, core, host)
        self.statusLabel, self.logText = ui.statusLabel, ui.logText
        self.dependencies = dependencies
        self.models = []
        self.maps = None
        self.plot = None
        self._run = None
        self._seenLines = 0
        self._selectors = []
        self._directions = []
        self._shownVolume = None
        self._timer = host.timer(POLL_MILLISECONDS, self.poll)
        self.refreshModels()
        self._connect()
        self.update()

    def _connect(self) -> None:
        ui = self.ui
        ui.runSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onRunChanged)
        ui.modelComboBox.connect("currentIndexChanged(int)", self.onModelChanged)
        ui.stageComboBox.connect("currentIndexChanged(int)", self.onStageChanged)
        ui.levelComboBox.connect("currentIndexChanged(int)", self.onLevelChanged)
        ui.directionComboBox.connect("currentIndexChanged(int)", self.onDirectionChanged)
        ui.inputSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.update)
        ui.thresholdSlider.connect("valueChanged(double)", self.onAdjusted)
        ui.opacitySlider.connect("valueChanged(double)", self.onAdjusted)
        ui.showButton.connect("clicked()", self.onShow)
        ui.flowButton.connect("clicked()", self.onFlow)
        ui.hideButton.connect("clicked()", self.onHide)
        ui.cancelButton.connect("clicked()", self.onCancel)

    # State

    @property
    def running(self) -> bool:
        return self._run is not None

    @property
    def model(self):
        index = self.ui.modelComboBox.currentIndex
        return self.models[index] if 0 <= index < len(self.models) else None

    @property
    def node(self):
        """(stage, level), or None for a model without nodes."""
        stage, level = self.ui.stageComboBox.currentIndex, self.ui.levelComboBox.currentIndex
        return (stage + 1, level) if stage >= 0 and level >= 0 else None

    @property
    def direction(self) -> str:
        index = self.ui.directionComboBox.currentIndex
        return self._directions[index] if 0 <= index < len(self._directions) else ""

    def setParameterNode(self, parameters) -> None:
        """Follow another parameter node; None while the scene is closing."""
        if parameters is not None:
            self.update()

    def refreshModels(self, select: str = "") -> None:
        """List the models again, and keep or select one by name."""
        current = select or (self.model.name if self.model else self.host.setting("model"))
        try:
            self.models = self.core.store.models()
        except Refused as refusal:
            self.models = []
            self.say(str(refusal))
        names = [model.name for model in self.models]
        titles = [model.title for model in self.models]
        wanted = titles[names.index(current)] if current in names else ""
        fillCombo(self.ui.modelComboBox, titles, wanted)
        self._showModel()

    def selectModel(self, name: str) -> None:
        names = [model.name for model in self.models]
        if name in names:
            self.ui.modelComboBox.currentIndex = names.index(name)

    def update(self, *_args) -> None:
        """Enable what can be done now."""
        ui = self.ui
        ready = self.model is not None and not self.running and self.node is not None
        ui.showButton.enabled = ready and ui.inputSelector.currentNode() is not None
        ui.flowButton.enabled = ready
        ui.cancelButton.enabled = self.running
        ui.progressBar.visible = self.running
        shown = self.maps is not None and self.maps.exists
        ui.hideButton.enabled = shown
        ui.thresholdSlider.enabled = shown and self.direction != fusionview.DOMINANT
        ui.opacitySlider.enabled = shown

    # What the person does

    def onRunChanged(self, *_args) -> None:
        """A segmentation knows its volume and its model."""
        with self.sentences():
            volume, name = fusionview.runOf(self.ui.runSelector.currentNode())
            if volume is not None:
                self.ui.inputSelector.setCurrentNode(volume)
            if name:
                self.selectModel(name)
        self.update()

    def onModelChanged(self, *_args) -> None:
        self._showModel()
        self.update()

    def onStageChanged(self, *_args) -> None:
        self._fillLevels()
        self.update()

    def onLevelChanged(self, *_args) -> None:
        self._fillDirections()
        self.update()

    def onDirectionChanged(self, *_args) -> None:
        """Another map of what is shown needs no run."""
        with self.sentences():
            if self.maps is not None and self.maps.exists and self._isCurrent():
                self._showMap()
        self.update()

    def onAdjusted(self, *_args) -> None:
        if self.maps is not None and self.maps.exists:
            for node in self.maps.nodes():
                fusionview.adjust(node, **self._look())

    def onShow(self) -> None:
        with self.sentences():
            request = self._request()
            found = fusionview.FusionMaps.find(request)
            if found is None:
                self._begin(request)
                return
            self._take(found, request)

    def onFlow(self) -> None:
        with self.sentences():
            request = self._request(withImage=False)
            plot = FlowPlot.find(request.model, request.node)
            if plot is None:
                self._begin(request)
                return
            self.plot = plot
            self.host.showPlot(plot.chart)
            self.say(_("The flow of {model} is shown.").format(model=request.model.title))

    def onHide(self) -> None:
        fusionview.hide()

    def onCancel(self) -> None:
        if self.running:
            self._run.cancel()
            self._end(_("Cancelled."))

    def sceneAboutToClose(self) -> None:
        """The nodes go away: end the run and forget the maps."""
        if self.running:
            self._run.cancel()
            self._end(_("Cancelled, because the scene was closed."))
        self.maps = self.plot = self._shownVolume = None
        self.update()

    def cleanup(self) -> None:
        """Slicer exits or the module is reloaded."""
        self._timer.stop()
        if self.running:
            self._run.cancel()
            self._run = None

    # The run

    def _request(self, withImage: bool = True) -> FusionRequest:
        if self.model is None:
            raise Refused(_("There is no model; import one in the tab Models."))
        ui = self.ui
        index = ui.labelComboBox.currentIndex
        nodes = [ui.inputSelector.currentNode(), *(s.currentNode() for s in self._selectors)]
        return FusionRequest(
            model=self.model,
            volumeNodes=nodes if withImage else [],
            node=self.node,
            label=self.model.labels[index - 1].name if index > 0 and withImage else "",
            runNode=ui.runSelector.currentNode() if withImage else None,
            roiNode=ui.roiSelector.currentNode() if withImage else None,
            device=self.host.setting("device", "auto") or "auto",
        )

    def _isCurrent(self) -> bool:
        """Whether the maps that are shown are of what is chosen."""
        return self.maps.nodes()[0].GetAttribute(fusionview.MAP) == self._request().key()

    def _begin(self, request: FusionRequest) -> None:
        if self.running:
            return
        self.dependencies.ensure(SEGMENT)
        known = [value for _name, value in devices.devices()]
        request.device = request.device if request.device in known else "auto"
        self.ui.progressBar.value = 0
        run = FusionRun(request, self.onEvent)
        run.start()
        self._run, self._seenLines = run, 0
        self.log(_("Explaining {model}").format(model=request.model.title))
        self.say(_("Starting the engine…"))
        self.update()
        self._timer.start()

    def onEvent(self, event: dict) -> None:
        """Show what the engine says."""
        if event["event"] == "progress":
            self.ui.progressBar.value = progressPercent(event)
            self.say(progressText(event))
        elif event["event"] == "warning":
            self.log(str(event.get("message", "")))

    def poll(self) -> None:
        """Called by the timer while a run goes on."""
        if not self.running:
            self._timer.stop()
            return
        run = self._run
        goesOn = False
        with self.sentences():
            try:
                goesOn = run.poll()
            finally:
                for line in run.lines[self._seenLines :]:
                    self.log(line)
                self._seenLines = len(run.lines)
        if goesOn:
            return
        run.cancel()
        self._end()
        if run.result is None:
            return
        with self.sentences():
            self.plot = run.result.plot
            if run.result.maps is None:
                self.host.showPlot(self.plot.chart)
                text = _("The flow of {model} is shown.").format(model=run.request.model.title)
                self.say(" ".join([text, *dict.fromkeys(run.result.warnings)]))
            else:
                self._take(run.result.maps, run.request, run.result.warnings)

    def _end(self, text: str = "") -> None:
        self._timer.stop()
        self._run = None
        if text:
            self.say(text)
            self.log(text)
        self.update()

    def _take(self, maps, request: FusionRequest, warnings=()) -> None:
        """Show maps that are in the scene now, and say what they sum up to."""
        self.maps, self._shownVolume = maps, request.volumeNodes[0]
        self._showMap()
        shares = [
            (name, node.GetAttribute("E2ENet.Share"))
            for name, node in maps.found.items()
            if node.GetAttribute("E2ENet.Share")
        ]
        parts = [f"{directionName(name).lower()} {100 * float(s):.0f} %" for name, s in shares]
        text = _("Node {node}, {about}: {shares}.").format(
            node=request.nodeName,
            about=request.label or _("importance"),
            shares=", ".join(parts),
        )
        self.say(" ".join([text, *dict.fromkeys(warnings)]))
        self.log(text)
        self.update()

    def _showMap(self) -> None:
        volume = self._shownVolume
        if volume is None or volume.GetScene() is None:
            raise Refused(_("The volume was removed from the scene; choose another."))
        node = self.maps.found.get(self.direction) or self.maps.found[fusionview.DOMINANT]
        fusionview.show(node, volume, **self._look())

    def _look(self) -> dict:
        """Opacity and threshold, each 0 to 1."""
        ui = self.ui
        return {
            "opacity": ui.opacitySlider.value / 100.0,
            "threshold": ui.thresholdSlider.value / 100.0,
        }

    # The model

    def _showModel(self) -> None:
        """Its nodes, labels and channels."""
        ui, model = self.ui, self.model
        levels = 0
        with self.sentences():
            levels = levelsOf(model) if model else 0
        before = ui.stageComboBox.currentText
        stages = sorted({str(stage) for stage, _level in nodesOf(levels)}, key=int)
        fillCombo(ui.stageComboBox, stages, before)
        self._fillLevels()
        names = [label.name for label in model.labels] if model else []
        fillCombo(ui.labelComboBox, [_("Importance (no label)"), *names], "")
        channels = model.channels if model else []
        ui.inputLabel.text = f"{channels[0]}:" if len(channels) > 1 else _("Volume:")
        self.host.clearForm(ui.channelsWidget)
        self._selectors = [
            self.host.volumeSelector(ui.channelsWidget, f"{name}:") for name in channels[1:]
        ]
        ui.channelsWidget.visible = len(channels) > 1

    def _fillLevels(self) -> None:
        ui = self.ui
        before, levels = ui.levelComboBox.currentText, []
        with self.sentences():
            if self.model and ui.stageComboBox.currentIndex >= 0:
                levels = list(range(levelsOf(self.model) - 1 - ui.stageComboBox.currentIndex))
        fillCombo(ui.levelComboBox, [str(level) for level in levels], before)
        self._fillDirections()

    def _fillDirections(self) -> None:
        """The directions of the node, the dominant one, and all of them in a colour each."""
        before = self.direction
        directions = directionsOf(self.node[1]) if self.node else ()
        self._directions = [fusionview.DOMINANT, *directions, fusionview.COMPARE]
        names = [directionName(direction) for direction in self._directions]
        fillCombo(self.ui.directionComboBox, names, directionName(before) if before else names[0])
