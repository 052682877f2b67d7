"""The tab Advanced, Engine: where the engine's packages are; install, check, repair, remove."""

from E2ENetSegmentationLib.engine import devices, server
from E2ENetSegmentationLib.engine.python import interpreter
from E2ENetSegmentationLib.engine.python.dependencies import SEGMENT, TRAIN
from E2ENetSegmentationLib.engine.python.inspection import Inspection
from E2ENetSegmentationLib.engine.python.requirements import installed, remove
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.ui.watch_panel import WatchPanel

MEGABYTE = 1 << 20


class EnginePanel(WatchPanel):
    """See the module's documentation.

    Args:
        dependencies: `Dependencies`.
    """

    def __init__(self, ui, core, host, dependencies) -> None:
        super().__init__(ui, core, host)
        self.statusLabel, self.logText = ui.engineStatusLabel, ui.engineLogText
        self.progressBar = ui.engineProgressBar
        self.dependencies = dependencies
        self.seen = None  # what running it showed, as long as it is about the present state
        self._then = None
        ui.wheelsEdit.currentPath = host.setting("wheelsFolder")
        ui.serverEdit.text = host.setting(server.ADDRESS)
        ui.tokenEdit.text = host.setting(server.TOKEN)
        ui.installButton.connect("clicked()", self.onInstall)
        ui.installTorchButton.connect("clicked()", self.onInstallTorch)
        ui.checkButton.connect("clicked()", self.onCheck)
        ui.repairButton.connect("clicked()", self.onRepair)
        ui.removeButton.connect("clicked()", self.onRemove)
        ui.pythonButton.connect("clicked()", self.onPython)
        ui.slicerPythonButton.connect("clicked()", self.onSlicerPython)
        ui.engineCancelButton.connect("clicked()", self.onCancel)
        ui.wheelsEdit.connect("currentPathChanged(QString)", self.onWheelsChanged)
        for edit, name in ((ui.serverEdit, server.ADDRESS), (ui.tokenEdit, server.TOKEN)):
            edit.connect(
                "textChanged(QString)", lambda text, name=name: self.host.setSetting(name, text)
            )
        devices.whenKnown(host, self.refresh)
        if interpreter.isTranslated():
            self.say(
                _(
                    "This Slicer is an Intel program on an Apple processor. A native Python (from "
                    "python.org or Homebrew) computes faster and can use PyTorch: "
                    "Use another Python…"
                )
            )

    # State

    def update(self, *_args) -> None:
        """Enable what can be done now."""
        ui, running = self.ui, self.running
        python, have = self._python(), {}
        ours = python is not None and python.packages is not None
        if ours:
            have = installed(python.packages)
        for button in (ui.installButton, ui.installTorchButton):
            button.enabled = ours and not running
        ui.repairButton.enabled = ours and bool(have) and not running
        ui.removeButton.enabled = ours and bool(have) and not running
        ui.checkButton.enabled = python is not None and not running
        variable = python is not None and python.origin == interpreter.VARIABLE
        chosen = python is None or python.origin == interpreter.CHOSEN
        ui.pythonButton.enabled = not variable and not running
        ui.slicerPythonButton.enabled = chosen and not running
        ui.engineCancelButton.enabled = running
        ui.engineProgressBar.visible = running

    def refresh(self) -> None:
        """Show what there is; nothing is run for it."""
        with self.sentences():
            self.host.fillTable(self.ui.engineTable, self._rows(), stretch=(1,))
        self.ui.installButton.text = _("Install for the CPU\n({size})").format(
            size=self.dependencies.size(SEGMENT)
        )
        self.ui.installTorchButton.text = _("Install with PyTorch\n({size})").format(
            size=self.dependencies.size(TRAIN)
        )
        self.update()

    def _python(self):
        """The interpreter, or None where the one that was named is gone."""
        try:
            return interpreter.current()
        except Refused:
            return None

    def _rows(self) -> list:
        python = interpreter.current()
        origins = {
            interpreter.SLICER: _("Slicer's own"),
            interpreter.CHOSEN: _("chosen here"),
            interpreter.VARIABLE: _("named by E2ENET_PYTHON"),
        }
        version = f"{'.'.join(map(str, self.seen.version))}, " if self.seen else ""
        rows = [
            (_("State"), self._state(python)),
            (_("Python"), f"{version}{origins[python.origin]}: {python.program}"),
        ]
        if python.packages is not None:
            rows.append((_("Folder"), str(python.packages)))
        if self.seen is not None and self.seen.size:
            rows.append((_("Size"), _("{n} MB").format(n=round(self.seen.size / MEGABYTE))))
        names = self.dependencies.names(TRAIN)
        if self.seen is not None:
            have = {n: p["version"] for n, p in self.seen.packages.items() if p.get("version")}
        else:
            found = installed(python.packages) if python.packages else {}
            have = {name: found[name.lower()] for name in names if name.lower() in found}
        if have:
            rows.append((_("Packages"), ", ".join(f"{n} {v}" for n, v in have.items())))
        rows.append((_("Device"), self._device(have)))
        return rows

    def _state(self, python) -> str:
        if self.seen is not None and self.seen.broken:
            return _("damaged: {packages}").format(packages="; ".join(self.seen.broken))
        names = self.dependencies.names(TRAIN)
        if self.seen is not None:
            lacking = {name for name in names if not self.seen.packages.get(name)}
        elif python.packages is None:
            return _("not checked; packages of its own")
        else:
            have = installed(python.packages)
            lacking = {name for name in names if name.lower() not in have}
        needed = lacking & set(self.dependencies.names(SEGMENT))
        if needed:
            names = ", ".join(sorted(needed))
            if python.packages is not None and not installed(python.packages):
                return _("not installed")
            return _("incomplete, without {names}").format(names=names)
        if lacking:
            return _("ready to segment on the CPU")
        return _("ready, with PyTorch")

    def _device(self, have: dict) -> str:
        """What the engine can compute on, or what a card would need."""
        cards = [name for name, value in devices.devices() if value not in ("auto", "cpu")]
        if self.seen is not None and self.seen.cards:
            return ", ".join(self.seen.cards)
        if cards and "torch" not in have:
            return _("CPU; {card} needs the installation with PyTorch").format(card=cards[0])
        return ", ".join([_("CPU"), *cards])

    # What the person does

    def onInstall(self) -> None:
        self._install(SEGMENT)

    def onInstallTorch(self) -> None:
        self._install(TRAIN)

    def onRepair(self) -> None:
        with self.sentences():
            names = installed(interpreter.current().packages)
            self._install(TRAIN if "torch" in names else SEGMENT)

    def onCheck(self) -> None:
        self._look(interpreter.current, lambda run: self._showSeen(run.result))

    def onRemove(self) -> None:
        with self.sentences():
            folder = interpreter.current().packages
            if not self.host.confirm(
                _("Delete the folder {folder} with the engine's packages?").format(folder=folder)
            ):
                return
            try:
                remove(folder)
            except OSError as error:
                raise Refused(
                    _("{folder} cannot be deleted: {reason}.").format(
                        folder=folder, reason=error.strerror or error
                    ),
                    _("End what the engine computes, and try again."),
                ) from error
            self.seen = None
            self.say(_("Removed."))
        self.refresh()

    def onPython(self) -> None:
        program = self.host.openFile(_("Choose a Python interpreter"), _("Programs (*)"))
        if program:
            self._look(
                lambda: interpreter.Interpreter(program, interpreter.CHOSEN),
                lambda run: self._choose(program, run.result),
            )

    def onSlicerPython(self) -> None:
        with self.sentences():
            interpreter.useSlicers()
            self.seen = None
            self.say("")
        self.refresh()

    def onCancel(self) -> None:
        self.cancel(_("Cancelled."))
        self.refresh()

    def onWheelsChanged(self, *_args) -> None:
        self.host.setSetting("wheelsFolder", self.ui.wheelsEdit.currentPath)

    # The run

    def _install(self, purpose: str) -> None:
        with self.sentences():
            if self.running:
                return
            run = self.dependencies.installation(purpose, self.onProgress)
            run.start()
            self._then = lambda run: self._showSeen(run.result, _("Installed and tried."))
            self.seen = None
            self._watch(run)

    def _look(self, python, then) -> None:
        with self.sentences():
            if self.running:
                return
            run = Inspection(python(), self.dependencies.names(TRAIN))
            run.start()
            self._then = then
            self._watch(run)
            self.say(_("Running it…"))

    def onProgress(self, text: str, percent: int) -> None:
        """Show what an installation does."""
        self.progressBar.value = percent
        self.say(text)

    def poll(self) -> None:
        """However it ended, the table tells what is there now."""
        super().poll()
        if not self.running:
            self.refresh()

    def _finished(self, run) -> None:
        self._then(run)

    def _showSeen(self, seen, text: str = "") -> None:
        self.seen = seen
        if seen.broken:
            self.say(_("Damaged: Repair installs it afresh."))
        else:
            self.say(text or _("Every package that is there can be imported."))

    def _choose(self, program: str, seen) -> None:
        """Another Python answered: use its own packages if it has all, or a folder of ours."""
        lacking = [
            name
            for name in self.dependencies.names(SEGMENT)
            if not seen.packages[name] or "error" in seen.packages[name]
        ]
        if not lacking:
            interpreter.choose(program)
            self._showSeen(seen, _("The engine uses this Python and its packages from now on."))
            return
        question = _(
            "{program} lacks {names}. Keep the engine's packages for it in a folder of their own? "
            "Nothing is installed into it."
        ).format(program=program, names=", ".join(lacking))
        if not self.host.confirm(question):
            raise Refused(_("The Python stays as it was."))
        interpreter.choose(program, seen.kind)
        self.seen = None
        self.say(_("Chosen; now install the packages."))
