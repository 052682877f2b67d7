"""Training cases of the scene: the table of pairs and the labels their segments teach."""

from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.training.data import (
    TrainingCase,
    caseNames,
    pairsInScene,
    proposedLabel,
    segmentNames,
    writeDataset,
)
from E2ENetSegmentationLib.ui.panel import Panel

HOLD_OUT_COLUMN, LABEL_COLUMN, KIND_COLUMN = 2, 1, 2


class CasesPanel(Panel):
    """The part of the Fine-tune tab where cases are collected.

    Args:
        changed: Called when cases, what is held out, or a label changed.

    Attributes:
        cases: What was collected.
        mapping: Segment name -> label name; "" leaves a segment out.
    """

    def __init__(self, ui, core, host, changed) -> None:
        super().__init__(ui, core, host)
        self.changed = changed
        self.statusLabel, self.logText = ui.trainStatusLabel, ui.trainLogText
        self.cases = []
        self.mapping = {}
        self.channels = []
        self.baseLabels = []
        self.sides = []
        self.parameters = None
        self._selectors = []
        ui.addCaseButton.connect("clicked()", self.onAddCase)
        ui.addAllCasesButton.connect("clicked()", self.onAddAll)
        ui.removeCaseButton.connect("clicked()", self.onRemoveCase)
        ui.casesTable.connect("itemChanged(QTableWidgetItem*)", self.onCaseChecked)
        ui.mappingTable.connect("itemChanged(QTableWidgetItem*)", self.onMappingChanged)

    @property
    def heldOut(self) -> int:
        """Number of cases that are kept to measure on."""
        return sum(case.heldOut for case in self.cases)

    @property
    def labels(self) -> list:
        """Names of the labels that the segments of the cases teach."""
        taught = [self.mapping.get(name, "") for name in segmentNames(self.cases)]
        return [label for label in dict.fromkeys(taught) if label]

    def setBase(self, channels, baseLabels, sides) -> None:
        """Another model to start from: its channels, labels and sides (`proposedLabel`)."""
        base = list(channels), baseLabels, list(sides)
        if base == (self.channels, self.baseLabels, self.sides):
            return
        if base[1:] != (self.baseLabels, self.sides):
            self.mapping = {}
        self.channels, self.baseLabels, self.sides = base
        self._showChannels()
        self._casesChanged()

    def setParameterNode(self, parameters) -> None:
        """Follow another parameter node; None while the scene is closing."""
        self.parameters = parameters
        if parameters is None:
            return
        self.mapping = dict(parameters.trainingLabels)
        self.cases = self._casesOf(parameters)
        self._showCases()

    def sceneAboutToClose(self) -> None:
        self.cases, self.mapping = [], {}
        self._showCases()

    def write(self, folder, base) -> dict:
        """Write the cases as a dataset; returns case name -> its volume nodes.

        Raises:
            Refused: A case or the mapping cannot be used.
        """
        names = segmentNames(self.cases)
        writeDataset(
            folder,
            self.cases,
            {name: self.mapping.get(name, "") for name in names},
            self.channels,
            base,
            between=self.host.processEvents,
        )
        names = caseNames(self.cases)
        return {n: case.volumeNodes for n, case in zip(names, self.cases, strict=True)}

    def onAddCase(self) -> None:
        with self.sentences():
            ui = self.ui
            nodes = [
                ui.caseVolumeSelector.currentNode(),
                *(selector.currentNode() for selector in self._selectors),
            ]
            self._add(TrainingCase(nodes, ui.caseSegmentationSelector.currentNode()))
            self.say("")
        self._casesChanged()

    def onAddAll(self) -> None:
        with self.sentences():
            if len(self.channels) > 1:
                raise Refused(_("The model has several channels; add the cases one by one."))
            import slicer

            known = {case.segmentationNode for case in self.cases}
            pairs = [p for p in pairsInScene(slicer.mrmlScene) if p[1] not in known]
            added, problems = 0, []
            for volume, segmentation in pairs:
                try:
                    self._add(TrainingCase([volume], segmentation))
                    added += 1
                except Refused as refusal:
                    problems.append(str(refusal))
            self.say(" ".join([_("Cases added: {count}.").format(count=added), *problems]))
        self._casesChanged()

    def _add(self, case: TrainingCase) -> None:
        case.check(self.channels)
        if any(case.segmentationNode is other.segmentationNode for other in self.cases):
            raise Refused(
                _("{name} is already in the table.").format(name=case.segmentationNode.GetName())
            )
        self.cases.append(case)

    def onRemoveCase(self) -> None:
        row = self.ui.casesTable.currentRow()
        if 0 <= row < len(self.cases):
            del self.cases[row]
            self._casesChanged()

    def onCaseChecked(self, *_args) -> None:
        for row, case in enumerate(self.cases):
            case.heldOut = self.host.tableChecked(self.ui.casesTable, row, HOLD_OUT_COLUMN)
        self._remember()

    def onMappingChanged(self, *_args) -> None:
        for row in range(self.ui.mappingTable.rowCount):
            segment = self.host.tableText(self.ui.mappingTable, row, 0)
            label = self.host.tableText(self.ui.mappingTable, row, LABEL_COLUMN)
            self.mapping[segment] = label.strip()
            self.host.setTableText(
                self.ui.mappingTable, row, KIND_COLUMN, self._kind(label.strip())
            )
        self._remember()

    def _casesChanged(self) -> None:
        self._showCases()
        self._remember()

    def _showCases(self) -> None:
        rows = []
        for case in self.cases:
            try:
                case.check(self.channels)
                problem = _("fits")
            except Refused as refusal:
                problem = _("does not fit")
                self.say(str(refusal))
            names = ", ".join(node.GetName() for node in case.volumeNodes if node)
            rows.append((names, case.segmentationNode.GetName(), case.heldOut, problem))
        self.host.fillTable(self.ui.casesTable, rows, checkable=(HOLD_OUT_COLUMN,), stretch=(0, 1))
        labels = [label.name for label in self.baseLabels]
        mapping = []
        for name in segmentNames(self.cases):
            label = self.mapping.setdefault(name, proposedLabel(name, self.baseLabels, self.sides))
            mapping.append((name, label, self._kind(label)))
        choices = dict.fromkeys([*labels, *(row[0] for row in mapping), ""])
        self.host.fillTable(
            self.ui.mappingTable,
            mapping,
            editable=(LABEL_COLUMN,),
            stretch=(0, 1),
            choices={LABEL_COLUMN: list(choices)},
        )

    def _kind(self, label: str) -> str:
        """Whether the base model knows a label."""
        if not label:
            return _("left out")
        known = label in [known.name for known in self.baseLabels]
        return _("of the model") if known else _("new")

    def _showChannels(self) -> None:
        """A volume selector for each further channel of the model."""
        ui, several = self.ui, len(self.channels) > 1
        ui.caseVolumeLabel.text = f"{self.channels[0]}:" if several else _("Volume:")
        self.host.clearForm(ui.caseChannelsWidget)
        self._selectors = [
            self.host.volumeSelector(ui.caseChannelsWidget, f"{name}:", self.update)
            for name in self.channels[1:]
        ]
        ui.caseChannelsWidget.visible = several

    def _remember(self) -> None:
        """Keep the cases with the scene."""
        self.changed()
        if self.parameters is None:
            return
        self.parameters.trainingVolumes = [n for case in self.cases for n in case.volumeNodes]
        self.parameters.trainingSegmentations = [case.segmentationNode for case in self.cases]
        self.parameters.trainingHeldOut = [case.heldOut for case in self.cases]
        self.parameters.trainingLabels = dict(self.mapping)

    def _casesOf(self, parameters) -> list:
        nodes, segmentations = list(parameters.trainingVolumes), parameters.trainingSegmentations
        heldOut = list(parameters.trainingHeldOut)
        if (
            not segmentations
            or len(nodes) % len(segmentations)
            or len(heldOut) < len(segmentations)
        ):
            return []
        each = len(nodes) // len(segmentations)
        cases = [
            TrainingCase(nodes[i * each : (i + 1) * each], segmentation, heldOut[i])
            for i, segmentation in enumerate(segmentations)
        ]
        return [case for case in cases if case.exists()]
