"""The Fine-tune tab: cases, a start, effort; then watch, pause, resume, stop."""

import shutil
import time
from pathlib import Path

from E2ENetSegmentationLib.engine import devices
from E2ENetSegmentationLib.engine.events import durationText
from E2ENetSegmentationLib.engine.python.dependencies import TRAIN
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.training import consequences
from E2ENetSegmentationLib.training.cases_panel import CasesPanel
from E2ENetSegmentationLib.training.data import ownFolds
from E2ENetSegmentationLib.training.figures import figureRows, measuredOn, number
from E2ENetSegmentationLib.training.networks import choices
from E2ENetSegmentationLib.training.parameters import (
    QUICK,
    THOROUGH,
    TrainParameters,
    effortDefaults,
)
from E2ENetSegmentationLib.training.plots import TrainingPlot
from E2ENetSegmentationLib.training.preview_panel import PreviewPanel
from E2ENetSegmentationLib.training.run import FINISHED, Training, unfinished
from E2ENetSegmentationLib.ui.panel import breakable, fillCombo
from E2ENetSegmentationLib.ui.watch_panel import WatchPanel

SCENE, FOLDER = 0, 1
FIRST = "*"  # no model was ever chosen to start from: the first one
ENTRIES = ("epochsSpinBox", "iterationsSpinBox", "rateSpinBox", "sparsitySpinBox", "evolveSpinBox")


