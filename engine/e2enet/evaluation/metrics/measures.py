"""The metrics, each with its definition: tools differ here, so every report says which it used.

Reinke et al., Nature Methods 2024, and Podobnik & Vrtovec, arXiv 2410.02630, show by how much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from e2enet.evaluation.metrics.lesions import lesion_f1
from e2enet.evaluation.metrics.overlap import Counts
from e2enet.evaluation.metrics.surface import surface_distances


@dataclass(frozen=True)
class Metric:
    """What a metric is.

    Args:
        name: for people.
        unit: "" for shares.
        best: the value of a perfect prediction.
        definition: what exactly is computed.
    """

    name: str
    unit: str
    best: float
    definition: str


METRICS = {
    "Dice": Metric("Dice", "", 1, "Twice the common voxels over the sum of both volumes."),
    "NSD": Metric(
        "Normalised surface Dice",
        "",
        1,
        "Share of the surface voxels of both that lie within the tolerance of the other surface.",
    ),
    "HD95": Metric(
        "95 % Hausdorff distance",
        "mm",
        0,
        "The larger of both directions' 95th percentiles (not of the pooled distances).",
    ),
    "HD": Metric("Hausdorff distance", "mm", 0, "The largest surface distance of both directions."),
    "ASSD": Metric(
        "Average symmetric surface distance",
        "mm",
        0,
        "Mean over the pooled surface voxels of both, as in CHAOS: the image's edge is no surface.",
    ),
    "MSSD": Metric(
        "Maximum symmetric surface distance",
        "mm",
        0,
        "Largest of the pooled distances, as in CHAOS: the image's edge is no surface.",
    ),
    "RAVD": Metric(
        "Relative absolute volume difference",
        "%",
        0,
        "|prediction - reference| / reference, as in CHAOS.",
    ),
    "MAD": Metric(
        "Mean absolute distance",
        "mm",
        0,
        "Mean of both directions' means (CAMUS), so that both surfaces weigh the same.",
    ),
    "VD": Metric("Volume difference", "mL", 0, "Prediction - reference, signed."),
    "LesionF1": Metric(
        "Lesion-wise F1",
        "",
        1,
        "Over pieces connected by 26 neighbours; one common voxel finds a piece (ISLES).",
    ),
}

CONVENTIONS = (
    "Surface: the voxels that share a face with the outside, each counting once (voxel boundary, "
    "no mesh). Beyond the image's edge is outside, except for ASSD and MSSD.",
    "Neither has the structure: no value, left out of every mean. Only one has it: Dice, NSD and "
    "lesion F1 are 0, every distance is the length of the image's diagonal, and so are ASSD and "
    "MSSD where only one fills the image; RAVD has no value where the reference is empty.",
    "Voxels that the reference marks as ignored count in neither. A structure that nobody drew in "
    "a case (missing_labels in dataset.json) has no value there.",
    "Means: over the cases for each structure; over the structures' means for all. Intervals: 95 % "
    "percentile bootstrap over cases, 2000 draws, fixed seed.",
)


@dataclass(frozen=True)
class Measured:
    """One structure of one case.

    Args:
        counts: voxels.
        predicted_ml, reference_ml: volumes.
        values: by key of `METRICS`; NaN where a metric has no value.
    """

    counts: Counts
    predicted_ml: float
    reference_ml: float
    values: dict[str, float]


def measure(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    *,
    tolerance: float,
) -> Measured:
    """All metrics of one structure.

    Args:
        prediction, reference: (D, H, W) bool of one shape.
        spacing: (D, H, W) in mm.
        tolerance: of the normalised surface Dice (Nikolov et al., arXiv 1809.04430), in mm.
    """
    counts = Counts.of(prediction, reference)
    voxel_ml = math.prod(float(v) for v in spacing) / 1000
    predicted, wanted = counts.predicted * voxel_ml, counts.wanted * voxel_ml
    values = dict.fromkeys(METRICS, math.nan)
    if predicted or wanted:
        values["Dice"] = counts.dice
        values["VD"] = predicted - wanted
    if wanted:
        values["RAVD"] = 100 * abs(counts.predicted - counts.wanted) / counts.wanted
    sides = [n * step for n, step in zip(prediction.shape, spacing, strict=True) if n > 1]
    diagonal = math.hypot(*sides)
    if predicted and wanted:
        box = _box(prediction, reference)
        ours, theirs = prediction[box], reference[box]
        values |= _distances(ours, theirs, spacing, tolerance, diagonal)
        values["LesionF1"] = lesion_f1(ours, theirs)
    elif predicted or wanted:
        values |= {"NSD": 0.0, "LesionF1": 0.0}
        values |= dict.fromkeys(("HD95", "HD", "ASSD", "MSSD", "MAD"), diagonal)
    return Measured(counts, predicted, wanted, values)


def _distances(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    tolerance: float,
    diagonal: float,
) -> dict[str, float]:
    closed = surface_distances(prediction, reference, spacing, edge=True)
    assert closed is not None  # what is not empty has a surface when the edge counts
    values = {
        "NSD": closed.within(tolerance),
        "HD95": closed.percentile(95),
        "HD": closed.largest,
        "MAD": closed.mean_of_means,
    }
    inside = closed
    if _touches(prediction) or _touches(reference):
        # Only there does CHAOS's surface differ, and it takes as long again.
        open_ended = surface_distances(prediction, reference, spacing, edge=False)
        if open_ended is None:  # one fills the image: it has no surface but the edge
            far = 0.0 if prediction.all() and reference.all() else diagonal
            return values | {"ASSD": far, "MSSD": far}
        inside = open_ended
    return values | {"ASSD": inside.pooled_mean, "MSSD": inside.largest}


def _box(prediction: np.ndarray, reference: np.ndarray) -> tuple[slice, ...]:
    """What encloses both, with a margin of one voxel where the image has it."""
    either = prediction | reference
    box = []
    for axis in range(either.ndim):
        others = tuple(k for k in range(either.ndim) if k != axis)
        filled = np.flatnonzero(either.any(axis=others))
        box.append(slice(max(int(filled[0]) - 1, 0), int(filled[-1]) + 2))
    return tuple(box)


def _touches(mask: np.ndarray) -> bool:
    """Whether a structure reaches the array's edge."""
    return any(
        mask.take(end, axis).any()
        for axis, length in enumerate(mask.shape)
        for end in (0, length - 1)
        if length > 1
    )
