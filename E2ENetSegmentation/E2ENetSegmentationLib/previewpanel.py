"""A look at the model under way: the part of the Fine-tune tab with the button Preview."""

from .events import progressText
from .i18n import tr as _
from .panelbase import Panel, fillCombo
from .previewrun import PreviewRun, remove
from .refusal import Refused

POLL_MILLISECONDS = 200


class PreviewPanel(Panel):
    """Segments a held-out case with the last checkpoint, while the training goes on or rests.

    Attributes:
        training: The `Training` of the tab, or None.
        node: The segmentation of the last preview; the next one replaces it.
    """

    def __init__(self, ui, core, host) -> None:
        super().__init__(ui, core, host)
        self.statusLabel, self.logText = ui.previewStatusLabel, ui.trainLogText
        self.training = None
        self.node = None
        self._names = None  # of the cases, once they are known
        self._run = None
        self._timer = host.timer(POLL_MILLISECONDS, self.poll)
        ui.previewButton.connect("clicked()", self.onPreview)

    @property
    def running(self) -> bool:
        return self._run is not None

    def say(self, text: str) -> None:
        super().say(text)
        self.statusLabel.visible = bool(text)

    def setTraining(self, training) -> None:
        """Another training, or none."""
        if training is not self.training:
            self.cancel()
            self.training, self._names = training, None
            self.say("")
        self.update()

    def update(self, *_args) -> None:
        """Offer the preview as soon as there is a checkpoint."""
        there = self.training is not None and self.training.hasCheckpoint
        if there and self._names is None:
            try:
                self._names = self.training.cases()
            except Refused as refusal:  # a run from before the cases were written down
                self._names = []
                self.log(str(refusal))
            titles = [self.training.titles.get(name, name) for name in self._names]
            fillCombo(self.ui.previewComboBox, titles)
        self.ui.previewWidget.visible = there and bool(self._names)
        self.ui.previewComboBox.enabled = not self.running
        self.ui.previewButton.text = _("Cancel") if self.running else _("Preview")

    def onPreview(self) -> None:
        with self.sentences():
            if self.running:
                self.cancel(_("The preview was cancelled."))
                return
            case = self._names[max(0, self.ui.previewComboBox.currentIndex)]
            run = PreviewRun(self.training, case, self.core.store, self.onEvent)
            run.start()
            self._run = run
            self.say(_("Making the preview…"))
            self._timer.start()
        self.update()

    def onEvent(self, event: dict) -> None:
        """Show how far it is."""
        if event["event"] == "progress":
            self.say(_("Preview: {what}").format(what=progressText(event)))
        elif event["event"] == "warning":
            self.log(str(event.get("message", "")))

    def poll(self) -> None:
        """Called by the timer while a preview is made."""
        if self._run is None:
            self._timer.stop()
            return
        run = self._run
        with self.sentences():
            try:
                if run.poll():
                    return
            except BaseException:
                self._end()
                raise
            self._accept(run)
        self._end()

    def _accept(self, run: PreviewRun) -> None:
        result = run.result
        if self.node is not None:
            remove(self.node)
        self.node = result.segmentationNode
        self.say(_("{name} is in the scene.").format(name=self.node.GetName()))
        self.host.showVolume(result.volumeNode)

    def cancel(self, text: str = "") -> None:
        """End a preview that is being made."""
        if self._run is not None:
            self._run.cancel()
            self._end()
            self.say(text)

    def _end(self) -> None:
        self._timer.stop()
        self._run = None
        self.update()

    def sceneAboutToClose(self) -> None:
        self.node = None
        self.cancel(_("The preview was cancelled, because the scene was closed."))

    def cleanup(self) -> None:
        self.cancel()
