"""What the tabs share that run a model on volumes: model, channels, one run at a time."""

from .events import progressPercent, progressText
from .i18n import tr as _
from .panelbase import Panel, fillCombo
from .refusal import Refused

POLL_MILLISECONDS = 100


class RunPanel(Panel):
    """A tab with modelComboBox, inputSelector, channelsWidget, roiSelector, progressBar and so on.

    Subclasses start runs with `_watch` and take what came out in `_finished`.

    Args:
        dependencies: `Dependencies`; asked before the first run.
    """

    def __init__(self, ui, core, host, dependencies) -> None:
        super().__init__(ui, core, host)
        self.statusLabel, self.logText = ui.statusLabel, ui.logText
        self.dependencies = dependencies
        self.models = []
        self.parameters = None
        self._run = None
        self._seenLines = 0
        self._selectors = []
        self._timer = host.timer(POLL_MILLISECONDS, self.poll)
        ui.modelComboBox.connect("currentIndexChanged(int)", self.onModelChanged)
        ui.cancelButton.connect("clicked()", self.onCancel)

    # The model and its channels

    @property
    def model(self):
        index = self.ui.modelComboBox.currentIndex
        return self.models[index] if 0 <= index < len(self.models) else None

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

    def onModelChanged(self, *_args) -> None:
        self._showModel()
        self.update()

    def _chosenModel(self):
        if self.model is None:
            raise Refused(_("There is no model; import one in the tab Models."))
        return self.model

    def _showModel(self) -> None:
        """One selector a channel of the model, and what it does without a region."""
        ui = self.ui
        automatic = self.model is not None and self.model.hasLocator
        ui.roiSelector.noneDisplay = _("Find it automatically") if automatic else _("Whole volume")
        channels = self.model.channels if self.model else [_("Volume")]
        several = len(channels) > 1
        ui.inputLabel.text = f"{channels[0]}:" if several else _("Volume:")
        before = [selector.currentNode() for selector in self._selectors]
        self.host.clearForm(ui.channelsWidget)
        self._selectors = [
            self.host.volumeSelector(ui.channelsWidget, f"{name}:") for name in channels[1:]
        ]
        ui.channelsWidget.visible = several
        self._chooseExtra(before)

    def _volumes(self) -> list:
        """What is chosen, one a channel; None where nothing is."""
        return [
            self.ui.inputSelector.currentNode(),
            *(selector.currentNode() for selector in self._selectors),
        ]

    def _chooseExtra(self, volumeNodes) -> None:
        """Choose the further channels where nothing is chosen yet."""
        for selector, node in zip(self._selectors, volumeNodes, strict=False):
            if selector.currentNode() is None:
                selector.setCurrentNode(node)

    def setParameterNode(self, parameters) -> None:
        """Follow another parameter node; None while the scene is closing."""
        self.parameters = parameters
        if parameters is not None:
            self._chooseExtra(parameters.extraVolumes)
            self.update()

    # The run

    @property
    def running(self) -> bool:
        return self._run is not None

    def _watch(self, run) -> None:
        """Follow a run that was started."""
        self._run, self._seenLines = run, 0
        self.ui.progressBar.value = 0
        if self.parameters is not None:
            self.parameters.extraVolumes = [s.currentNode() for s in self._selectors]
        self.say(_("Starting the engine…"))
        self.update()
        self._timer.start()

    def onEvent(self, event: dict) -> None:
        """Show what the engine says."""
        if event["event"] == "progress":
            self.ui.progressBar.value = progressPercent(event)
            self.say(self._progress(progressText(event)))
        elif event["event"] == "warning":
            self.log(str(event.get("message", "")))

    def _progress(self, text: str) -> str:
        """The line about the progress; a subclass may say more."""
        return text

    def poll(self) -> None:
        """Called by the timer while a run goes on."""
        if not self.running:
            self._timer.stop()
            return
        run, goesOn = self._run, False
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
        self._run = None
        if run.result is not None:
            with self.sentences():
                self._finished(run)
        if not self.running:
            self._end()

    def _finished(self, run) -> None:
        """Take what came out of a run; another one may be started."""
        raise NotImplementedError

    def _end(self, text: str = "") -> None:
        """Nothing runs any more."""
        self._timer.stop()
        self._run = None
        if text:
            self.say(text)
            self.log(text)
        self.update()

    def onCancel(self) -> None:
        if self.running:
            self._run.cancel()
            self._end(_("Cancelled."))

    def sceneAboutToClose(self) -> None:
        """The nodes go away: end the run."""
        if self.running:
            self._run.cancel()
            self._end(_("Cancelled, because the scene was closed."))

    def cleanup(self) -> None:
        """Slicer exits or the module is reloaded."""
        self._timer.stop()
        if self.running:
            self._run.cancel()
            self._run = None
