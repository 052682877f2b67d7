"""A model from the internet: fetched beside Slicer, gone on after a break, checked, installed."""

import hashlib
import re
import shutil
from pathlib import Path

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.engine.process import EngineProcess
from E2ENetSegmentationLib.engine.python import interpreter
from E2ENetSegmentationLib.engine.temporary import temporaryFolder
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused

FETCH = paths.LIB / "models" / "fetch.py"


class Download:
    """One download: start, poll until it is done; `path` is the file then.

    Args:
        address: https://… of a zip.
        sha256: What its bytes must be; "" leaves the check to the bundle's own hashes.
        onEvent: Called with each event.

    Raises:
        Refused: The address or the hash is none.
    """

    def __init__(self, address: str, sha256: str = "", onEvent=None) -> None:
        address, sha256 = address.strip(), sha256.strip().lower()
        if not re.match(r"https?://[^/\s]+/\S+$", address):
            raise Refused(
                _("{text} is no address such as https://…/model.zip.").format(text=address)
            )
        if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise Refused(_("A SHA-256 has 64 digits from 0 to 9 and a to f."))
        if address.startswith("http:") and not sha256:
            raise Refused(
                _("Over http:// anybody on the way can change the file."),
                _("Use https://, or give the file's SHA-256."),
            )
        self.path = None
        self._address, self._sha256 = address, sha256
        self._onEvent = onEvent or (lambda event: None)
        self._folder, self._process, self._error = None, None, ""

    @property
    def lines(self) -> list:
        """What it said beside its events."""
        return self._process.lines if self._process else []

    @property
    def target(self) -> Path:
        """Where it is kept until it is installed, the same place for the same address."""
        name = hashlib.sha256(self._address.encode()).hexdigest()[:16]
        return paths.modelsFolder() / ".downloads" / f"{name}.zip"

    def start(self) -> None:
        """Begin, or go on where an earlier one was cut off.

        Raises:
            Refused: It cannot be started.
        """
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(
                _("{folder} cannot be made: {reason}.").format(
                    folder=self.target.parent, reason=error.strerror or error
                )
            ) from error
        self._folder = temporaryFolder()
        arguments = [self._address, self.target, *([self._sha256] if self._sha256 else [])]
        try:
            python = interpreter.current()
            self._process = EngineProcess(
                python.command(FETCH, *arguments), self._folder, python.environment(())
            )
            self._process.start()
        except BaseException:
            self.cancel()
            raise

    def poll(self) -> bool:
        """True while it runs.

        Raises:
            Refused: It failed; what has come is kept for the next try.
        """
        for event in self._process.poll():
            if event["event"] == "error":
                self._error = str(event["message"])
            self._onEvent(event)
        if self._process.running:
            return True
        code = self._process.exitCode
        self.cancel()
        if code != 0:
            raise Refused(
                self._error or _("The download ended unexpectedly; the log says more."),
                _("Another click on Install goes on where it stopped."),
            )
        self.path = self.target
        return False

    def cancel(self) -> None:
        """End it; what has come is kept for the next try."""
        if self._process is not None:
            self._process.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def clean(self) -> None:
        """Remove what was fetched."""
        self.target.unlink(missing_ok=True)
