"""Every fold of a dataset trained and its held-out cases predicted: `e2enet cross-validate`.

OUTPUT holds `fold_0` … (bundles, each with its run beside it, as `e2enet train` makes them),
`held_out/CASE.nii.gz` (each case as the model that has not seen it segments it), `report/` (their
evaluation), `cross_validation.json` and `ensemble.json`, with which `e2enet segment --model OUTPUT`
averages the folds.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2enet.bundle import Bundle
from e2enet.data.datasets.raw import Dataset, read_dataset
from e2enet.data.datasets.splits import Split, all_splits
from e2enet.evaluation.evaluate import Evaluation, evaluate_pairs
from e2enet.evaluation.pairs import Pair
from e2enet.evaluation.postprocessing import Choice, PostProcessing, choose_postprocessing
from e2enet.evaluation.report.page import write_report
from e2enet.events import BadInput, Reporter
from e2enet.files import move_folder, output_errors, scratch_folder, write_atomic
from e2enet.inference.case.finished import find_finished
from e2enet.inference.case.inputs import InputCase
from e2enet.inference.case.result import Outputs
from e2enet.inference.ensemble import ENSEMBLE
from e2enet.inference.segmenter import Segmenter
from e2enet.training.train import train

SUMMARY, STARTED = "cross_validation.json", "dataset.txt"


@dataclass(frozen=True)
class CrossValidated:
    """How a call of `cross_validate` ended.

    Args:
        state: "finished", or as the fold that was paused or stopped.
        folder: the output.
        evaluation: of the held-out predictions, once finished.
        chosen: the post-processing, once finished.
        folds: the models, once finished.
    """

    state: str
    folder: Path
    evaluation: Evaluation | None = None
    chosen: PostProcessing | None = None
    folds: tuple[Bundle, ...] = ()


def cross_validate(
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> CrossValidated:
    """Train all folds, predict what each holds out, evaluate the predictions together.

    Called again with the same output, it goes on where it was: finished folds and predictions are
    kept, a fold that was interrupted is resumed. With more epochs the folds are trained on, and
    predicted and evaluated anew.

    Args:
        dataset: folder in nnU-Net's raw layout; the folds of its splits_final.json, or five.
        output: folder; made.
        device, workers: as `train`.
        reporter: gets progress as stages "folds", "held-out" and those of training, and the result.
        options: of `train`, but for the fold.

    Raises:
        BadInput: too few cases, a case held out twice, or as `train`.
    """
    reporter = reporter or Reporter()
    folder, info = Path(output), read_dataset(dataset)
    splits = _splits(info)
    _claim(folder, info)
    for number, (_, held_out) in enumerate(splits):
        reporter.progress("folds", number, len(splits))
        bundle = folder / f"fold_{number}"
        resume = bundle.with_name(f"{bundle.name}.run").is_dir()
        done = train(
            dataset,
            bundle,
            fold=str(number),
            resume=resume,
            device=device,
            workers=workers,
            reporter=reporter,
            **options,
        )
        if done.state != "finished":
            return CrossValidated(done.state, folder)
        _predict(info, held_out, bundle, folder / "held_out", device, reporter)
    reporter.progress("folds", len(splits), len(splits))
    return _summarised(info, splits, folder, workers, reporter)


def _splits(info: Dataset) -> list[Split]:
    splits = all_splits(info)
    seen: set[str] = set()
    for _, held_out in splits:
        if twice := sorted(seen & set(held_out)):
            raise BadInput(
                f"The splits_final.json of {info.folder} holds {twice[0]} out twice, so it has two "
                "held-out predictions.",
                help="Let every case be held out in one fold.",
                code="bad-splits",
            )
        seen |= set(held_out)
    if not seen:
        raise BadInput(
            f"The splits_final.json of {info.folder} holds no case out.", code="bad-splits"
        )
    return splits


def _claim(folder: Path, info: Dataset) -> None:
    """Make the output, or make sure that it is a cross-validation of this dataset."""
    mark, name = folder / STARTED, f"{info.folder.resolve()}\n"
    try:
        if folder.exists():
            if mark.is_file() and mark.read_text(encoding="utf-8") == name:
                return
            raise BadInput(
                f"{folder} exists and is no cross-validation of {info.name}.",
                help="Choose another --output.",
                code="exists",
            )
        (folder / "held_out").mkdir(parents=True)
        write_atomic(mark, name)
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be made: {error.strerror or error}.",
            help="Choose an --output in a folder that you may write to.",
            code="output-not-writable",
        ) from error


def _predict(
    info: Dataset,
    names: tuple[str, ...],
    bundle: Path,
    target: Path,
    device: str,
    reporter: Reporter,
) -> None:
    """What is there already of the fold as it is now stays; a fold may have been trained on."""
    segmenter = Segmenter(bundle, device=device)
    weights = segmenter.bundle.weights_sha256()
    options = segmenter.options([], False, [weights])
    images = {case.name: case.images for case in info.cases}
    for done, name in enumerate(names):
        reporter.progress("held-out", done, len(names))
        case, path = InputCase(name, images[name]), target / f"{name}.nii.gz"
        if not find_finished(
            case,
            Outputs.of(path),
            bundle=segmenter.bundle,
            weights_sha256=weights,
            options=options,
            rois=[],
        ):
            segmenter.run(case, output=path)
    reporter.progress("held-out", len(names), len(names))


def _summarised(
    info: Dataset, splits: list[Split], folder: Path, workers: int | None, reporter: Reporter
) -> CrossValidated:
    cases = {case.name: case for case in info.cases}
    structures = info.structures
    pairs = []
    for name in sorted(name for _, held_out in splits for name in held_out):
        label = cases[name].label
        assert label is not None  # read_dataset lists no training case without
        pairs.append(Pair(name, folder / "held_out" / f"{name}.nii.gz", label))
    found = evaluate_pairs(pairs, structures, workers=workers, reporter=reporter)
    chosen = choose_postprocessing(pairs, structures, reporter=reporter)
    with output_errors(folder), scratch_folder(folder) as scratch:
        write_report(scratch / "report", found, reporter)
        move_folder(scratch / "report", folder / "report")
    summary = {
        "dataset": info.name,
        "folds": [
            {"held_out": list(held_out), "dice": _fold_dice(found, held_out)}
            for _, held_out in splits
        ],
        "dice": {name: _number(found.of_structure(name)) for name in found.names},
        "mean_dice": _number(found.mean()),
        "post_processing": {
            "foreground": chosen.foreground and _trial(chosen.foreground),
            "labels": {name: _trial(choice) for name, choice in chosen.structures.items()},
        },
    }
    names = [f"fold_{number}" for number in range(len(splits))]
    together = {
        "models": names,
        "keep_largest": [list(values) for values in chosen.kept],
    }
    write_atomic(folder / SUMMARY, json.dumps(summary, indent=1) + "\n")
    write_atomic(folder / ENSEMBLE, json.dumps(together, indent=1) + "\n")
    reporter.result(state="finished", folder=str(folder), **summary)
    models = tuple(Bundle.open(folder / name) for name in names)
    return CrossValidated("finished", folder, found, chosen, models)


def _trial(choice: Choice) -> dict[str, Any]:
    return {
        "before": _number(choice.before),
        "after": _number(choice.after),
        "keep_largest": choice.keep_largest,
    }


def _fold_dice(found: Evaluation, held_out: tuple[str, ...]) -> dict[str, float | None]:
    part = Evaluation(
        found.structures,
        found.pairs,
        {name: found.cases[name] for name in held_out},
        found.tolerances,
    )
    return {name: _number(part.of_structure(name)) for name in part.names}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
