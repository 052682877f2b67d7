"""What the tabs share that run a model on volumes: the model and its channels."""

from typing import ClassVar

import slicer

from E2ENetSegmentationLib.engine import devices
from E2ENetSegmentationLib.engine.python.dependencies import SEGMENT
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.mrml.samples import SAMPLES
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.ui.progress import SEGMENTING, Progress
from E2ENetSegmentationLib.ui.watch_panel import WatchPanel

# Codes of what the next one would meet as well.
FOR_ALL = ("no-device", "damaged-model", "bad-locator", "disk-full", "dependency")


class RunPanel(WatchPanel):
    """A tab with modelComboBox, inputSelector, channelsWidget, roiSelector, progressBar and so on.

    What is chosen stands in the parameter node alone, where `Choices` keeps it of one volume. The
    panel writes there and shows what it finds there; it never answers one selector with another.

    Args:
        dependencies: `Dependencies`; asked before the first run.
    """

    purpose = SEGMENT  # which packages a run needs
    stages = SEGMENTING  # where they lie on the bar
    SELECTORS: ClassVar[dict] = {"inputVolume": "inputSelector", "roi": "roiSelector"}

    def __init__(self, ui, core, host, dependencies) -> None:
        super().__init__(ui, core, host)
        self.statusLabel, self.logText = ui.statusLabel, ui.logText
        self.progressBar = ui.progressBar
        self.dependencies = dependencies
        self.parameters = None
        self._selectors = []
        self._filling = False
        self._requests = []  # that wait for their turn
        self._done = []  # results of those that had it
        self._failed = []  # (name, sentence) of those of several that came to nothing
        self._overall = Progress()
        ui.modelComboBox.connect("currentIndexChanged(int)", self.onModelChanged)
        for name in self.SELECTORS.values():
            getattr(ui, name).connect("nodeActivated(vtkMRMLNode*)", self.onActivated)
        ui.cancelButton.connect("clicked()", self.onCancel)

    # The model and its channels

    @property
    def model(self):
        index = self.ui.modelComboBox.currentIndex
        return self.models[index] if 0 <= index < len(self.models) else None

    def refreshModels(self, select: str = "") -> None:
        """List the models again, and keep or select one by name."""
        current = select or (self.model.name if self.model else self.host.setting("model"))
        # Whoever opens the module for the first time has the sample at hand.
        current = current or next(iter(SAMPLES))
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
        ui.roiSelector.noneDisplay = _("Automatic") if automatic else _("Whole volume")
        channels = self.model.channels if self.model else [_("Volume")]
        several = len(channels) > 1
        ui.inputLabel.text = f"{channels[0]}:" if several else _("Volume:")
        self.host.clearForm(ui.channelsWidget)
        self._selectors = [
            self.host.volumeSelector(ui.channelsWidget, f"{name}:", self.onExtraChanged)
            for name in channels[1:]
        ]
        ui.channelsWidget.visible = several
        self._fillExtra()

    # What is chosen

    def setParameterNode(self, parameters) -> None:
        """Follow another parameter node; None while the scene is closing."""
        self.parameters = parameters
        if parameters is not None:
            self.update()

    def choose(self, **choices) -> None:
        """Write choices into the parameter node, in one modification."""
        if self.parameters is None:
            return
        with slicer.util.NodeModify(self.parameters.parameterNode):
            for name, value in choices.items():
                setattr(self.parameters, name, value)

    def onActivated(self, *_args) -> None:
        """Write down what the selectors show: one of the same name may be chosen in silence."""
        shown = {name: getattr(self.ui, box).currentNode() for name, box in self.SELECTORS.items()}
        if self.parameters is not None:
            changed = {n: v for n, v in shown.items() if getattr(self.parameters, n) is not v}
            self.choose(**changed)

    def onExtraChanged(self, *_args) -> None:
        """A further channel was chosen."""
        if not self._filling and self.parameters is not None:
            others = list(self.parameters.extraVolumes)[len(self._selectors) :]
            self.choose(extraVolumes=[*(s.currentNode() for s in self._selectors), *others])

    def _fillExtra(self) -> None:
        """Show the further channels that are chosen."""
        if self.parameters is None:
            return
        chosen = [*self.parameters.extraVolumes, *[None] * len(self._selectors)]
        self._filling = True
        for selector, node in zip(self._selectors, chosen, strict=False):
            selector.setCurrentNode(node)
        self._filling = False

    @property
    def volume(self):
        """The volume that is chosen, or None."""
        return self.parameters.inputVolume if self.parameters is not None else None

    def _volumes(self) -> list:
        """What is chosen, one a channel; None where nothing is."""
        return [self.volume, *(selector.currentNode() for selector in self._selectors)]

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
        return self.model is not None and not self.busy

    def update(self, *_args) -> None:
        """Show what is chosen, and enable what can be done now."""
        self._fillExtra()
        self.ui.cancelButton.enabled = self.running
        self.ui.progressBar.visible = self.running

    def _begin(self, requests) -> None:
        """Run one request after the other."""
        if self.busy:
            return
        with self.starting():
            self.dependencies.ensure(self.purpose, self.device)
            self._requests, self._done, self._failed = list(requests), [], []
            self._overall = Progress(len(self._requests), self.stages)
            self._goOn()

    def _goOn(self) -> None:
        """Start the next request that can be started, or show what came of all."""
        while self._requests:
            request = self._requests.pop(0)
            self.say(_("Writing the volume…"))
            try:
                run = self._started(request)
            except Refused as refusal:
                if not self._leaveOut(request, refusal):
                    raise
                continue
            self._watch(run)
            self.progressBar.value = self._overall.percent
            self.log(self._title(request))
            return
        self._show(self._done)

    def _leaveOut(self, request, refusal: Refused) -> bool:
        """Whether a request that failed is one of several, and the others go on."""
        alone = not (self._requests or self._done or self._failed)
        if alone or refusal.code in FOR_ALL:
            self._requests = []
            return False
        self._failed.append((request.title, str(refusal)))
        self._overall.next()
        self.log(f"{request.title}: {refusal}")
        return True

    def _passOver(self, run, refusal: Refused) -> bool:
        return self._leaveOut(run.request, refusal)

    def _started(self, request):
        """The run of a request, started."""
        raise NotImplementedError

    def _title(self, request) -> str:
        """A line for the log."""
        raise NotImplementedError

    def onEvent(self, event: dict) -> None:
        """One bar and one time for all that was asked."""
        device = event["event"] == "metric" and event.get("name") == "device"
        if event["event"] != "progress" and not device:
            super().onEvent(event)
            return
        self._overall.feed(event)
        if device:
            return
        self.progressBar.value = self._overall.percent
        inputs = self._run.request.volumeNodes[:1] if self.running else []
        elsewhere = inputs and inputs[0] is not self.volume  # somebody looks at another one
        text = self._overall.text
        self.say(f"{inputs[0].GetName()}: {text}" if elsewhere else text)

    def _finished(self, run) -> None:
        if run.result is not None:  # None: it was left out
            self._done.append(run.result)
            self._overall.next()
        self._goOn()

    def _show(self, results) -> None:
        """Take the results of all requests."""
        raise NotImplementedError

    def onCancel(self) -> None:
        self.cancel(_("Cancelled."))

    def sceneAboutToClose(self) -> None:
        """The nodes go away: end the run; what was said of them goes as well."""
        self.say("")
        self.cancel(_("Cancelled, because the scene was closed."))
