"""What programs read: our JSON, nnU-Net's summary, CSV."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from e2enet.evaluation.evaluate import evaluate
from e2enet.evaluation.metrics.measures import METRICS
from e2enet.evaluation.report.tables import nnunet_summary, to_dict, write_tables

from ..shapes import write


@pytest.fixture
def found(tmp_path):
    for folder, seed in (("p", 0), ("r", 1)):
        random = np.random.default_rng(seed)
        for case in "ab":
            labels = random.integers(0, 3, (4, 5, 6))
            labels[labels == 2] = 3 * (case == "b")
            write(tmp_path / folder / f"{case}.nii.gz", labels, (2, 1, 1))
    labels = {"background": 0, "one": 1, "both": [1, 3]}
    (tmp_path / "dataset.json").write_text(
        json.dumps({"labels": labels, "regions_class_order": [1, 3]}), encoding="utf-8"
    )
    return evaluate(tmp_path / "p", tmp_path / "r")


def test_json(found):
    record = json.loads(json.dumps(to_dict(found), allow_nan=False))
    assert set(record["cases"]["a"]["one"]) == {*METRICS, "prediction_ml", "reference_ml"}
    assert set(METRICS) >= {"Dice", "NSD", "HD95", "HD", "ASSD", "MSSD", "RAVD", "MAD"}
    mean = record["mean_by_label"]["both"]["Dice"]
    assert mean["mean"] == pytest.approx(found.of_structure("both"))
    assert mean["ci95"][0] <= mean["mean"] <= mean["ci95"][1]
    assert record["mean"]["Dice"]["mean"] == pytest.approx(found.mean())
    told = json.dumps(record["definitions"])
    for word in ("voxel boundary", "larger of both directions", "diagonal", "tolerance_mm"):
        assert word in told


def test_nnunets_summary(found):
    summary = nnunet_summary(found)
    assert list(summary) == ["foreground_mean", "mean", "metric_per_case"]
    assert list(summary["mean"]) == ["1", "(1, 3)"]
    first = summary["metric_per_case"][0]
    assert first["prediction_file"].endswith("a.nii.gz")
    metrics = first["metrics"]["1"]
    assert set(metrics) == {"Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref"}
    assert metrics["TP"] + metrics["FN"] == metrics["n_ref"]
    assert metrics["TP"] + metrics["FP"] + metrics["FN"] + metrics["TN"] == 4 * 5 * 6
    mean = np.mean([case["metrics"]["1"]["IoU"] for case in summary["metric_per_case"]])
    assert summary["mean"]["1"]["IoU"] == pytest.approx(mean)


def test_files(found, tmp_path):
    (tmp_path / "out").mkdir()
    write_tables(tmp_path / "out", found)
    with open(tmp_path / "out" / "metrics.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["case"], row["label"]) for row in rows] == [
        ("a", "one"), ("a", "both"), ("b", "one"), ("b", "both"),
    ]  # fmt: skip
    assert float(rows[3]["HD95"]) == pytest.approx(found.value("b", "both", "HD95"), rel=1e-5)
    assert json.loads(
        (tmp_path / "out" / "metrics.json").read_text(encoding="utf-8")
    ) == json.loads(json.dumps(to_dict(found)))


def test_nothing_to_measure_is_null_and_an_empty_cell(tmp_path):
    one = write(tmp_path / "one.nii.gz", np.zeros((2, 2, 2)))
    (tmp_path / "dataset.json").write_text('{"labels": {"liver": 1}}', encoding="utf-8")
    found = evaluate(one, one)
    assert to_dict(found)["cases"]["one"]["liver"]["Dice"] is None
    assert math.isnan(nnunet_summary(found)["foreground_mean"]["Dice"])
    write_tables(tmp_path, found)
    assert "one,liver,,,," in (tmp_path / "metrics.csv").read_text(encoding="utf-8")
