"""The Explain tab: where a model reads which scale, laid over the volume, and its charts."""

from typing import ClassVar

from E2ENetSegmentationLib.engine.python.dependencies import TRAIN
from E2ENetSegmentationLib.explain import view
from E2ENetSegmentationLib.explain.maps import SHARE, FusionMaps
from E2ENetSegmentationLib.explain.nodes import (
    COMPARE,
    DOMINANT,
    describe,
    directionName,
    flowOf,
    nodeName,
    nodesOf,
    nodeTitle,
)
from E2ENetSegmentationLib.explain.plot import FlowPlot
from E2ENetSegmentationLib.explain.run import ExplainRequest, ExplainRun
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.mrml import hierarchy, segmentations
from E2ENetSegmentationLib.mrml.choices import nodeId
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.ui.panel import fillCombo
from E2ENetSegmentationLib.ui.progress import EXPLAINING
from E2ENetSegmentationLib.ui.run_panel import RunPanel


class ExplainPanel(RunPanel):
    """See the module's documentation, and `RunPanel` for the arguments."""

    purpose = TRAIN  # importance asks for gradients
    stages = EXPLAINING
    SELECTORS: ClassVar[dict] = {**RunPanel.SELECTORS, "explainedSegmentation": "runSelector"}

    def __init__(self, ui, core, host, dependencies) -> None:
        super().__init__(ui, core, host, dependencies)
        self.maps = None
        self.plot = None
        self._nodes = []  # (stage, level) of every node of the model
        self._directions = []
        self._shown = None  # the request whose maps are shown
        self._chosen = None  # (volume, segmentation) when they were last looked at
        self.refreshModels()
        self._connect()
        self.update()

    def _connect(self) -> None:
        ui = self.ui
        ui.nodeTable.connect("currentCellChanged(int,int,int,int)", self.onNodeChanged)
        ui.directionComboBox.connect("currentIndexChanged(int)", self.onDirectionChanged)
        ui.rawCheckBox.connect("toggled(bool)", self.onDirectionChanged)
        ui.thresholdSlider.connect("valueChanged(double)", self.onAdjusted)
        ui.opacitySlider.connect("valueChanged(double)", self.onAdjusted)
        ui.showButton.connect("clicked()", self.onShow)
        ui.flowButton.connect("clicked()", self.onFlow)
        ui.allFlowsButton.connect("clicked()", self.onAllFlows)
        ui.hideButton.connect("clicked()", self.onHide)

    # State

    @property
    def node(self):
        """(stage, level), or None for a model without nodes."""
        table = self.ui.nodeTable
        node = (table.currentColumn() + 1, table.currentRow())
        return node if node in self._nodes else None

    @property
    def direction(self) -> str:
        index = self.ui.directionComboBox.currentIndex
        return self._directions[index] if 0 <= index < len(self._directions) else ""

    def setParameterNode(self, parameters) -> None:
        """Follow another parameter node, also in what node was chosen."""
        if parameters is not None:
            self._selectNode(parameters.explainedNode)
        super().setParameterNode(parameters)

    def update(self, *_args) -> None:
        """Enable what can be done now; maps and words go with the volume they are of."""
        ui = self.ui
        super().update()
        self._followChoice()
        ready = self.ready and self.node is not None
        ui.showButton.enabled = ready and self.volume is not None
        ui.flowButton.enabled = self.node is not None
        ui.allFlowsButton.enabled = self.node is not None
        shown = self.maps is not None and self.maps.exists
        ui.hideButton.enabled = shown
        ui.thresholdSlider.enabled = shown
        ui.opacitySlider.enabled = shown
        ui.rawCheckBox.enabled = self.direction not in (DOMINANT, COMPARE)

    def _followChoice(self) -> None:
        """A segmentation knows its model; what was shown of another volume goes."""
        parameters = self.parameters
        if parameters is None:
            return
        run = parameters.explainedSegmentation
        before, now = self._chosen, (nodeId(self.volume), nodeId(run))
        self._chosen = now
        if before == now:
            return
        if run is not None and (before is None or before[1] != now[1]):
            self.selectModel(segmentations.origin(run)[1])
        if before is not None and before[0] != now[0]:
            if self._shown is not None and self._shown.volumeNodes[:1] != [self.volume]:
                view.hide()
                self.maps = self._shown = None
            if not self.busy:
                self.say("")

    # What the person does

    def onNodeChanged(self, *_args) -> None:
        if self.parameters is not None and self.node is not None:
            self.parameters.explainedNode = nodeName(self.node)
        self._fillDirections()
        self.update()

    def onDirectionChanged(self, *_args) -> None:
        """Another map of what is shown needs no run."""
        with self.sentences():
            if self.maps is not None and self.maps.exists and self.maps.areOf(self._request()):
                self._showMap()
        self.update()

    def onAdjusted(self, *_args) -> None:
        with self.sentences():
            if self.maps is not None and self.maps.exists:
                view.adjust(self._map(), **self._look())

    def onShow(self) -> None:
        with self.sentences():
            self.onActivated()
            request = self._request()
            request.check()
            found = FusionMaps.find(request)
            if found is None:
                self._begin([request])
                return
            self._take(found, request)

    def onFlow(self) -> None:
        self._showFlow(allNodes=False)

    def onAllFlows(self) -> None:
        self._showFlow(allNodes=True)

    def onHide(self) -> None:
        view.hide()

    def sceneAboutToClose(self) -> None:
        """The nodes go away: end the run and forget the maps."""
        super().sceneAboutToClose()
        self.maps = self.plot = self._shown = self._chosen = None
        self.update()

    # The run

    def _request(self) -> ExplainRequest:
        model, index = self._chosenModel(), self.ui.labelComboBox.currentIndex
        return ExplainRequest(
            volumeNodes=self._volumes(),
            model=model,
            roiNode=self.parameters.roi,
            device=self.device,
            node=self.node,
            label=model.labels[index - 1].name if index > 0 else "",
            runNode=self._runOf(model, self._volumes()),
        )

    def _runOf(self, model, volumeNodes):
        """The segmentation that was chosen, if model and volume are still those it came from."""
        run = self.parameters.explainedSegmentation
        inputs, name = segmentations.origin(run)
        return run if name == model.name and volumeNodes[:1] in ([], inputs[:1]) else None

    def _started(self, request: ExplainRequest) -> ExplainRun:
        run = ExplainRun(request, self.onEvent)
        run.start()
        return run

    def _title(self, request: ExplainRequest) -> str:
        return _("Explaining {model}").format(model=request.model.title)

    def _show(self, results) -> None:
        (result,) = results
        volume = result.request.volumeNodes[0]
        if volume is not self.volume:
            text = _("The maps of {volume} are in the scene; choose it and Show brings them.")
            self.say(text.format(volume=volume.GetName()))
            return
        self._take(result.maps, result.request, result.warnings)

    def _showFlow(self, allNodes: bool) -> None:
        with self.sentences():
            model, node = self._chosenModel(), self.node
            self.plot = plot = FlowPlot.make(model, flowOf(model), node)
            run = self._runOf(model, [])
            hierarchy.group(plot.nodes(), run, model.title)
            chart = plot.chart(allNodes)
            self.host.showPlot(chart)
            if self.busy:  # what is said is of the run
                return
            if chart is plot.final:
                text = _("Shown: the connections into all parts of {model}.")
            else:
                text = _("Shown: the connections of {model} into {node}.")
            self.say(text.format(node=nodeTitle(node), model=model.title))

    def _take(self, maps, request: ExplainRequest, warnings=()) -> None:
        """Show maps that are in the scene now, and say what they sum up to."""
        self.maps, self._shown = maps, request
        self._showMap()
        shares = [(name, maps.found[name].GetAttribute(SHARE)) for name in maps.directions]
        parts = [f"{directionName(name).lower()} {100 * float(s):.0f}\u00a0%" for name, s in shares]
        text = _("{about}, {node}: {shares}.").format(
            about=request.label or _("Importance"),
            node=nodeTitle(request.node),
            shares=", ".join(parts),
        )
        self.say(" ".join([text, *dict.fromkeys(warnings)]))
        self.log(text)
        self.update()

    def _showMap(self) -> None:
        volume = self._shown.volumeNodes[0]
        if volume.GetScene() is None:
            raise Refused(_("The volume was removed from the scene; choose another."))
        view.show(self._map(), volume, **self._look())

    def _map(self):
        """The volume to show, with the threshold that is set."""
        name = self.direction if self.direction in self.maps.found else DOMINANT
        if name in (DOMINANT, COMPARE):
            self.maps.setThreshold(name, self._look()["threshold"])
        if name in self.maps.directions and self.ui.rawCheckBox.checked:
            node = self.maps.raw(name)
            hierarchy.group([node], self._shown.place, self._shown.model.title)
            return node
        return self.maps.found[name]

    def _look(self) -> dict:
        """Opacity and threshold, each 0 to 1."""
        ui = self.ui
        return {
            "opacity": ui.opacitySlider.value / 100.0,
            "threshold": ui.thresholdSlider.value / 100.0,
        }

    # The model

    def _showModel(self) -> None:
        """Its nodes and labels as well."""
        super()._showModel()
        ui, model = self.ui, self.model
        self._fillNodes()
        names = [label.name for label in model.labels] if model else []
        fillCombo(ui.labelComboBox, [_("All that it reads"), *names], "")

    def _fillNodes(self) -> None:
        """The lattice: a row a level, a column a stage; what was chosen stays if it can."""
        stored = self.parameters.explainedNode if self.parameters is not None else ""
        before, cells, levels = self.node or (1, 0), {}, 1
        with self.sentences():
            if self.model:
                cells = {
                    (level, stage - 1): ("●", describe(self.model, (stage, level)))
                    for stage, level in nodesOf(self.model)
                }
                levels = max(stage + level for stage, level in nodesOf(self.model)) + 1
        self._nodes = [(column + 1, row) for row, column in cells]
        rows = [_("Level {n}").format(n=n) for n in range(levels - 1)]
        columns = [_("Stage {n}").format(n=n) for n in range(1, levels)]
        self.host.fillLattice(self.ui.nodeTable, rows, columns, cells)
        self._selectNode(stored, *map(nodeName, (before, (1, 0), (levels - 1, 0))))

    def _selectNode(self, *names) -> None:
        """Select the first of these nodes that the model has; tells nobody."""
        known = {nodeName(node): node for node in self._nodes}
        for name in names:
            if name in known:
                stage, level = known[name]
                table = self.ui.nodeTable
                blocked = table.blockSignals(True)
                table.setCurrentCell(level, stage - 1)
                table.blockSignals(blocked)
                break
        self._fillDirections()

    def _fillDirections(self) -> None:
        """The node in words; its directions, the strongest, and all of them in a colour each."""
        before = self.direction
        directions = nodesOf(self.model)[self.node] if self.node else ()
        self._directions = [DOMINANT, *directions, COMPARE]
        self.ui.nodeTextLabel.text = describe(self.model, self.node) if self.node else ""
        names = [directionName(direction) for direction in self._directions]
        fillCombo(self.ui.directionComboBox, names, directionName(before) if before else names[0])
