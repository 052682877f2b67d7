"""An evaluation for programs: JSON, nnU-Net's summary.json, CSV."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

from e2enet.evaluation.evaluate import Evaluation, Interval
from e2enet.evaluation.metrics.measures import CONVENTIONS, METRICS, Measured


def to_dict(found: Evaluation) -> dict[str, Any]:
    """For JSON; NaN becomes null.

    `cases`: case -> structure -> metric; `mean_by_label`: structure -> metric -> mean and 95 %
    interval; `mean`: metric -> the same over the structures; `definitions`: what was computed.
    """
    by_metric = {metric: found.intervals(metric) for metric in METRICS}
    return {
        "labels": {name: list(values) for name, values in found.structures.values.items()},
        "definitions": definitions(found),
        "cases": {
            case: {name: _measured(one) for name, one in structures.items()}
            for case, structures in found.cases.items()
        },
        "mean_by_label": {
            name: {metric: _interval(intervals[name]) for metric, intervals in by_metric.items()}
            for name in found.names
        },
        "mean": {metric: _interval(intervals[None]) for metric, intervals in by_metric.items()},
    }


def definitions(found: Evaluation) -> dict[str, Any]:
    """What each number means, with its unit and the tolerances."""
    return {
        "metrics": {
            key: {"name": metric.name, "unit": metric.unit, "definition": metric.definition}
            for key, metric in METRICS.items()
        },
        "conventions": list(CONVENTIONS),
        "tolerance_mm": found.tolerances,
    }


def nnunet_summary(found: Evaluation) -> dict[str, Any]:
    """The shape of nnU-Net v2's summary.json (its values only, so that its readers find theirs)."""
    keys = {name: _nnunet_key(values) for name, values in found.structures.values.items()}
    per_case: list[dict[str, Any]] = [
        {
            "metrics": {keys[name]: _counts(found.cases[pair.case][name]) for name in found.names},
            "prediction_file": str(pair.prediction),
            "reference_file": str(pair.reference),
        }
        for pair in found.pairs
    ]
    means = {key: _averaged([case["metrics"][key] for case in per_case]) for key in keys.values()}
    return {
        "foreground_mean": _averaged(list(means.values())),
        "mean": means,
        "metric_per_case": per_case,
    }


def write_tables(folder: Path, found: Evaluation) -> None:
    """Write metrics.json, summary.json and metrics.csv (a row for each case and structure)."""
    for name, record in (
        ("metrics.json", to_dict(found)),
        ("summary.json", nnunet_summary(found)),
    ):
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=name != "metrics.json")
        (folder / name).write_text(text + "\n", encoding="utf-8")
    with open(folder / "metrics.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", "label", *METRICS, "prediction_ml", "reference_ml"])
        for case, structures in found.cases.items():
            for name, one in structures.items():
                numbers = [*one.values.values(), one.predicted_ml, one.reference_ml]
                cells = ["" if math.isnan(value) else f"{value:.6g}" for value in numbers]
                writer.writerow([case, name, *cells])


def _measured(one: Measured) -> dict[str, float | None]:
    volumes = {"prediction_ml": one.predicted_ml, "reference_ml": one.reference_ml}
    return {key: _finite(value) for key, value in (one.values | volumes).items()}


def _interval(interval: Interval) -> dict[str, Any]:
    return {
        "mean": _finite(interval.mean),
        "ci95": [_finite(interval.low), _finite(interval.high)],
    }


def _counts(one: Measured) -> dict[str, float]:
    counts = one.counts
    return {
        "Dice": counts.dice,
        "FN": counts.fn,
        "FP": counts.fp,
        "IoU": counts.iou,
        "TN": counts.tn,
        "TP": counts.tp,
        "n_pred": counts.predicted,
        "n_ref": counts.wanted,
    }


def _averaged(records: list[dict[str, float]]) -> dict[str, float]:
    averaged = {}
    for key in records[0]:
        values = [record[key] for record in records if not math.isnan(record[key])]
        averaged[key] = sum(values) / len(values) if values else math.nan
    return averaged


def _nnunet_key(values: tuple[int, ...]) -> str:
    """A label's number, or a region as Python writes a tuple: "(1, 2, 3)"."""
    return str(values[0]) if len(values) == 1 else str(values)


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
