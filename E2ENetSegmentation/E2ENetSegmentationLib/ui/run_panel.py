"""What the tabs share that run a model on volumes: the model and its channels."""

from E2ENetSegmentationLib.engine import devices
from E2ENetSegmentationLib.engine.dependencies import SEGMENT
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.ui.watch_panel import WatchPanel


class RunPanel(WatchPanel):
    """A tab with modelComboBox, inputSelector, channelsWidget, roiSelector, progressBar and so on.

    Args:
        dependencies: `Dependencies`; asked before the first run.
    """

    purpose = SEGMENT  # which packages a run needs

    def __init__(self, ui, core, host, dependencies) -> None:
        super().__init__(ui, core, host)
        self.statusLabel, self.logText = ui.statusLabel, ui.logText
        self.progressBar = ui.progressBar
        self.dependencies = dependencies
        self.parameters = None
        self._selectors = []
        self._requests = []  # that wait for their turn
        self._done = []  # results of those that had it
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
        self.fillModels(self.ui.modelComboBox, current)
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
    def _devices(self) -> list:
        return devices.devices()

    @property
    def device(self) -> str:
        """What was chosen in the tab Segment, if this computer (still) has it."""
        chosen = self.host.setting("device", "auto")
        return chosen if chosen in [value for _name, value in self._devices] else "auto"

    @property
    def ready(self) -> bool:
        return self.model is not None and not self.running

    def update(self, *_args) -> None:
        """Enable what can be done now."""
        self.ui.cancelButton.enabled = self.running
        self.ui.progressBar.visible = self.running

    def _begin(self, requests) -> None:
        """Run one request after the other."""
        if self.running:
            return
        self.dependencies.ensure(self.purpose, self.device)
        self._requests, self._done = list(requests), []
        self._next()

    def _next(self) -> None:
        request = self._requests.pop(0)
        self.say(_("Writing the volume…"))
        self._watch(self._started(request))
        self.log(self._title(request))

    def _started(self, request):
        """The run of a request, started."""
        raise NotImplementedError

    def _title(self, request) -> str:
        """A line for the log."""
        raise NotImplementedError

    def _progress(self, text: str) -> str:
        total = len(self._done) + 1 + len(self._requests)
        return f"{len(self._done) + 1}/{total}  {text}" if total > 1 else text

    def _finished(self, run) -> None:
        self._done.append(run.result)
        if self._requests:
            self._next()
        else:
            self._show(self._done)

    def _show(self, results) -> None:
        """Take the results of all requests."""
        raise NotImplementedError

    def _watch(self, run) -> None:
        """The channels that were chosen are kept with the scene."""
        if self.parameters is not None:
            self.parameters.extraVolumes = [s.currentNode() for s in self._selectors]
        super()._watch(run)

    def onCancel(self) -> None:
        self.cancel(_("Cancelled."))

    def sceneAboutToClose(self) -> None:
        """The nodes go away: end the run."""
        self.cancel(_("Cancelled, because the scene was closed."))
