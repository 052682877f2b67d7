"""A folder of cases: one after the other; a bad one does not stop the others, a kill loses one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2enet.bundle import Bundle
from e2enet.events import BadInput, Reporter
from e2enet.files import remove_litter
from e2enet.inference.case.finished import find_finished
from e2enet.inference.case.inputs import InputCase, find_cases
from e2enet.inference.case.loading import parse_rois
from e2enet.inference.case.result import Outputs
from e2enet.inference.segmenter import PathLike, Segmenter

if TYPE_CHECKING:
    from e2enet.inference.sliding_window.predictor import Runtime

# What the next case would meet as well.
_FATAL = (
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
    resume: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Segment every case of a folder into OUTPUT/CASE.nii.gz.

    Args:
        folder: Images named as nnU-Net does (`CASE_0000.nii.gz` …), or one file a case for a model
            with one channel.
        output: Folder, made if it is missing; not the input folder.
        model, device, tta, roi, save_probabilities, runtime, reporter: As
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
    folder, target = Path(folder), Path(output)
    segmenter = Segmenter(model, device=device, tta=tta, runtime=runtime, reporter=reporter)
    cases = find_cases(folder, len(segmenter.bundle.channels))
    if target.exists() and not target.is_dir():
        raise BadInput(
            f"{target} is a file, but the input is a folder of {len(cases)} cases.",
            help="Name a folder for their segmentations.",
            code="output-not-folder",
        )
    if target.exists() and os.path.samefile(folder, target):
        raise BadInput(
            f"The output folder {target} is the input folder.",
            help="Choose another folder; inputs are never overwritten.",
            code="output-is-input",
        )
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    if resume:
        remove_litter(target)
        done = _finished(cases, segmenter, target, roi, save_probabilities)
    known = {one["case"] for one in done}
    waiting = [case for case in cases if case.name not in known]
    for number, case in enumerate(waiting, len(done)):
        reporter.progress("cases", number, len(cases))
        path = _output(target, case)
        try:
            result = segmenter.run(
                case, output=path, roi=roi, save_probabilities=save_probabilities
            )
        except BadInput as error:
            if error.code in _FATAL:
                raise
            failed.append(
                {
                    "case": case.name,
                    "code": error.code,
                    "message": error.message,
                    "help": error.help,
                }
            )
            reporter.warning("case-failed", f"{case.name} was left out: {error.message}")
            continue
        done.append({"case": case.name, **result.describe(Outputs.of(path))})
        reporter.metric("segmented", case=case.name, volumes_ml=result.volumes_ml)
    reporter.progress("cases", len(cases), len(cases))
    return {"cases": sorted(done, key=lambda one: str(one["case"])), "failed": failed}


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
        outputs = Outputs.of(_output(target, case))
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


def _output(target: Path, case: InputCase) -> Path:
    return target / f"{case.name}.nii.gz"
