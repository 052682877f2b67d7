"""What the tabs share: every failure ends as one sentence in the tab, the detail in its log."""

import contextlib
import logging
import re
import traceback

from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Cancelled, Refused

LONG = r"\S{20,}"


class Panel:
    """A tab. Subclasses name their status label and log.

    Args:
        ui: The widgets of the tab's .ui file.
        core: `Core`.
        host: `SlicerHost`, or what a test hands over.
    """

    def __init__(self, ui, core, host) -> None:
        self.ui = ui
        self.core = core
        self.host = host
        self.models = []

    statusLabel = None
    logText = None

    def setParameterNode(self, parameters) -> None:
        """Follow another parameter node; None while the scene is closing."""

    def update(self, *_args) -> None:
        """Enable what can be done now."""

    def sceneAboutToClose(self) -> None:
        """Let go of nodes."""

    def cleanup(self) -> None:
        """Slicer exits or the module is reloaded: end what runs."""

    def say(self, text: str) -> None:
        """Show one sentence."""
        self.statusLabel.text = breakable(text)

    def log(self, text: str) -> None:
        """Add a line to the foldable log."""
        if self.logText is not None and text:
            self.logText.appendPlainText(text)

    def fillModels(self, combo, wanted: str, first: str = "") -> None:
        """List the models again in a combo box, below `first` (no model), the wanted one chosen."""
        try:
            self.models = self.core.store.models()
        except Refused as refusal:
            self.models = []
            self.say(str(refusal))
        for problem in self.core.store.problems:
            self.log(problem)
        names, titles = ([""], [first]) if first else ([], [])
        names += [model.name for model in self.models]
        titles += [model.title for model in self.models]
        fillCombo(combo, titles, names.index(wanted) if wanted in names else 0)

    @contextlib.contextmanager
    def sentences(self):
        """Whatever goes wrong inside becomes one sentence in the tab and the log."""
        try:
            yield
        except Cancelled:
            self.say(_("Cancelled."))
            self.log(_("Cancelled."))
        except Refused as refusal:
            self.say(str(refusal))
            self.log(str(refusal))
        except Exception as error:
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            self.say(
                _("Something unexpected happened: {reason} The log says more.").format(
                    reason=reason if reason.endswith(".") else reason + "."
                )
            )
            self.log(traceback.format_exc())
            logging.exception("E2ENetSegmentation")


def breakable(text: str) -> str:
    """A text whose long words, names of files and servers, may be broken: a label that wraps is as
    wide as its longest word, and Slicer's panel as wide as its widest label."""
    return re.sub(LONG, lambda word: re.sub(r"([-_./\\:])(?=\w)", "\\1\u200b", word[0]), text)


def fillCombo(combo, texts, wanted: str | int = "") -> None:
    """Replace the entries of a combo box, select the wanted text or place; tells nobody."""
    blocked = combo.blockSignals(True)
    combo.clear()
    for text in texts:
        combo.addItem(text)
    if isinstance(wanted, str):
        wanted = texts.index(wanted) if wanted in texts else 0
    if texts:
        combo.currentIndex = wanted
    combo.blockSignals(blocked)
