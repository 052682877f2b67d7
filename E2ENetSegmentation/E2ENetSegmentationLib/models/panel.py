"""The Models tab: what there is, and installation, import, export, deletion."""

from pathlib import Path

from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.models.download import Download
from E2ENetSegmentationLib.mrml.samples import SAMPLES
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.ui.watch_panel import WatchPanel


class ModelsPanel(WatchPanel):
    """See the module's documentation.

    Args:
        changed: Called with a model's name after the list changed ("" for no particular one).
    """

    def __init__(self, ui, core, host, changed) -> None:
        super().__init__(ui, core, host)
        self.statusLabel, self.progressBar = ui.modelsStatusLabel, ui.modelsProgressBar
        self.changed = changed
        core.store.extraFolder = host.setting("modelFolder")
        ui.modelFolderEdit.currentPath = core.store.extraFolder
        ui.modelsTable.connect("itemSelectionChanged()", self.update)
        ui.addressEdit.connect("textChanged(QString)", self.update)
        ui.installModelButton.connect("clicked()", self.onInstall)
        ui.cancelInstallButton.connect("clicked()", self.onCancel)
        ui.sampleButton.connect("clicked()", self.onSample)
        ui.importZipButton.connect("clicked()", self.onImportZip)
        ui.importFolderButton.connect("clicked()", self.onImportFolder)
        ui.exportButton.connect("clicked()", self.onExport)
        ui.deleteButton.connect("clicked()", self.onDelete)
        ui.readmeButton.connect("clicked()", self.onReadme)
        ui.refreshButton.connect("clicked()", self.onRefresh)
        ui.modelFolderEdit.connect("currentPathChanged(QString)", self.onFolderChanged)
        self.refresh()

    @property
    def model(self):
        row = self.ui.modelsTable.currentRow()
        return self.models[row] if 0 <= row < len(self.models) else None

    def refresh(self) -> None:
        """List the models again."""
        with self.sentences():
            self.models = self.core.store.models()
            origins = {
                "shipped": _("shipped"),
                "imported": _("imported"),
                "folder": _("your folder"),
            }
            rows = [
                (
                    model.title,
                    model.content.get("modality", ""),
                    model.content.get("anatomy", ""),
                    origins[model.origin],
                )
                for model in self.models
            ]
            self.host.fillTable(self.ui.modelsTable, rows, stretch=(0, 2))
            problems = self.core.store.problems
            if problems:
                self.say(" ".join(problems))
        self.update()

    def update(self, *_args) -> None:
        ui, model = self.ui, self.model
        ui.installModelButton.enabled = bool(ui.addressEdit.text.strip()) and not self.running
        ui.cancelInstallButton.enabled = self.running
        ui.modelsProgressBar.visible = self.running
        ui.sampleButton.enabled = model is not None and model.name in SAMPLES
        ui.exportButton.enabled = model is not None
        ui.readmeButton.enabled = model is not None
        ui.deleteButton.enabled = model is not None and self.core.store.canDelete(model)
        ui.modelDetailsLabel.text = self._details(model) if model else _("Choose a model above.")
        ui.modelDetailsLabel.toolTip = str(model.path) if model else ""

    def onInstall(self) -> None:
        with self.sentences():
            address, sha256 = self.ui.addressEdit.text, self.ui.hashEdit.text
            run = Download(address, sha256, self.onEvent)
            if not sha256.strip() and not self.host.confirm(
                _(
                    "Without a SHA-256 nobody knows that the file is the one that was meant. "
                    "Install it?"
                )
            ):
                return
            run.start()
            self._watch(run)
            self.say(_("Downloading…"))

    def onCancel(self) -> None:
        self.cancel(_("Cancelled; another click on Install goes on from here."))

    def _finished(self, run) -> None:
        try:
            self._import(str(run.path))
        finally:
            run.clean()

    def onSample(self) -> None:
        with self.sentences():
            self.host.loadSample(SAMPLES[self._chosen().name])
            self.say(_("The sample is loaded; segment it in the tab Segment."))

    def onImportZip(self) -> None:
        self._import(self.host.openFile(_("Import a model"), _("Models (*.zip)")))

    def onImportFolder(self) -> None:
        self._import(self.host.openFolder(_("Import a model's folder")))

    def _import(self, source: str) -> None:
        if not source:
            return
        with self.sentences():
            try:
                model = self.core.store.importModel(source)
            except Refused as refusal:
                question = _("A model of that name is already there. Replace it?")
                if refusal.code != "exists" or not self.host.confirm(question):
                    raise
                model = self.core.store.importModel(source, overwrite=True)
            self._listChanged(model.name, _("Imported {title}.").format(title=model.title))

    def onExport(self) -> None:
        with self.sentences():
            model = self._chosen()
            target = self.host.saveFile(
                _("Export the model"), f"{model.name}.zip", _("Models (*.zip)")
            )
            if target:
                written = self.core.store.exportModel(model, target)
                self.say(_("Wrote {path}.").format(path=written))

    def onDelete(self) -> None:
        with self.sentences():
            model = self._chosen()
            if self.host.confirm(_("Delete the model {title}?").format(title=model.title)):
                self.core.store.delete(model)
                self._listChanged("", _("Deleted {title}.").format(title=model.title))

    def onReadme(self) -> None:
        with self.sentences():
            path = self._chosen().path / "README.md"
            if not path.is_file():
                raise Refused(_("The model has no README."))
            text = path.read_text(encoding="utf-8", errors="replace")
            self.host.showMarkdown(self.ui.readmeBrowser, text, path.parent)

    def onRefresh(self) -> None:
        self.say("")
        self.refresh()
        self.changed("")

    def onFolderChanged(self, *_args) -> None:
        folder = self.ui.modelFolderEdit.currentPath
        self.host.setSetting("modelFolder", folder)
        self.core.store.extraFolder = folder
        self.say("")
        self.refresh()
        self.changed("")
        if folder and not Path(folder).is_dir():
            self.say(_("There is no folder {path}.").format(path=folder))

    def _chosen(self):
        if self.model is None:
            raise Refused(_("Choose a model in the table."))
        return self.model

    def _listChanged(self, name: str, text: str) -> None:
        self.refresh()
        self.say(text)
        self.changed(name)

    def _details(self, model) -> str:
        lines = [*model.summary(), _("Size: {n:.1f} MB").format(n=model.megabytes)]
        lines.append(_("Segments: {names}").format(names=", ".join(n.name for n in model.labels)))
        lines += model.results()
        if model.metrics() and not model.results():
            lines.append(_("Figures: {figures}").format(figures=model.metrics()))
        if model.content.get("citation"):
            lines.append(_("Cite: {text}").format(text=model.content["citation"]))
        return "\n".join(lines)
