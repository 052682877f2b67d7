"""A run of the engine with its outcome in words: done, refused, cancelled, ended from outside."""

from E2ENetSegmentationLib.engine.process import EngineProcess, engineCommand
from E2ENetSegmentationLib.engine.python import interpreter
from E2ENetSegmentationLib.engine.temporary import diskFull, isFull
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Cancelled, Refused
from E2ENetSegmentationLib.words import spoken

ENGINE_CANCELLED = 130
# How the last line of a traceback begins when a package is missing or lacks a library.
UNUSABLE = ("ModuleNotFoundError:", "ImportError:", "OSError: [WinError")


class EngineRun:
    """Runs one program that speaks in events, and keeps what it said.

    Args:
        process: Its `EngineProcess`, not started.
        onEvent: Called with each event as it comes.
        names: What it reads -> what a person calls it.
    """

    def __init__(self, process: EngineProcess, onEvent=None, names=None) -> None:
        self.warnings = []  # (code, sentence)
        self.result = {}
        self._error = None
        self._onEvent = onEvent or (lambda event: None)
        self._names = names or {}
        self._process = process

    @classmethod
    def verb(cls, arguments, folder, onEvent=None, names=None) -> "EngineRun":
        """A verb of the engine with its options; that it shall speak in events is added here."""
        command = engineCommand([*arguments, "--progress", "json"])
        return cls(EngineProcess(command, folder), onEvent, names)

    @property
    def running(self) -> bool:
        return self._process.running

    @property
    def lines(self) -> list:
        return self._process.lines

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def started(self) -> str:
        """When its process started, in the system's own words."""
        return self._process.started

    def start(self) -> None:
        self._process.start()

    def poll(self) -> bool:
        """Hand out new events; True while the engine runs.

        Raises:
            Refused: The engine failed.
            Cancelled: It was asked to stop.
        """
        for event in self._process.poll():
            kind = event["event"]
            if kind in ("warning", "error"):
                said = [str(event.get(key, "")) for key in ("code", "message", "help")]
                event["message"], event["help"] = spoken(*said, self._names)
            if kind == "warning":
                event["message"] = " ".join(filter(None, (event["message"], event["help"])))
                self.warnings.append((str(event.get("code", "")), event["message"]))
            elif kind == "error":
                self._error = event
            elif kind == "result":
                self.result.update(event)
            self._onEvent(event)
        if self._process.running:
            return True
        if self._process.exitCode != 0:
            raise self._failure()
        return False

    def cancel(self) -> None:
        """End it at once."""
        self._process.kill()

    def askToEnd(self, seconds: float) -> None:
        """Let it clear up: ask it to end, and give it so long."""
        self._process.askToEnd(seconds)

    def _failure(self) -> Exception:
        code = self._process.exitCode
        if code == ENGINE_CANCELLED:
            return Cancelled()
        if self._error is not None:
            return Refused(
                str(self._error.get("message", "")),
                str(self._error.get("help", "")),
                str(self._error.get("code", "")),
            )
        broken = next((line for line in self.lines if line.startswith(UNUSABLE)), "")
        if broken:
            return Refused(
                _("A Python package of the engine cannot be used: {line}.").format(
                    line=broken.split(":", 1)[-1].strip().rstrip(".")
                ),
                interpreter.current().remedy,
                "dependency",
            )
        try:
            if isFull(self._process.folder):
                return diskFull(self._process.folder)
        except OSError:
            return Refused(_("The temporary folder was removed while the engine ran."))
        if code < 0 or code in (137, 143):
            return Refused(
                _("The engine was ended from outside; the computer may be short of memory."),
                _("Close other programs, or limit the work with a region."),
                "killed",
            )
        return Refused(
            _("The engine stopped unexpectedly (exit status {code}).").format(code=code),
            _("The log says more."),
            "crash",
        )
