"""Dice overlap of label maps with references.

Dice, Ecology 1945: twice the voxels that both call a label over the sum of those that either does.
A label that both leave out has no Dice (NaN) and is left out of every mean; one that only one of
them has counts 0.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from e2enet.data.images.naming import image_stem, is_image_name
from e2enet.data.images.volume import check_same_grid, read_label
from e2enet.events import BadInput, Reporter


def dice(prediction: np.ndarray, reference: np.ndarray, values: Iterable[int]) -> dict[int, float]:
    """Dice of each label value; NaN where neither array holds it.

    Args:
        prediction, reference: Whole numbers, of one shape (D, H, W).
        values: Labels to compare.

    Example:
        >>> dice(np.array([1, 1, 0]), np.array([1, 0, 0]), [1, 2])
        {1: 0.6666666666666666, 2: nan}
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"shapes differ: {prediction.shape} and {reference.shape}")
    result = {}
    for value in values:
        a, b = prediction == value, reference == value
        total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
        both = int(np.count_nonzero(a & b))
        result[int(value)] = 2 * both / total if total else math.nan
    return result


@dataclass(frozen=True)
class Evaluation:
    """Dice of several cases.

    Attributes:
        names: Label value -> name.
        cases: Case -> {label value -> Dice, NaN where neither has the label}.
    """

    names: dict[int, str]
    cases: dict[str, dict[int, float]]

    def of_case(self, case: str) -> float:
        """Mean over the labels of a case."""
        return mean(self.cases[case].values())

    def of_label(self, value: int) -> float:
        """Mean of a label over the cases."""
        return mean(scores[value] for scores in self.cases.values())

    @property
    def mean(self) -> float:
        """Mean of the labels' means."""
        return mean(self.of_label(value) for value in self.names)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; NaN becomes null."""

        def named(scores: dict[int, float]) -> dict[str, float | None]:
            return {self.names[value]: _finite(score) for value, score in scores.items()}

        return {
            "metric": "dice",
            "labels": {name: value for value, name in self.names.items()},
            "cases": {
                case: {"labels": named(scores), "mean": _finite(self.of_case(case))}
                for case, scores in self.cases.items()
            },
            "mean_by_label": named({value: self.of_label(value) for value in self.names}),
            "mean": _finite(self.mean),
        }


def evaluate(
    predictions: str | os.PathLike[str],
    references: str | os.PathLike[str],
    *,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Compare a label map with its reference, or a folder of them with a folder of references.

    Files of two folders belong together by name, whatever their format. Labels are those of
    dataset.json beside the references' folder, else all that occur.

    Args:
        predictions: File or folder.
        references: File or folder, as `predictions`.
        reporter: Receives progress "evaluate", and a warning about predictions without reference.

    Raises:
        BadInput: A prediction is missing, a file cannot be read, or grids differ.
    """
    reporter = reporter or Reporter()
    pairs = _pairs(Path(predictions), Path(references), reporter)
    names = _label_names(Path(references))
    found: dict[str, dict[int, float]] = {}
    seen: set[int] = set()
    for number, (case, prediction_path, reference_path) in enumerate(pairs):
        reporter.progress("evaluate", number, len(pairs))
        prediction, reference = read_label(prediction_path), read_label(reference_path)
        check_same_grid(prediction, reference)
        present = set(np.unique(prediction.array)) | set(np.unique(reference.array))
        present = {int(value) for value in present} - {0}
        seen |= present
        found[case] = dice(prediction.array, reference.array, sorted(present | set(names)))
    reporter.progress("evaluate", len(pairs), len(pairs))
    values = sorted(seen | set(names))
    return Evaluation(
        {value: names.get(value, str(value)) for value in values},
        {
            case: {value: scores.get(value, math.nan) for value in values}
            for case, scores in found.items()
        },
    )


def mean(scores: Iterable[float]) -> float:
    """Mean without NaN; NaN of nothing."""
    defined = [score for score in scores if not math.isnan(score)]
    return sum(defined) / len(defined) if defined else math.nan


def _pairs(predictions: Path, references: Path, reporter: Reporter) -> list[tuple[str, Path, Path]]:
    for path in (predictions, references):
        if not path.exists():
            raise BadInput(f"{path} does not exist.", code="missing-file")
    if predictions.is_dir() != references.is_dir():
        raise BadInput(
            f"{predictions} and {references} are a file and a folder.",
            help="Give two files or two folders.",
            code="file-and-folder",
        )
    if not predictions.is_dir():
        return [(image_stem(references), predictions, references)]
    have, want = _files(predictions), _files(references)
    if not want:
        raise BadInput(f"{references} holds no label maps.", code="no-images")
    missing = [name for name in want if name not in have]
    if missing:
        raise BadInput(
            f"{predictions} lacks {len(missing)} of {len(want)} cases: {_listed(missing)}.",
            help="Segment them too, or move their references away.",
            code="missing-prediction",
        )
    extra = [name for name in have if name not in want]
    if extra:
        reporter.warning("no-reference", f"Without a reference, and left out: {_listed(extra)}.")
    return [(name, have[name], want[name]) for name in sorted(want)]


def _files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_image_name(path):
            continue
        stem = image_stem(path)
        if stem in files:
            raise BadInput(
                f"{folder} holds {stem} twice: {files[stem].name} and {path.name}.",
                help="Keep one of them.",
                code="ambiguous-case",
            )
        files[stem] = path
    return files


def _label_names(references: Path) -> dict[int, str]:
    """Value -> name from dataset.json in or beside the references' folder, if there is one."""
    folder = references if references.is_dir() else references.parent
    for path in (folder / "dataset.json", folder.parent / "dataset.json"):
        try:
            labels = json.loads(path.read_text(encoding="utf-8-sig"))["labels"]
            names = {value: name for name, value in labels.items() if value != 0}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if all(isinstance(value, int) for value in names):
            return names
    return {}


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
