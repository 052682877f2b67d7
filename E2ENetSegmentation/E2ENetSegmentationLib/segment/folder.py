"""A folder of image files: segmented into a folder inside it; the scene has no part in it."""

from dataclasses import dataclass, field
from pathlib import Path

from E2ENetSegmentationLib.engine.job import Job
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.segment.results import Row, usualOf

SOME_FAILED = "cases-failed"  # the engine's code where the other cases are done


@dataclass
class FolderRequest:
    """What is to be segmented, and how.

    Attributes:
        folder: Holds the images.
        model: A `Model` of the store.
        device: "auto", "cpu", "cuda:N" or "mps".
        mirroring: As the option of the tab.
    """

    folder: Path
    model: object
    device: str = "auto"
    mirroring: bool = False
    volumeNodes: tuple = ()  # of the scene: none

    @property
    def title(self) -> str:
        """What a person calls it."""
        return self.folder.name

    @property
    def output(self) -> Path:
        """Beside the files, in a folder of its own: a result is never taken for an image."""
        return self.folder / f"{self.model.name}-segmentations"

    def toArguments(self) -> list:
        """The command line of the engine."""
        arguments = ["segment", str(self.folder), "--model", str(self.model.path)]
        arguments += ["--output", str(self.output), "--device", self.device, "--resume"]
        return [*arguments, "--tta" if self.mirroring else "--no-tta"]


@dataclass
class CaseResult:
    """What came of one case; what it has in common with a `SegmentResult`."""

    title: str
    rows: list
    doubt: str = ""
    warnings: list = field(default_factory=list)
    segmentationNode: object = None  # of the scene: none
    volumeNode: object = None

    @property
    def empty(self) -> bool:
        return not any(row.millilitres for row in self.rows)


@dataclass
class FolderResult:
    """What came of a folder.

    Attributes:
        output: Where the results lie.
        cases: A `CaseResult` each.
        failed: (name, sentence) of each that came to nothing.
        record: Device and seconds of what was computed now.
        title: Name of the folder.
    """

    title: str
    output: Path
    cases: list
    failed: list
    record: dict


class FolderRun(Job):
    """One run of `e2enet segment FOLDER`; goes on where an earlier one stopped.

    Args:
        request: What to do.
        onEvent: Called with each event of the engine.
    """

    def __init__(self, request: FolderRequest, onEvent=None) -> None:
        super().__init__(onEvent)
        self.request = request

    def poll(self) -> bool:
        """As `Job.poll`; cases that failed are part of the result."""
        try:
            return super().poll()
        except Refused as refusal:
            if refusal.code != SOME_FAILED:
                raise
            return self._answered()

    def _begin(self) -> None:
        self._ask(self.request.toArguments())

    def _answered(self) -> bool:
        found = self._engine.result
        now = [case for case in found["cases"] if not case.get("resumed")]
        record = {}
        if now:
            device = {"used": now[-1]["device"]}
            record = {"device": device, "seconds": sum(case["seconds"] for case in now)}
        self.result = FolderResult(
            title=self.request.title,
            output=self.request.output,
            cases=[self._case(case) for case in found["cases"]],
            failed=[(case["case"], case["message"]) for case in found["failed"]],
            record=record,
        )
        return False

    def _case(self, case: dict) -> CaseResult:
        labels = self.request.model.labels
        rows = [
            Row(
                str(label["name"]),
                float(label["volume_ml"]),
                usualOf(str(label["name"]), labels),
                bool(label.get("doubtful")),
            )
            for label in case["labels"]
        ]
        return CaseResult(str(case["case"]), rows, "doubtful" if case["doubtful"] else "")
