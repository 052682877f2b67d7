"""The Models tab: what is here and what can be had; installation, export, deletion."""

from pathlib import Path

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.models.card import details, pictureStyle, readme
from E2ENetSegmentationLib.models.catalogue import Offer, newOnes, offers
from E2ENetSegmentationLib.models.fetching import Fetch
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
        self._offers, self._samples = [], {}  # of the index, once it was looked at
        core.store.extraFolder = host.setting("modelFolder")
        ui.modelFolderEdit.currentPath = core.store.extraFolder
        ui.indexEdit.text = host.setting("modelIndex") or self._defaultIndex
        ui.readmeBrowser.visible = False
        ui.modelsTable.connect("itemSelectionChanged()", self.onSelected)
        ui.addressEdit.connect("textChanged(QString)", self.update)
        ui.indexEdit.connect("textChanged(QString)", self.onIndexChanged)
        buttons = {
            ui.onlineButton: self.onOnline,
            ui.importZipButton: self.onImportZip,
            ui.importFolderButton: self.onImportFolder,
            ui.installOfferButton: self.onInstallOffer,
            ui.sampleButton: self.onSample,
            ui.readmeButton: self.onReadme,
            ui.exportButton: self.onExport,
            ui.deleteButton: self.onDelete,
            ui.refreshButton: self.onRefresh,
            ui.installModelButton: self.onInstall,
            ui.cancelInstallButton: self.onCancel,
        }
        for button, slot in buttons.items():
            button.connect("clicked()", slot)
        ui.modelFolderEdit.connect("currentPathChanged(QString)", self.onFolderChanged)
        self.refresh()

    @property
    def model(self):
        """The model or the offer that is chosen, or None."""
        row = self.ui.modelsTable.currentRow()
        return self.models[row] if 0 <= row < len(self.models) else None

    @property
    def _defaultIndex(self) -> str:
        return paths.engineModule("bundle.index").default_index()

    @property
    def index(self) -> str:
        """Where the list of models is."""
        return self.ui.indexEdit.text.strip() or self._defaultIndex

    def refresh(self) -> None:
        """List the models again, and below them what can be had."""
        with self.sentences():
            here = self.core.store.models()
            self.models = [*here, *newOnes(self._offers, here)]
            rows = [
                (
                    model.title,
                    model.content.get("modality", ""),
                    _("{n:.1f} MB").format(n=model.megabytes),
                    self._where(model, here),
                )
                for model in self.models
            ]
            self.host.fillTable(self.ui.modelsTable, rows)
            problems = self.core.store.problems
            if problems:
                self.say(" ".join(problems))
        self.update()

    @staticmethod
    def _where(model, here) -> str:
        origins = {
            "shipped": _("shipped"),
            "imported": _("installed"),
            "folder": _("your folder"),
            "online": _("online"),
        }
        another = model.origin == "online" and model.name in [one.name for one in here]
        return _("online, another version") if another else origins[model.origin]

    def update(self, *_args) -> None:
        ui, model = self.ui, self.model
        idle, here = not self.running, model is not None and not isinstance(model, Offer)
        for button in (ui.onlineButton, ui.importZipButton, ui.importFolderButton):
            button.enabled = idle
        ui.installOfferButton.enabled = idle and isinstance(model, Offer)
        ui.installModelButton.enabled = bool(ui.addressEdit.text.strip()) and idle
        ui.cancelInstallButton.visible = self.running
        ui.modelsProgressBar.visible = self.running
        ui.sampleButton.enabled = idle and model is not None and self._hasSample(model)
        ui.exportButton.enabled = here
        ui.readmeButton.enabled = here
        ui.deleteButton.enabled = here and idle and self.core.store.canDelete(model)
        picture = model.picture if model else None
        ui.pictureLabel.visible = picture is not None
        ui.pictureLabel.styleSheet = pictureStyle(picture) if picture else ""
        ui.modelDetailsLabel.text = details(model) if model else _("Choose a model above.")
        ui.modelDetailsLabel.toolTip = str(model.path) if here else ""

    def onSelected(self) -> None:
        self.ui.readmeBrowser.visible = False
        self.update()

    # What the internet is asked for; only when a person clicks

    def onOnline(self) -> None:
        self._fetch("catalogue", index=self.index, folder=str(self._cache / "pictures"))

    def onInstallOffer(self) -> None:
        with self.sentences():
            self._install(self._chosen().name)

    def onInstall(self) -> None:
        with self.sentences():
            address, sha256 = self.ui.addressEdit.text.strip(), self.ui.hashEdit.text.strip()
            if not sha256 and "#sha256=" not in address:
                question = _(
                    "Without a SHA-256 nobody knows that the file is the one that was meant. "
                    "Install it?"
                )
                if not self.host.confirm(question):
                    return
            self._install(address, sha256)

    def _install(self, source: str, sha256: str = "", replace: bool = False) -> None:
        work = {"source": source, "sha256": sha256, "index": self.index, "replace": replace}
        self._fetch("install", **work)

    def _fetch(self, do: str, **work) -> None:
        if self.busy:
            return
        with self.sentences(), self.starting():
            names = {self.index.partition("#")[0]: _("The list of models")}
            run = Fetch(do, self.onEvent, names, **work)
            run.start()
            self._watch(run)
            self.say(_("Working…"))

    def _passOver(self, run, refusal: Refused) -> bool:
        """One of that name is here: a person says whether it is replaced."""
        question = _("A model of that name is already there. Replace it?")
        if run.do != "install" or refusal.code != "exists" or not self.host.confirm(question):
            return False
        run.result = None  # what follows begins when this run has ended
        return True

    def _finished(self, run) -> None:
        if run.result is None:
            self._run = None
            self._install(run.work["source"], run.work["sha256"], replace=True)
        elif run.do == "install":
            self._listChanged(run.result["models"])
        elif run.do == "sample":
            self.host.loadVolume(run.result["path"])
            self._saySample()
        else:
            self._offers = offers(run.result["entries"])
            samples = {entry["name"]: entry["sample"] for entry in run.result["entries"]}
            self._samples = {name: sample for name, sample in samples.items() if sample}
            self.refresh()
            new = [model.title for model in self.models if isinstance(model, Offer)]
            text = _("Can be installed: {titles}.").format(titles=", ".join(new))
            self.say(text if new else _("Everything that is offered is here already."))

    def onCancel(self) -> None:
        self.cancel(_("Cancelled; another click goes on from here."))

    @property
    def _cache(self) -> Path:
        return paths.engineModule("folders").cache_folder() / "catalogue"

    # Samples

    def _hasSample(self, model) -> bool:
        return model.name in SAMPLES or model.name in self._samples

    def onSample(self) -> None:
        with self.sentences():
            name = self._chosen().name
            if name in SAMPLES:
                self.host.loadSample(SAMPLES[name])
                self._saySample()
                return
            sample = self._samples[name]
            ending = "".join(Path(sample["place"]).suffixes[-2:])
            target = self._cache / sample["sha256"][:16] / f"{sample['name']}{ending}"
            keys = ("place", "sha256", "bytes")
            self._fetch("sample", target=str(target), **{key: sample[key] for key in keys})

    def _saySample(self) -> None:
        self.say(_("The sample is loaded; segment it in the tab Segment."))

    # What is here

    def onImportZip(self) -> None:
        self._import(self.host.openFile(_("Install models from a file"), _("Models (*.zip)")))

    def onImportFolder(self) -> None:
        self._import(self.host.openFolder(_("Install a model from its folder")))

    def _import(self, source: str) -> None:
        if source:
            self._install(source)

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
                self.refresh()
                self.say(_("Deleted {title}.").format(title=model.title))
                self.changed("")

    def onReadme(self) -> None:
        with self.sentences():
            path = self._chosen().path / "README.md"
            if not path.is_file():
                raise Refused(_("The model has no README."))
            text = readme(path.read_text(encoding="utf-8", errors="replace"))
            self.host.showMarkdown(self.ui.readmeBrowser, text, path.parent)
            self.ui.readmeBrowser.visible = True

    def onRefresh(self) -> None:
        self.say("")
        self.refresh()
        self.changed("")

    def onIndexChanged(self, *_args) -> None:
        given = self.ui.indexEdit.text.strip()
        self.host.setSetting("modelIndex", "" if given == self._defaultIndex else given)
        self._offers, self._samples = [], {}
        self.refresh()

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

    def _listChanged(self, names: list) -> None:
        """Models came: the first of them is chosen, everywhere."""
        self.refresh()
        titles = {model.name: model.title for model in self.models}
        known = [model.name for model in self.models]
        if names and names[0] in known:
            self.ui.modelsTable.selectRow(known.index(names[0]))
        text = ", ".join(titles.get(name, name) for name in names)
        self.say(_("Installed: {titles}.").format(titles=text))
        self.changed(names[0] if names else "")
