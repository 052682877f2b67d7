"""Looking at a Python by running it: what it is, and which packages it can really import."""

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.engine.job import Job
from E2ENetSegmentationLib.engine.python.interpreter import kindOf
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused

LOOK = paths.LIB / "engine" / "python" / "look.py"
OLDEST, TOO_OLD = (3, 10), "python-too-old"


class Seen:
    """What was seen.

    Attributes:
        version: (3, 12, 4).
        kind: Of its packages, see `kindOf`.
        pip: Version of its pip, "" without one.
        packages: Name -> {"version", "file"} or {"version", "error"} or {}.
        size: Bytes of the packages in a folder of ours.
        cards: Graphics processors that PyTorch can use.
    """

    def __init__(self, event: dict) -> None:
        self.version = tuple(event["version"])
        self.kind = kindOf(self.version, event["system"], event["machine"])
        self.pip = event["pip"]
        self.packages = dict(event["packages"])
        self.cards = list(event["cards"])
        self.size = int(event["size"])

    @property
    def broken(self) -> list:
        """A line for each package that is there and cannot be imported."""
        return [f"{n}: {p['error']}" for n, p in self.packages.items() if "error" in p]


class Inspection(Job):
    """Runs an interpreter; `result` is what was `Seen`.

    Args:
        interpreter: `Interpreter`.
        names: Packages to import.
        folders: Those of the engine and the packages, where they are not the interpreter's own.
    """

    def __init__(self, interpreter, names, folders=None) -> None:
        super().__init__()
        self._interpreter, self._names, self._folders = interpreter, list(names), folders

    def _begin(self) -> None:
        python = self._interpreter
        self._run(python.command(LOOK, *self._names), python.environment(self._folders))

    def poll(self) -> bool:
        """True while it runs.

        Raises:
            Refused: It is no Python, or one that is too old.
        """
        try:
            return super().poll()
        except Refused as refusal:
            if refusal.code == TOO_OLD:
                raise
            reason = self.lines[-1].strip() if self.lines else str(refusal)
            raise Refused(
                _("{program} cannot run as Python: {reason}.").format(
                    program=self._interpreter.program, reason=reason.rstrip(".")
                )
            ) from refusal

    def _answered(self) -> bool:
        if not self._engine.result:
            raise Refused(_("It says nothing."))
        seen = Seen(self._engine.result)
        if seen.version < OLDEST:
            raise Refused(
                _("{program} is Python {version}; the engine needs 3.10 or later.").format(
                    program=self._interpreter.program, version=".".join(map(str, seen.version))
                ),
                code=TOO_OLD,
            )
        self.result = seen
        return False
