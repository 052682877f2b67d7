"""Label maps against references: every metric for every case and structure."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from e2enet.data.datasets.labels import Structures
from e2enet.data.images.volume import Volume, check_same_grid, read_label
from e2enet.data.parallel import map_cases
from e2enet.evaluation.metrics.measures import Measured, measure
from e2enet.evaluation.metrics.overlap import mean
from e2enet.evaluation.pairs import Pair, find_pairs, find_structures
from e2enet.events import BadInput, Reporter

TOLERANCE = 1.0  # mm
_DRAWS = 2000
_SEED = 12345


@dataclass(frozen=True)
class Interval:
    """A mean, and its 95 % interval; NaN where nothing is there to average, or only one case."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """Metrics of several cases.

    Args:
        structures: what was compared.
        pairs: the files.
        cases: case -> structure -> what was measured.
        tolerances: of the NSD, by structure, in mm.
    """

    structures: Structures
    pairs: list[Pair]
    cases: dict[str, dict[str, Measured]]
    tolerances: dict[str, float]

    @property
    def names(self) -> list[str]:
        """The structures' names."""
        return list(self.structures.values)

    def value(self, case: str, structure: str, metric: str) -> float:
        """One number; NaN where the metric has no value."""
        return self.cases[case][structure].values[metric]

    def of_case(self, case: str, metric: str = "Dice") -> float:
        """Mean over the structures of a case."""
        return mean(found.values[metric] for found in self.cases[case].values())

    def of_structure(self, structure: str, metric: str = "Dice") -> float:
        """Mean over the cases of a structure."""
        return mean(found[structure].values[metric] for found in self.cases.values())

    def mean(self, metric: str = "Dice") -> float:
        """Mean of the structures' means."""
        return mean(self.of_structure(name, metric) for name in self.names)

    def intervals(self, metric: str) -> dict[str | None, Interval]:
        """Mean and bootstrap interval of each structure, and (None) of the mean over structures.

        Percentile bootstrap (Efron & Tibshirani, 1993) over cases.
        """
        table = np.array(
            [[found[name].values[metric] for name in self.names] for found in self.cases.values()]
        )
        means = np.concatenate([_resampled(table), [_nanmean(table, axis=0)]])
        columns = np.column_stack([means, _nanmean(means, axis=1)])
        return {
            name: _interval(column, len(table))
            for name, column in zip([*self.names, None], columns.T, strict=True)
        }


