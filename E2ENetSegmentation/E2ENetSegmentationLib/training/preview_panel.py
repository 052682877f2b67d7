"""A look at the model under way: the part of the Fine-tune tab with the button Preview."""

from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.training.preview_run import PreviewRun, remove
from E2ENetSegmentationLib.ui.panel import fillCombo
from E2ENetSegmentationLib.ui.watch_panel import WatchPanel


class PreviewPanel(WatchPanel):
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
        ui.previewButton.connect("clicked()", self.onPreview)

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
            self._watch(run)
            self.say(_("Making the preview…"))

    def _progress(self, text: str) -> str:
        return _("Preview: {what}").format(what=text)

    def _finished(self, run: PreviewRun) -> None:
        result = run.result
        if self.node is not None:
            remove(self.node)
        self.node = result.segmentationNode
        self.say(_("{name} is in the scene.").format(name=self.node.GetName()))
        self.host.showVolume(result.volumeNode)

    def sceneAboutToClose(self) -> None:
        self.node = None
        self.cancel(_("The preview was cancelled, because the scene was closed."))
