"""Two models on the same cases: is the difference more than chance, and how large is it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from e2enet.evaluation.evaluate import TOLERANCE, Evaluation, evaluate
from e2enet.evaluation.metrics.measures import METRICS
from e2enet.evaluation.pairs import listed
from e2enet.events import BadInput, Reporter

_EXACT = 25  # pairs up to which every sign pattern is counted


@dataclass(frozen=True)
class Difference:
    """One metric of the first model against the second's.

    Args:
        cases: in which both have a value.
        first, second: means over these cases.
        p: two-sided, Wilcoxon's signed-rank test; NaN where no case differs.
        effect: matched-pairs rank-biserial correlation, -1 to 1: above 0 where the first has the
            larger values (which is worse for a distance).
        wins, losses: cases in which the first's value is larger, and smaller.
    """

    cases: int
    first: float
    second: float
    p: float
    effect: float
    wins: int
    losses: int

    @property
    def mean_difference(self) -> float:
        """First minus second."""
        return self.first - self.second


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    references: str | os.PathLike[str],
    *,
    tolerance: float = TOLERANCE,
    tolerances: Mapping[str, float] | None = None,
    workers: int | None = 0,
    reporter: Reporter | None = None,
) -> dict[str, dict[str, Difference]]:
    """Compare two folders of predictions, case by case, with the same references.

    Args:
        first, second: folders of label maps.
        references: folder; every case of it is needed in both.
        tolerance, tolerances, workers, reporter: as `evaluate`.

    Returns:
        Structure (and "mean" over a case's structures) -> metric -> difference.

    Raises:
        BadInput: as `evaluate`; fewer than two cases.
    """
    both = [
        evaluate(
            folder,
            references,
            tolerance=tolerance,
            tolerances=tolerances,
            workers=workers,
            reporter=reporter,
        )
        for folder in (first, second)
    ]
    if len(both[0].cases) < 2:
        raise BadInput(
            f"{references} holds one case; two models are compared over several.",
            help="Give folders with the predictions of several cases.",
            code="too-few-cases",
        )
    if both[0].names != both[1].names:
        apart = sorted(set(both[0].names) ^ set(both[1].names))
        raise BadInput(
            f"Only one of {first} and {second} has the label {listed(apart)}.",
            help="Put the dataset.json that names the labels beside the references.",
            code="unknown-label",
        )
    return {
        name: {metric: _difference(both, name, metric) for metric in METRICS}
        for name in [*both[0].names, "mean"]
    }


def to_dict(found: Mapping[str, Mapping[str, Difference]]) -> dict[str, Any]:
    """For JSON; NaN becomes null."""
    return {
        name: {
            metric: {
                key: None if isinstance(value, float) and math.isnan(value) else value
                for key, value in asdict(one).items()
            }
            for metric, one in differences.items()
        }
        for name, differences in found.items()
    }


def signed_rank(differences: Sequence[float]) -> tuple[float, float]:
    """Wilcoxon's signed-rank test, two-sided (Wilcoxon, Biometrics Bulletin 1945).

    Zeros are dropped and ties share their mean rank. Up to 25 differences every pattern of signs
    is counted, so that ties are exact too; above, the normal approximation with its correction for
    ties is used.

    Args:
        differences: first minus second, one a case.

    Returns:
        p, and the matched-pairs rank-biserial correlation (Kerby, Comprehensive Psychology 2014);
        both NaN where nothing differs.
    """
    values = np.array([value for value in differences if value != 0], float)
    if not values.size:
        return math.nan, math.nan
    ranks, ties = _ranks(np.abs(values))
    total = float(ranks.sum())
    positive = float(ranks[values > 0].sum())
    effect = (2 * positive - total) / total
    if values.size <= _EXACT:
        return _exact(ranks, positive), effect
    n = values.size
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((ties**3 - ties).sum()) / 48
    z = (positive - total / 2) / math.sqrt(variance)
    return math.erfc(abs(z) / math.sqrt(2)), effect


def _exact(ranks: np.ndarray, positive: float) -> float:
    """Share of all sign patterns whose rank sum is as far from the middle; ranks can be halves."""
    doubled = np.rint(2 * ranks).astype(int)
    ways = np.zeros(doubled.sum() + 1)
    ways[0] = 1
    for rank in doubled:
        ways[rank:] = ways[rank:] + ways[:-rank]
    middle = doubled.sum() / 2
    far = np.abs(np.arange(ways.size) - middle) >= abs(2 * positive - middle) - 1e-9
    return float(ways[far].sum() / ways.sum())


def _ranks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks from 1, ties with their mean; and how many share each value."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse], counts


def _difference(both: Sequence[Evaluation], name: str, metric: str) -> Difference:
    pairs = []
    for case in both[0].cases:
        one, other = (
            found.of_case(case, metric) if name == "mean" else found.value(case, name, metric)
            for found in both
        )
        if not (math.isnan(one) or math.isnan(other)):
            pairs.append((one, other))
    table = np.array(pairs, float).reshape(-1, 2)
    # What differs by rounding alone is a tie.
    apart = np.round(table[:, 0] - table[:, 1], 9)
    p, effect = signed_rank(apart.tolist())
    means = table.mean(axis=0) if len(table) else (math.nan, math.nan)
    return Difference(
        len(table),
        float(means[0]),
        float(means[1]),
        p,
        effect,
        int((apart > 0).sum()),
        int((apart < 0).sum()),
    )
