"""Accuracy against cost over several models: the PT score."""

from __future__ import annotations

from collections.abc import Sequence


def pt_scores(
    dice: Sequence[float],
    parameters: Sequence[float],
    flops: Sequence[float],
    *,
    accuracy_weight: float = 1.0,
    cost_weight: float = 1.0,
) -> list[float]:
    """Performance trade-off of each of several models (E2ENet, arXiv 2312.04727, section 4.1).

    accuracy_weight · Dice / largest Dice + cost_weight · (fewest parameters / parameters + fewest
    FLOPs / FLOPs). It depends on the models it is taken over.

    Args:
        dice: mean Dice of each model.
        parameters: live parameters of each.
        flops: of each, counted alike.

    Raises:
        ValueError: no models, lists of unlike length, a count or the largest Dice not above 0.

    Example:
        >>> pt_scores([0.8, 0.9], [1e6, 2e6], [1e9, 4e9])
        [2.888888888888889, 1.75]
    """
    if not dice or not len(dice) == len(parameters) == len(flops):
        raise ValueError("one Dice, one number of parameters and one of FLOPs a model")
    if max(dice) <= 0 or min(parameters) <= 0 or min(flops) <= 0:
        raise ValueError("counts and the largest Dice have to be above 0")
    return [
        accuracy_weight * d / max(dice) + cost_weight * (min(parameters) / p + min(flops) / f)
        for d, p, f in zip(dice, parameters, flops, strict=True)
    ]
