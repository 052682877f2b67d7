"""A point of a sweep: what came of one value of a setting."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """What came of one value.

    Args:
        value: of the setting, as text.
        seed: of the run.
        dice: mean over the labels on the held-out cases.
        live_parameters, live_multiply_adds: of the model, at its patch.
        pt_score: over all points of the sweep.
    """

    value: str
    seed: int
    dice: float
    live_parameters: int
    live_multiply_adds: int
    pt_score: float
