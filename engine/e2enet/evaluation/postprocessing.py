"""Which structures gain when only their largest part is kept, chosen on held-out predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from e2enet.data.datasets.labels import Structures
from e2enet.evaluation.evaluate import read_pair
from e2enet.evaluation.metrics.overlap import Counts, mean
from e2enet.evaluation.pairs import Pair
from e2enet.events import Reporter
from e2enet.inference.case.components import keep_largest

Trial = tuple[int, ...]  # the label values of which only the largest part is kept
Dice = dict[str, float]


@dataclass(frozen=True)
class Choice:
    """A structure, or the foreground as a whole, with and without its smaller parts.

    Args:
        values: the label values that it is made of.
        before, after: mean Dice over the cases; of the foreground, over the structures too.
        harms: whether a structure loses by it.
    """

    values: tuple[int, ...]
    before: float
    after: float
    harms: bool

    @property
    def keep_largest(self) -> bool:
        """Whether only the largest part is to be kept: no change is no reason."""
        return self.after > self.before and not self.harms


@dataclass(frozen=True)
class PostProcessing:
    """What was chosen.

    Args:
        foreground: all structures together; None where there is only one.
        structures: each by itself, after what was chosen for the foreground.
    """

    foreground: Choice | None
    structures: dict[str, Choice]

    @property
    def kept(self) -> list[tuple[int, ...]]:
        """The values of which only the largest part is to be kept, in the order to do so."""
        tried = [*([self.foreground] if self.foreground else []), *self.structures.values()]
        return [choice.values for choice in tried if choice.keep_largest]


def choose_postprocessing(
    pairs: Sequence[Pair], structures: Structures, *, reporter: Reporter | None = None
) -> PostProcessing:
    """Compare each structure's mean Dice with and without the smaller parts of it.

    As nnU-Net decides (Isensee et al., Nature Methods 2021; `determine_postprocessing`): the
    foreground as a whole first, if the mean over all structures gains and none of them loses; then,
    on what comes of that, each structure by itself. What is taken from a region is taken from those
    around it too, so a region also has to harm none of the others, which nnU-Net does not ask.

    Args:
        pairs: predictions of cases that the predicting model has not seen, and their references.
        structures: what to compare.
        reporter: gets progress as stage "post-processing".
    """
    reporter = reporter or Reporter()
    values = structures.values
    everything = tuple(sorted(structures.known - {0, structures.ignore}))
    turns = (2 if len(values) > 1 else 1) * len(pairs)
    done = 0

    def advance() -> None:
        nonlocal done
        reporter.progress("post-processing", done, turns)
        done += 1

    foreground: Choice | None = None
    first: Trial = ()
    if len(values) > 1:
        before, after = _tried(pairs, structures, (), [everything], advance)
        foreground = Choice(
            everything,
            mean(before.values()),
            mean(after[everything].values()),
            _harms(before, after[everything]),
        )
        first = everything if foreground.keep_largest else ()
    before, after = _tried(pairs, structures, first, list(values.values()), advance)
    reporter.progress("post-processing", turns, turns)
    return PostProcessing(
        foreground,
        {
            name: Choice(listed, before[name], after[listed][name], _harms(before, after[listed]))
            for name, listed in values.items()
        },
    )


def _tried(
    pairs: Sequence[Pair],
    structures: Structures,
    first: Trial,
    trials: Sequence[Trial],
    advance: Callable[[], None],
) -> tuple[Dice, dict[Trial, Dice]]:
    """Mean Dice of each structure after `first` alone, and after each trial on top of it."""
    scores: dict[Trial, dict[str, list[float]]] = {
        trial: {name: [] for name in structures.values} for trial in ((), *trials)
    }
    for pair in pairs:
        advance()
        prediction, reference, _ = read_pair(pair, structures)
        if first:
            keep_largest(prediction.array, first)
        judged = structures.judged(pair.case)
        for trial in scores:
            cleaned = prediction.array
            if trial:
                cleaned = cleaned.copy()
                keep_largest(cleaned, trial)
            for name, values in judged.items():
                found = Counts.of(np.isin(cleaned, values), np.isin(reference.array, values))
                scores[trial][name].append(found.dice)
    means = {
        trial: {name: mean(listed) for name, listed in of_trial.items()}
        for trial, of_trial in scores.items()
    }
    return means.pop(()), means


def _harms(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    return any(after[name] < value for name, value in before.items())
