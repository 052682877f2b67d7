"""Which labels gain when only their largest part is kept, chosen on held-out predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from e2enet.data.datasets.labels import Structures
from e2enet.evaluation.evaluate import read_pair
from e2enet.evaluation.metrics.overlap import Counts, mean
from e2enet.evaluation.pairs import Pair
from e2enet.events import Reporter
from e2enet.inference.case.components import keep_largest


@dataclass(frozen=True)
class Choice:
    """One label, with and without its smaller parts.

    Args:
        value: of the label.
        before, after: mean Dice over the cases.
    """

    value: int
    before: float
    after: float

    @property
    def keep_largest(self) -> bool:
        """Whether only the largest part is to be kept: no change is no reason."""
        return self.after > self.before


def choose_postprocessing(
    pairs: Sequence[Pair], structures: Structures, *, reporter: Reporter | None = None
) -> dict[str, Choice]:
    """Compare the mean Dice of each label with that of its largest connected part.

    nnU-Net (Isensee et al., Nature Methods 2021) decides so for each label, after it has tried the
    foreground as a whole, which is left out here: structures that touch nothing are common.

    Args:
        pairs: predictions of cases that the predicting model has not seen, and their references.
        structures: what to compare; regions of several values are left out.
        reporter: gets progress as stage "post-processing".

    Returns:
        Structure -> choice.
    """
    reporter = reporter or Reporter()
    single = {name: values[0] for name, values in structures.values.items() if len(values) == 1}
    before: dict[str, list[float]] = {name: [] for name in single}
    after: dict[str, list[float]] = {name: [] for name in single}
    for done, pair in enumerate(pairs):
        reporter.progress("post-processing", done, len(pairs))
        prediction, reference = read_pair(pair, structures)
        for name, value in single.items():
            wanted = reference.array == value
            before[name].append(Counts.of(prediction.array == value, wanted).dice)
            cleaned = prediction.array.copy()
            keep_largest(cleaned, value)
            after[name].append(Counts.of(cleaned == value, wanted).dice)
    reporter.progress("post-processing", len(pairs), len(pairs))
    return {name: Choice(single[name], mean(before[name]), mean(after[name])) for name in single}