def evaluate(
    predictions: str | os.PathLike[str],
    references: str | os.PathLike[str],
    *,
    tolerance: float = TOLERANCE,
    tolerances: Mapping[str, float] | None = None,
    workers: int | None = 0,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Compare a label map with its reference, or a folder of them with a folder of references.

    Files of two folders belong together by name, whatever their format. Structures are those of
    dataset.json beside the references' folder (regions and an ignore label as nnU-Net writes
    them; what its "missing_labels" says that nobody drew in a case is not measured there), else
    every value that occurs.

    Args:
        predictions: File or folder.
        references: File or folder, as `predictions`.
        tolerance: of the NSD, in mm.
        tolerances: other tolerances, by structure.
        workers: processes; each holds one case. 0 means in this one, None one a core.
        reporter: Receives progress "evaluate", and a warning about predictions without reference.

    Raises:
        BadInput: A prediction is missing, a file cannot be read, grids differ, a value that
            dataset.json does not name, a tolerance for an unknown structure.
    """
    reporter = reporter or Reporter()
    return evaluate_pairs(
        find_pairs(Path(predictions), Path(references), reporter),
        find_structures(Path(references)),
        tolerance=tolerance,
        tolerances=tolerances,
        workers=workers,
        reporter=reporter,
    )


def evaluate_pairs(
    pairs: Sequence[Pair],
    structures: Structures | None,
    *,
    tolerance: float = TOLERANCE,
    tolerances: Mapping[str, float] | None = None,
    workers: int | None = 0,
    reporter: Reporter | None = None,
) -> Evaluation:
    """As `evaluate`, for files that are already paired; without structures, every value counts."""
    reporter = reporter or Reporter()
    own = dict(tolerances or {})
    found = map_cases(
        partial(_measure_case, structures, tolerance, own),
        pairs,
        workers=workers,
        reporter=reporter,
        stage="evaluate",
    )
    if structures is None:
        values = sorted({int(name) for _, case in found for name in case})
        if not values:
            raise BadInput(
                "Nothing is labelled in the predictions and the references, and no dataset.json "
                "says what to look for.",
                help="Put the dataset.json of the references into their folder or beside it.",
                code="no-structures",
            )
        structures = Structures({str(value): (value,) for value in values})
    if unknown := sorted(set(own) - set(structures.values)):
        raise BadInput(
            f"A tolerance is given for {unknown[0]}, but the structures are "
            f"{', '.join(structures.values)}.",
            code="unknown-structure",
        )
    cases = {
        pair.case: {
            name: case[name]
            if name in case
            else _absent(size, judged=name in structures.judged(pair.case))
            for name in structures.values
        }
        for pair, (size, case) in zip(pairs, found, strict=True)
    }
    return Evaluation(
        structures,
        list(pairs),
        cases,
        {name: own.get(name, tolerance) for name in structures.values},
    )


def read_pair(pair: Pair, structures: Structures | None) -> tuple[Volume, Volume, int]:
    """Prediction and reference of a case, and how many voxels the reference ignores.

    These are background in both. Names are paths, which differ where files are paired by name.

    Raises:
        BadInput: a file cannot be read, grids differ, a value that dataset.json does not name.
    """
    prediction, reference = (
        replace(read_label(path), name=str(path)) for path in (pair.prediction, pair.reference)
    )
    check_same_grid(prediction, reference)
    if structures is not None:
        for volume, path in ((prediction, pair.prediction), (reference, pair.reference)):
            unknown = sorted(set(_occurring(volume.array)) - structures.known)
            if unknown:
                raise BadInput(
                    f"{path} holds the label {', '.join(map(str, unknown))}, which dataset.json "
                    "does not name.",
                    help="Correct the label map, or name the label in dataset.json.",
                    code="unknown-label",
                )
        if structures.ignore is not None:
            ignored = reference.array == structures.ignore
            prediction.array[ignored] = 0
            reference.array[ignored] = 0
            return prediction, reference, int(np.count_nonzero(ignored))
    return prediction, reference, 0


def _measure_case(
    structures: Structures | None, tolerance: float, own: Mapping[str, float], pair: Pair
) -> tuple[int, dict[str, Measured]]:
    predicted, wanted, ignored = read_pair(pair, structures)
    prediction, reference = predicted.array, wanted.array
    if structures is None:
        values = sorted({*_occurring(prediction), *_occurring(reference)} - {0})
        structures = Structures({str(value): (value,) for value in values})
    measured = {
        name: measure(
            np.isin(prediction, values),
            np.isin(reference, values),
            wanted.grid.spacing_zyx,
            tolerance=own.get(name, tolerance),
        )
        for name, values in structures.judged(pair.case).items()
    }
    return prediction.size - ignored, {
        name: replace(one, counts=replace(one.counts, tn=one.counts.tn - ignored))
        for name, one in measured.items()
    }


def _absent(size: int, *, judged: bool) -> Measured:
    """A structure that only other cases have (judged), or that was drawn in them alone."""
    nothing = np.zeros(1, bool)
    measured = measure(nothing, nothing, (1.0,), tolerance=0)
    volume = 0.0 if judged else math.nan
    return Measured(replace(measured.counts, tn=size), volume, volume, measured.values)


def _occurring(labels: np.ndarray) -> list[int]:
    """The values of a label map; counting is faster than sorting."""
    return [int(value) for value in np.flatnonzero(np.bincount(labels.ravel()))]


def _resampled(table: np.ndarray) -> np.ndarray:
    """Means (draws, structures) of cases drawn with replacement."""
    random = np.random.default_rng(_SEED)
    means = np.empty((_DRAWS, table.shape[1]))
    for first in range(0, _DRAWS, 100):  # bounded memory, however many cases
        drawn = random.integers(0, len(table), (100, len(table)))
        means[first : first + 100] = _nanmean(table[drawn], axis=1)
    return means


def _nanmean(values: np.ndarray, axis: int) -> np.ndarray:
    """As numpy's, without its warning about nothing but NaN."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _interval(column: np.ndarray, cases: int) -> Interval:
    """Of a column of resampled means whose last entry is the mean of the cases themselves."""
    known = column[:-1][~np.isnan(column[:-1])]
    if not known.size or cases < 2:
        return Interval(float(column[-1]), math.nan, math.nan)
    low, high = np.percentile(known, [2.5, 97.5])
    return Interval(float(column[-1]), float(low), float(high))
