"""A folder of cases: one after the other, and a bad one does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2enet.bundle import Bundle
from e2enet.events import BadInput, Reporter
from e2enet.inference.case.inputs import find_cases
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
    reporter: Reporter | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Segment every case of a folder into OUTPUT/CASE.nii.gz.

    Args:
        folder: Images named as nnU-Net does (`CASE_0000.nii.gz` …), or one file a case for a model
            with one channel.
        output: Folder, made if it is missing; not the input folder.
        model, device, tta, roi, save_probabilities, runtime, reporter: As
            `e2enet.inference.segment`; progress also comes as stage "cases".

    Returns:
        {"cases": what was written for each, "failed": [{"case", "code", "message", "help"}]}.
        A failed case is also a warning.

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
    for number, case in enumerate(cases):
        reporter.progress("cases", number, len(cases))
        path = target / f"{case.name}.nii.gz"
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
    return {"cases": done, "failed": failed}
