"""Dice on held-out cases with the sliding window, as the model will be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from e2enet.data.planning.plan import Plan
from e2enet.data.preprocessing.store import PreprocessedCase
from e2enet.events import Reporter
from e2enet.inference.sliding_window.predictor import Predictor

Scores = dict[str, dict[str, float | None]]


def validate_cases(
    network: nn.Module,
    cases: Sequence[PreprocessedCase],
    *,
    plan: Plan,
    labels: Mapping[str, int],
    device: torch.device | str,
    reporter: Reporter,
) -> Scores:
    """Dice of each label in each case, on the plan's spacing and without mirroring.

    Args:
        network: trained; set to eval.
        cases: held out from training.
        plan: patch of the window.
        labels: {name: value} without the background.
        device: where to compute.
        reporter: gets progress as stage "validation".

    Returns:
        {case: {label: Dice}}; None for a label that neither the case nor its segmentation has.
    """
    predictor = Predictor(
        network, patch=plan.patch, classes=len(labels) + 1, device=device, reporter=reporter
    )
    scores: Scores = {}
    if not cases:
        return scores
    reporter.progress("validation", 0, len(cases))
    for done, case in enumerate(cases, start=1):
        scores[case.name] = _dice(predictor, case, labels)
        reporter.progress("validation", done, len(cases))
    return scores


def mean_dice(scores: Scores) -> dict[str, float | None]:
    """Mean of each label over the cases that have it."""
    means: dict[str, float | None] = {}
    for name in next(iter(scores.values()), {}):
        values = [v for case in scores.values() if (v := case[name]) is not None]
        means[name] = sum(values) / len(values) if values else None
    return means


def _dice(
    predictor: Predictor, case: PreprocessedCase, labels: Mapping[str, int]
) -> dict[str, float | None]:
    truth, start = case.label, 0
    overlap = dict.fromkeys(labels, 0)
    sizes = dict.fromkeys(labels, 0)
    for block in predictor.stream(case.image):
        found = block.argmax(dim=1).cpu().numpy()
        wanted = truth[start : start + len(found)]
        start += len(found)
        for name, value in labels.items():
            overlap[name] += int(((found == value) & (wanted == value)).sum())
            sizes[name] += int((found == value).sum()) + int((wanted == value).sum())
    return {name: 2 * overlap[name] / sizes[name] if sizes[name] else None for name in labels}
