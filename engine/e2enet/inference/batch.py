"""A folder of cases: one after the other; a bad one does not stop the others, a kill loses one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2enet.bundle import Bundle
from e2enet.events import BadInput, Reporter
from e2enet.files import remove_litter
from e2enet.inference.case.finished import find_finished
from e2enet.inference.case.inputs import InputCase, find_cases
from e2enet.inference.case.loading import parse_rois
from e2enet.inference.case.result import Outputs, Result
from e2enet.inference.segmenter import PathLike, Segmenter

if TYPE_CHECKING:
    from e2enet.inference.sliding_window.predictor import Precision, Runtime

# What the next case would meet as well.
FATAL = (
    "no-device",
    "damaged-model",
    "bad-locator",
    "bad-roi",
    "disk-full",
    "output-not-writable",
)


def segment_folder(
    folder: str | os.PathLike[str],
    model: PathLike | Bundle | Sequence[PathLike | Bundle],
    *,
    output: str | os.PathLike[str],
    device: str = "auto",
    tta: bool = False,
    roi: Any = None,
    save_probabilities: bool = False,
    runtime: Runtime = "sparse",
    precision: Precision | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Segment every case of a folder into OUTPUT/CASE.nii.gz.

    Args:
        folder: Images named as nnU-Net does (`CASE_0000.nii.gz` …), or one file a case for a model
            with one channel.
        output: Folder, made if it is missing; not the input folder.
        model, device, tta, roi, save_probabilities, runtime, precision, reporter: As
            `e2enet.inference.segment`; progress also comes as stage "cases".
        resume: Leave out the cases that OUTPUT has results of already, made of the same voxels by
            the same models with the same options; those that failed are tried again.

    Returns:
        {"cases": what was written for each, "failed": [{"case", "code", "message", "help"}]}; a
        case that was left out has "resumed" as well. A failed case is also a warning.

    Raises:
        BadInput: Nothing can be done at all: no images, no such model, an unusable output folder.
    """
    reporter = reporter or Reporter()
    segmenter = Segmenter(
        model, device=device, tta=tta, runtime=runtime, precision=precision, reporter=reporter
    )
    batch = Batch(len(segmenter.bundle.channels), Path(folder), Path(output))
    if resume:
        batch.leave_out_finished(segmenter, roi, save_probabilities)
    for case in batch.waiting():
        batch.tell(reporter)
        batch.take(segment_case(segmenter, case, batch.target, roi, save_probabilities), reporter)
    return batch.outcome(reporter)


def segment_case(
    segmenter: Segmenter, case: InputCase, target: Path, roi: Any, save_probabilities: bool
) -> dict[str, Any]:
    """Segment one case of a batch; what was written for it, or why nothing was ("code", …).

    Raises:
        BadInput: Whatever the next case would meet as well.
    """
    path = output_of(target, case)
    options = {"roi": roi, "save_probabilities": save_probabilities}
    return told(case, path, lambda: segmenter.run(case, output=path, **options))


def told(
    case: InputCase, path: Path, work: Callable[[], Result], fatal: Sequence[str] = FATAL
) -> dict[str, Any]:
    """What `work` wrote for a case at `path`, or why nothing was; a `fatal` code is raised."""
    try:
        result = work()
    except BadInput as error:
        if error.code in fatal:
            raise
        failure = {"code": error.code, "message": error.message, "help": error.help}
        return {"case": case.name, **failure}
    return {"case": case.name, **result.describe(Outputs.of(path))}


class Batch:
    """The cases of a folder and what has become of them.

    Args:
        channels: Of the model.
        folder, target: Images and output of `segment_folder`.

    Raises:
        BadInput: No images, or an unusable output folder.
    """

    def __init__(self, channels: int, folder: Path, target: Path) -> None:
        self.target = target
        self.cases = find_cases(folder, channels)
        self.done: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        if target.exists() and not target.is_dir():
            raise BadInput(
                f"{target} is a file, but the input is a folder of {len(self.cases)} cases.",
                help="Name a folder for their segmentations.",
                code="output-not-folder",
            )
        if target.exists() and os.path.samefile(folder, target):
            raise BadInput(
                f"The output folder {target} is the input folder.",
                help="Choose another folder; inputs are never overwritten.",
                code="output-is-input",
            )

    def leave_out_finished(self, segmenter: Segmenter, roi: Any, save_probabilities: bool) -> None:
        """Count what an earlier process did, as `segmenter` would do it, as done."""
        remove_litter(self.target)
        self.done = _finished(self.cases, segmenter, self.target, roi, save_probabilities)

    def waiting(self) -> list[InputCase]:
        """What is not done yet."""
        known = {one["case"] for one in self.done}
        return [case for case in self.cases if case.name not in known]

    def tell(self, reporter: Reporter) -> None:
        """How many have had their turn."""
        reporter.progress("cases", len(self.done) + len(self.failed), len(self.cases))

    def take(self, answer: dict[str, Any], reporter: Reporter) -> None:
        """Take what `segment_case` answered."""
        if "code" in answer:
            self.failed.append(answer)
            reporter.warning("case-failed", f"{answer['case']} was left out: {answer['message']}")
            return
        self.done.append(answer)
        volumes = {label["name"]: label["volume_ml"] for label in answer["labels"]}
        reporter.metric("segmented", case=answer["case"], volumes_ml=volumes)

    def outcome(self, reporter: Reporter) -> dict[str, list[dict[str, Any]]]:
        """As `segment_folder` returns it."""
        self.tell(reporter)
        return {"cases": sorted(self.done, key=lambda one: str(one["case"])), "failed": self.failed}


def _finished(
    cases: Sequence[InputCase],
    segmenter: Segmenter,
    target: Path,
    roi: Any,
    save_probabilities: bool,
) -> list[dict[str, Any]]:
    """What is said of the cases that are done already."""
    weights = [bundle.weights_sha256() for bundle in segmenter.ensemble.bundles]
    rois = parse_rois(roi, segmenter.bundle)
    options = segmenter.options([one.text for one in rois], save_probabilities, weights)
    done = []
    for case in cases:
        outputs = Outputs.of(output_of(target, case))
        found = find_finished(
            case,
            outputs,
            bundle=segmenter.bundle,
            weights_sha256=weights[0],
            options=options,
            rois=rois,
        )
        if found is not None:
            done.append({"case": case.name, **found, "resumed": True})
    return done


def output_of(target: Path, case: InputCase) -> Path:
    """The segmentation of a case."""
    return target / f"{case.name}.nii.gz"
