"""Dice on held-out cases on their own grids, as the model will be used and judged."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from e2enet.bundle import Label
from e2enet.data.datasets.raw import Case, Dataset, read_case
from e2enet.data.images.orientation import to_canonical
from e2enet.data.images.volume import Volume
from e2enet.data.planning.plan import Plan
from e2enet.evaluation.metrics.overlap import Counts
from e2enet.events import Reporter
from e2enet.inference.localisation.regions import Region, prepare_region
from e2enet.inference.segmenter import predict_labels
from e2enet.inference.sliding_window.arrays import sigmoid
from e2enet.inference.sliding_window.predictor import Predictor

Scores = dict[str, dict[str, float | None]]


def validate_cases(
    network: nn.Module,
    cases: Sequence[str],
    *,
    dataset: Dataset,
    plan: Plan,
    device: torch.device | str,
    reporter: Reporter,
) -> Scores:
    """Dice of each label in each case: what `e2enet evaluate` finds after `e2enet segment`.

    Each image is read, prepared, segmented by the sliding window without mirroring, and compared on
    its own grid.

    Args:
        network: trained; set to eval.
        cases: names of those held out from training.
        dataset: has them and their labels.
        plan: of the training.
        device: where to compute.
        reporter: gets progress as stage "validation".

    Returns:
        {case: {label: Dice}}; None for a label that neither the case nor its segmentation has, and
        for one that nobody drew in the case.

    Raises:
        BadInput: a file can no longer be read.
    """
    scores: Scores = {}
    if not cases:
        return scores
    labels = [
        Label(dataset.labels[name], name, (0, 0, 0), {}, values=dataset.regions.get(name, ()))
        for name in dataset.structures.values
    ]
    predictor = Predictor(
        network,
        patch=plan.patch,
        classes=dataset.num_classes,
        device=device,
        finish=sigmoid if dataset.regions else None,
        reporter=reporter,
    )
    by_name = {case.name: case for case in dataset.cases}
    reporter.progress("validation", 0, len(cases))
    for done, name in enumerate(cases, start=1):
        scores[name] = _dice(predictor, dataset, by_name[name], plan, labels)
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
    predictor: Predictor, dataset: Dataset, case: Case, plan: Plan, labels: Sequence[Label]
) -> dict[str, float | None]:
    volumes, reference = read_case(dataset, case)
    assert reference is not None  # read_dataset lists no training case without
    grid = volumes[0].grid
    turned = [to_canonical(Volume(volume.array, grid, volume.name)) for volume in volumes]
    canonical = [volume for volume, _ in turned]
    whole = tuple(slice(0, n) for n in canonical[0].grid.shape)
    region = Region("", whole, tuple(labels))  # type: ignore[arg-type]
    canvas = np.zeros(canonical[0].grid.shape, reference.array.dtype)
    job = prepare_region(canonical, region, plan)
    predict_labels([job], predictor, canvas, labels=labels)
    undo = turned[0][1]
    predicted = undo(canvas)
    if dataset.ignore is not None:
        predicted[reference.array == dataset.ignore] = 0
    judged = dataset.structures.judged(case.name)
    found = {
        name: Counts.of(np.isin(predicted, values), np.isin(reference.array, values)).dice
        for name, values in judged.items()
    }
    dice = {label.name: found.get(label.name, math.nan) for label in labels}
    return {name: None if math.isnan(value) else value for name, value in dice.items()}
