"""What a dataset is like: spacings, sizes and intensities, as nnU-Net's fingerprint has them.

Reference: Isensee et al., nnU-Net, Nature Methods 2021, supplementary note 2.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from e2enet.data.axes import three
from e2enet.data.datasets.raw import Case, Dataset, read_case
from e2enet.data.images.orientation import to_canonical
from e2enet.data.images.volume import Volume
from e2enet.data.preprocessing.cropping import bounding_box, occupied
from e2enet.events import BadInput, Reporter

# Foreground voxels taken from each case for the intensity statistics.
SAMPLES_PER_CASE = 10000


@dataclass(frozen=True)
class Fingerprint:
    """A dataset's properties, all in canonical array order (z, y, x).

    Args:
        spacings: (z, y, x) in mm, one a case.
        sizes: voxels after the crop (`cropping`), one a case.
        crop_share: median share of the voxels that the crop keeps.
        intensities: per channel, over the foreground voxels of all cases, in the image's unit:
            mean, std, median, min, max, percentile_00_5, percentile_99_5; none of them clipped.
        foreground: {label value: share of all voxels}, background left out.
        cases: names, in the order of spacings and sizes.
    """

    spacings: tuple[tuple[float, float, float], ...]
    sizes: tuple[tuple[int, int, int], ...]
    crop_share: float
    intensities: tuple[dict[str, float], ...]
    foreground: dict[int, float]
    cases: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that json can write."""
        return {
            "cases": list(self.cases),
            "spacings": [list(v) for v in self.spacings],
            "sizes": [list(v) for v in self.sizes],
            "crop_share": self.crop_share,
            "intensities": [dict(v) for v in self.intensities],
            "foreground": {str(k): v for k, v in self.foreground.items()},
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Fingerprint:
        """The fingerprint that `to_dict` wrote."""
        return cls(
            tuple(three(v) for v in record["spacings"]),
            tuple(three(v) for v in record["sizes"]),
            record["crop_share"],
            tuple(dict(v) for v in record["intensities"]),
            {int(k): v for k, v in record["foreground"].items()},
            tuple(record["cases"]),
        )


def fingerprint(
    dataset: Dataset, *, workers: int | None = None, reporter: Reporter | None = None
) -> Fingerprint:
    """Read every training case once and describe the dataset.

    Args:
        dataset: what to describe.
        workers: processes; 0 means in this one, None one a core.
        reporter: gets progress as stage "fingerprint", and warnings.

    Raises:
        BadInput: a case that cannot be used, or no foreground voxel in the whole dataset.
    """
    from e2enet.data.parallel import map_cases

    reporter = reporter or Reporter()
    found = map_cases(
        partial(_describe, dataset),
        dataset.cases,
        workers=workers,
        reporter=reporter,
        stage="fingerprint",
    )
    for one in found:
        for code, message in one["warnings"]:
            reporter.warning(code, message)
    samples = np.concatenate([one["samples"] for one in found], axis=1)
    if samples.shape[1] == 0:
        raise BadInput(
            f"{dataset.name} holds no foreground voxel: every label map is empty.",
            help="Check the label maps in labelsTr.",
            code="no-foreground",
        )
    total = sum(one["voxels"] for one in found)
    counts = np.sum([one["counts"] for one in found], axis=0)
    return Fingerprint(
        tuple(one["spacing"] for one in found),
        tuple(one["size"] for one in found),
        float(np.median([one["crop_share"] for one in found])),
        tuple(_statistics(channel) for channel in samples),
        {value: float(counts[value] / total) for value in range(1, dataset.highest + 1)},
        dataset.case_names,
    )


def _describe(dataset: Dataset, case: Case) -> dict[str, Any]:
    volumes, label = read_case(dataset, case)
    assert label is not None
    turned = [to_canonical(volume)[0] for volume in volumes]
    arrays = [volume.array for volume in turned]
    classes = to_canonical(Volume(label.array, volumes[0].grid))[0].array
    box = bounding_box(occupied(arrays))
    size = tuple(stop - start for start, stop in box)

    values = dataset.highest + 1
    counts = np.bincount(classes.ravel(), minlength=values)[:values]
    where = np.flatnonzero((classes > 0) & (classes < values))  # nor the ignore label
    warnings = [warning for volume in volumes for warning in volume.warnings]
    if where.size == 0:
        warnings.append(("empty-label", f"{label.name} is empty: it holds no foreground voxel."))
    if where.size > SAMPLES_PER_CASE:
        random = np.random.default_rng(zlib.crc32(case.name.encode()))
        where = random.choice(where, SAMPLES_PER_CASE, replace=False)
    return {
        "spacing": turned[0].grid.spacing_zyx,
        "size": size,
        "crop_share": float(np.prod(size) / classes.size),
        "voxels": classes.size,
        "counts": counts,
        "samples": np.stack([np.ravel(array)[where] for array in arrays]),
        "warnings": warnings,
    }


def _statistics(values: np.ndarray) -> dict[str, float]:
    values = values.astype(np.float64)
    low, high = np.percentile(values, [0.5, 99.5])
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "median": float(np.median(values)),
        "min": float(values.min()),
        "max": float(values.max()),
        "percentile_00_5": float(low),
        "percentile_99_5": float(high),
    }