class FineTunePanel(WatchPanel):
    """See the module's documentation.

    Args:
        dependencies: `Dependencies`; asked before the first training.
        changed: Called with the name of a new model.
    """

    def __init__(self, ui, core, host, dependencies, changed) -> None:
        super().__init__(ui, core, host)
        self.statusLabel, self.logText = ui.trainStatusLabel, ui.trainLogText
        self.progressBar = ui.trainProgressBar
        self.dependencies, self.changed = dependencies, changed
        self.collected = CasesPanel(ui, core, host, self._showConsequences)
        self.preview = PreviewPanel(ui, core, host)
        self.training = None
        self.plot = None
        self._unfinished = []
        self._fillingForm = False
        self._devices, self._networks = [], []
        self._showDevices()
        devices.whenKnown(host, self._showDevices)
        fillCombo(
            ui.sourceComboBox,
            [_("Segmentations of the scene"), _("A dataset folder (nnU-Net)")],
        )
        fillCombo(ui.effortComboBox, [_("Quick"), _("Thorough"), _("Custom")])
        fillCombo(ui.modalityComboBox, ["MR", "CT"])
        self._fillFolds()
        self.refreshModels()
        self._connect()
        self._fillEffort()
        self.findUnfinished()
        self.update()

    def _showDevices(self) -> None:
        """List the devices again; a graphics card may be found late."""
        chosen = self.ui.trainDeviceComboBox.currentText
        self._devices = devices.devices()
        fillCombo(self.ui.trainDeviceComboBox, [name for name, _value in self._devices], chosen)

    def _connect(self) -> None:
        ui = self.ui
        ui.baseComboBox.connect("currentIndexChanged(int)", self.onBaseChanged)
        ui.sourceComboBox.connect("currentIndexChanged(int)", self.update)
        ui.modalityComboBox.connect("currentIndexChanged(int)", lambda _index: self._tellBase())
        ui.effortComboBox.connect("currentIndexChanged(int)", self.onEffortChanged)
        for name in ENTRIES[:3]:
            kind = "valueChanged(double)" if name == "rateSpinBox" else "valueChanged(int)"
            getattr(ui, name).connect(kind, self.onEntryChanged)
        ui.nameEdit.connect("textChanged(QString)", self.update)
        ui.datasetPathEdit.connect("currentPathChanged(QString)", self.onFolderChanged)
        ui.foldComboBox.connect("currentIndexChanged(int)", self.update)
        ui.startButton.connect("clicked()", self.onStart)
        ui.pauseButton.connect("clicked()", self.onPause)
        ui.resumeButton.connect("clicked()", self.onResume)
        ui.stopButton.connect("clicked()", self.onStop)
        ui.plotButton.connect("clicked()", self.onPlot)
        ui.resumeUnfinishedButton.connect("clicked()", self.onResumeUnfinished)
        ui.discardUnfinishedButton.connect("clicked()", self.onDiscardUnfinished)

    # State

    @property
    def base(self):
        """The model to start from; None for scratch."""
        index = self.ui.baseComboBox.currentIndex - 1
        return self.models[index] if 0 <= index < len(self.models) else None

    @property
    def channels(self) -> list:
        if self.base is not None:
            return self.base.channels
        return ["CT" if self.ui.modalityComboBox.currentIndex == 1 else "MRI"]

    def refreshModels(self) -> None:
        """List the models again and keep the chosen one."""
        before = self.base
        current = before.name if before else self.host.setting("base", FIRST)
        self.fillModels(self.ui.baseComboBox, current, _("Nothing (from scratch)"))
        if current == FIRST and self.models:
            self.ui.baseComboBox.currentIndex = 1
        if before is not None and self.base is None:
            self.onBaseChanged()
            text = _("{title} is no longer there; a new training begins from scratch.")
            self.say(text.format(title=before.title))
        else:
            self._tellBase()

    def setParameterNode(self, parameters) -> None:
        """Follow another parameter node; None while the scene is closing."""
        self.collected.setParameterNode(parameters)
        self.update()

    def update(self, *_args) -> None:
        """Enable what can be done now."""
        ui, running, busy = self.ui, self.running, self.busy
        rests = self.training is not None and self.training.rests
        fromScene = ui.sourceComboBox.currentIndex == SCENE
        ui.casesButton.visible = fromScene
        ui.folderButton.visible = not fromScene
        ui.modalityComboBox.enabled = self.base is None
        ui.networkComboBox.enabled = len(self._networks) > 1
        ui.sparsitySpinBox.enabled = self.base is None
        ui.startButton.enabled = not busy
        ui.pauseButton.enabled = running
        ui.resumeButton.enabled = rests and not busy
        ui.stopButton.enabled = running or (rests and not busy)
        ui.trainProgressBar.visible = running
        ui.unfinishedWidget.visible = bool(self._unfinished) and not busy
        self.preview.setTraining(self.training)
        self._showConsequences()

    def _showConsequences(self) -> None:
        """Say at once what the choices mean for the new model."""
        ui, collected = self.ui, self.collected
        if ui.sourceComboBox.currentIndex == SCENE:
            labels = collected.labels
            names = [case.volumeNodes[0].GetName() for case in collected.cases if case.heldOut]
            split = names, len(names), len(collected.cases) - len(names)
        else:
            folder = ui.datasetPathEdit.currentPath
            labels = consequences.labelsOfFolder(folder)
            split = consequences.heldOutOfFolder(folder, ui.foldComboBox.currentIndex - 1)
        said = [consequences.aboutRegion(self.base, labels), consequences.aboutHeldOut(*split)]
        ui.consequencesLabel.text = breakable(" ".join(filter(None, said)))
        ui.consequencesLabel.visible = bool(ui.consequencesLabel.text)

    # Cases

    def onBaseChanged(self, *_args) -> None:
        self.host.setSetting("base", self.base.name if self.base else "")
        self._tellBase()
        self._fillEffort()
        self.update()

    def _tellBase(self) -> None:
        base, combo = self.base, self.ui.networkComboBox
        with self.sentences():  # the module has to open, whatever was chosen
            self._networks = choices(base)
            fillCombo(combo, [choice.text for choice in self._networks], combo.currentText)
            labels, sides = (base.labels, base.sides) if base else ([], [])
            self.collected.setBase(self.channels, labels, sides)

    def onFolderChanged(self, *_args) -> None:
        self._fillFolds()
        self.update()

    def _fillFolds(self) -> None:
        """What can be held out of a dataset folder: a fold of its own split, or a fifth."""
        own = ownFolds(self.ui.datasetPathEdit.currentPath or ".")
        if own:
            folds = [_("Fold {n} of its own split").format(n=n) for n in range(own)]
        else:
            folds = [_("Fifth {n}").format(n=n) for n in range(1, 6)]
        fillCombo(self.ui.foldComboBox, [_("Nothing (all cases train)"), *folds])

    @property
    def _holdsFoldOut(self) -> bool:
        return self.ui.foldComboBox.currentIndex > 0

    # Effort

    def onEffortChanged(self, *_args) -> None:
        self._fillEffort()
        self.update()

    def onEntryChanged(self, *_args) -> None:
        """Whoever changes a number has left "quick" and "thorough"."""
        if not self._fillingForm:
            self.ui.effortComboBox.currentIndex = 2

    def _fillEffort(self) -> None:
        index = self.ui.effortComboBox.currentIndex
        if index not in (0, 1):
            return
        defaults = effortDefaults((QUICK, THOROUGH)[index], self.base is None)
        self._fillingForm = True
        self.ui.epochsSpinBox.setValue(defaults["epochs"])
        self.ui.iterationsSpinBox.setValue(defaults["iterations"])
        self.ui.rateSpinBox.setValue(defaults["learningRate"])
        self._fillingForm = False

    # The training

    def onStart(self) -> None:
        with self.sentences():
            self._beginWith(self._prepared)

    def _beginWith(self, prepare) -> None:
        """Install what is missing, then start what `prepare` returns; once, however often asked."""
        if self.busy:
            return
        with self.starting():
            self.dependencies.ensure(TRAIN)
            self._begin(prepare())

    def onPause(self) -> None:
        with self.sentences():
            self.say(_("Pausing after the step under way…"))
            self.training.pause()

    def onResume(self) -> None:
        with self.sentences():
            self._beginWith(lambda: self.training)

    def onStop(self) -> None:
        with self.sentences():
            question = _("End the training for good and delete its checkpoint?")
            if self.training is None or not self.host.confirm(question):
                return
            self.training.discard()
            self.training = self.plot = None
            self._showFigures()
            self._end(_("Stopped."))

    def onPlot(self) -> None:
        with self.sentences():
            if self.plot is None or self.training is None or not self.training.rows:
                raise Refused(_("There is no finished epoch yet."))
            self.plot.update(self.training.rows)
            self.host.showPlot(self.plot.chart)

    def onResumeUnfinished(self) -> None:
        with self.sentences():
            chosen = self._unfinished[max(0, self.ui.unfinishedComboBox.currentIndex)]
            self._beginWith(lambda: chosen)

    def onDiscardUnfinished(self) -> None:
        with self.sentences():
            training = self._unfinished[max(0, self.ui.unfinishedComboBox.currentIndex)]
            question = _("Delete the unfinished training {name}?").format(name=training.title)
            if self.host.confirm(question):
                training.discard()
                self.findUnfinished()
        self.update()

    def findUnfinished(self) -> None:
        """Offer trainings that an earlier session left."""
        self._unfinished = [
            t for t in unfinished() if self.training is None or t.folder != self.training.folder
        ]
        fillCombo(self.ui.unfinishedComboBox, [t.title for t in self._unfinished])
        count = len(self._unfinished)
        if count == 1:
            self.ui.unfinishedLabel.text = _("A training was not finished. Go on with it?")
        else:
            self.ui.unfinishedLabel.text = _("{n} trainings were not finished.").format(n=count)

    def _prepared(self) -> Training:
        """Write what is needed and return the training that is to start."""
        ui = self.ui
        name = ui.nameEdit.text.strip()
        if not name:
            raise Refused(_("Give the new model a name."))
        fromScene = ui.sourceComboBox.currentIndex == SCENE
        if fromScene and not self.collected.cases:
            raise Refused(_("Add at least one pair of volume and segmentation."))
        dataset = ui.datasetPathEdit.currentPath
        if not fromScene and not (Path(dataset) / "dataset.json").is_file():
            raise Refused(_("Choose a dataset folder, one with a dataset.json."))
        if fromScene:
            fold = "0" if self.collected.heldOut else "all"  # the split that is written with them
        else:
            fold = str(ui.foldComboBox.currentIndex - 1) if self._holdsFoldOut else "all"
        chosen = self._networks[max(0, ui.networkComboBox.currentIndex)]
        training = Training.create(
            name,
            TrainParameters(
                dataset=dataset or "-",
                output="-",
                start=str(self.base.path) if self.base else "",
                network=chosen.network,
                transfer=chosen.transfer,
                epochs=ui.epochsSpinBox.value,
                iterations=ui.iterationsSpinBox.value,
                learningRate=ui.rateSpinBox.value,
                sparsity=ui.sparsitySpinBox.value,
                evolveEvery=ui.evolveSpinBox.value,
                fold=fold,
                device=self._devices[max(0, ui.trainDeviceComboBox.currentIndex)][1],
                extra=self._extra(),
            ),
        )
        if fromScene:
            self.say(_("Writing the training cases…"))
            shutil.rmtree(training.folder, ignore_errors=True)  # of a start that failed
            training.useDataset(self.collected.write(training.folder / "dataset", self.base))
        return training

    def _extra(self) -> tuple:
        """Further engine arguments of an expert: the setting trainArguments."""
        return tuple(self.host.setting("trainArguments").split())

    def _begin(self, training) -> None:
        training.start(self.onEvent)
        if self.training is not training:
            self.plot = None
        self.training = training
        self.plot = self.plot or TrainingPlot(training.title, training.holdsOut)
        self._started, self._startEpochs = time.monotonic(), len(training.rows)
        self.log(_("Training {name}").format(name=training.title))
        self.findUnfinished()
        self._showFigures()
        self._watch(training)

    def onEvent(self, event: dict) -> None:
        """Show what the engine says."""
        super().onEvent(event)
        if event["event"] == "metric" and event.get("name") == "epoch":
            self._showFigures()
            loss = event.get("loss")
            self.log(
                _("Epoch {n}: loss {loss}, Dice {dice}").format(
                    n=event["epoch"], loss=number(loss), dice=number(event.get("mean_dice"))
                )
            )
            if self.plot.exists or self._startEpochs + 1 == len(self.training.rows):
                self.plot.update(self.training.rows)

    def poll(self) -> None:
        """With the first checkpoint comes the preview."""
        super().poll()
        if self.running:
            self.preview.update()

    def _finished(self, training) -> None:
        """The new model joins the list, the training's data goes; a paused one stays."""
        if training.state != FINISHED:
            self.say(_("Paused; Resume goes on from here, also after Slicer was closed."))
            return
        asked = self.core.store.open(training.bundle).title
        model = self.core.store.importTrained(training.bundle)
        seconds = time.monotonic() - self._started
        text = _("Done in {time}: {title} is in the list of the tab Segment.").format(
            time=durationText(seconds), title=model.title
        )
        if model.title != asked:
            text += " " + _("Meanwhile another model has the name {title}.").format(title=asked)
        if training.figures:
            figures = ", ".join(f"{k} {number(v)}" for k, v in training.figures.items())
            text += " " + _("Dice of the held-out cases: {figures}.").format(figures=figures)
        self._showFigures()
        training.discard()
        self.say(text)
        self.log(text)
        self.changed(model.name)

    def _showFigures(self) -> None:
        rows = figureRows(self.training) if self.training else []
        for widget in (self.ui.figuresLabel, self.ui.figuresTable, self.ui.plotButton):
            widget.visible = bool(rows)
        if rows:
            self.ui.figuresLabel.text = measuredOn(self.training)
            self.host.fillTable(self.ui.figuresTable, rows)

    # The scene and Slicer

    def sceneAboutToClose(self) -> None:
        """A training works on files and goes on; the table of cases empties, a preview ends."""
        self.collected.sceneAboutToClose()
        self.preview.sceneAboutToClose()

    def cleanup(self) -> None:
        """Slicer exits: end the engine; the checkpoint waits for the next start."""
        self.preview.cleanup()
        super().cleanup()
