"""From an evaluation to the results in a model's own bundle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2enet.bundle import Bundle, find_model
from e2enet.bundle.results import record_folds, record_results
from e2enet.data.images.naming import image_stem
from e2enet.evaluation.evaluate import Evaluation
from e2enet.evaluation.report.tables import to_dict
from e2enet.events import BadInput


def open_to_record(name_or_path: str | os.PathLike[str]) -> Bundle:
    """The bundle that results are to be written into.

    Raises:
        BadInput: There is none, or it is a zip.
    """
    path = find_model(name_or_path)
    if path.is_file():
        raise BadInput(
            f"{path} is a zip; results are written into a model's folder.",
            help="Unpack it first.",
            code="zipped-model",
        )
    return Bundle.open(path)


def record_evaluation(bundle: Bundle, found: Evaluation, references: Path) -> Bundle:
    """Write the means of an evaluation of a model's own predictions into its bundle.

    Args:
        bundle: Of `open_to_record`.
        found: Its pairs hold predictions as `e2enet segment` wrote them, manifests beside them.
        references: The folder or file they were compared with.

    Raises:
        BadInput: As `record_results`.
    """
    record = to_dict(found)
    return record_results(
        bundle,
        references=_named(references),
        manifests={
            pair.case: pair.prediction.with_name(f"{image_stem(pair.prediction)}.manifest.json")
            for pair in found.pairs
        },
        by_label={name: _means(metrics) for name, metrics in record["mean_by_label"].items()},
        mean=_means(record["mean"]),
    )


def record_cross_validation(bundle: Bundle, found: Evaluation, folds: Sequence[Bundle]) -> Bundle:
    """Write the means of a cross-validation into the bundle of a model like its folds.

    Args:
        bundle: Of `open_to_record`.
        found: Of the held-out predictions of all folds.
        folds: Their models.

    Raises:
        BadInput: As `record_folds`.
    """
    record = to_dict(found)
    return record_folds(
        bundle,
        folds,
        references=_named(found.pairs[0].reference.parent),
        cases=[pair.case for pair in found.pairs],
        by_label={name: _means(metrics) for name, metrics in record["mean_by_label"].items()},
        mean=_means(record["mean"]),
    )


def _named(references: Path) -> str:
    """A dataset's folder and the folder in it."""
    where = references.resolve()
    return f"{where.parent.name}/{where.name}"


def _means(metrics: dict[str, Any]) -> dict[str, float | None]:
    return {metric: interval["mean"] for metric, interval in metrics.items()}
