"""`e2enet explain`: events, exit statuses and what a person reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.cli.app import app
from typer.testing import CliRunner


@pytest.fixture
def image(tmp_path) -> Path:
    array = np.random.default_rng(0).normal(100, 20, (16, 16, 18)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "case.nii.gz"))
    return tmp_path / "case.nii.gz"


def run(*arguments) -> tuple[int, list[dict]]:
    """Exit status and events."""
    outcome = CliRunner().invoke(app, ["explain", *map(str, arguments), "--progress", "json"])
    return outcome.exit_code, [json.loads(line) for line in outcome.stdout.splitlines()]


def test_the_result_event_says_everything(image, tiny_bundle, tmp_path):
    status, events = run(
        image, "--model", tiny_bundle, "--output", tmp_path / "out", "--nodes", "1:1", "--nodes",
        "2:0", "--label", "sphere", "--label", "2", "--device", "cpu",
    )  # fmt: skip
    assert status == 0
    result = events[-1]
    assert result["event"] == "result"
    assert {v["label"]["name"] for v in result["volumes"] if v["label"]} == {"sphere", "cube"}
    assert {(n["stage"], n["level"]) for n in result["nodes"]} == {(1, 0), (1, 1), (2, 0)}
    for name in (result["report"], result["index"], *(v["path"] for v in result["volumes"])):
        assert Path(name).is_file()
    stages = {event["stage"] for event in events if event["event"] == "progress"}
    assert {"read", "inference", "importance", "write"} <= stages


def test_a_series_of_a_study(dicom_series, tiny_bundle, tmp_path):
    array = np.random.default_rng(0).normal(100, 20, (16, 16, 18)).astype(np.int16)
    for number, name in enumerate(("T1", "T2"), 1):
        dicom_series(
            tmp_path / "study" / name, array, number=number, uid=f"1.{number}", modality="MR",
            description=name, spacing=(1, 1), heights=range(16),
        )  # fmt: skip
    words = [tmp_path / "study", "--model", tiny_bundle, "--output", tmp_path / "out"]
    status, events = run(*words)
    assert (status, events[-1]["code"]) == (2, "several-series")
    status, events = run(*words, "--series", "T2", "--device", "cpu")
    assert status == 0
    (note,) = [event for event in events if event["event"] == "warning"]
    assert note["code"] == "series-chosen"
    assert "T2" in note["message"]
    written = sitk.ReadImage(events[-1]["segmentation"])
    assert written.GetSize() == (18, 16, 16)
    status, events = run("--model", tiny_bundle, "--output", tmp_path / "flow", "--series", "T2")
    assert (status, events[-1]["code"]) == (2, "no-input")


def test_deletions_are_part_of_the_result(tiny_bundle, tiny_dataset, tmp_path):
    status, events = run(
        "--model", tiny_bundle, "--output", tmp_path / "out", "--cases", "1",
        "--faithfulness", tiny_dataset / "imagesTs", tiny_dataset / "labelsTs",
    )  # fmt: skip
    assert status == 0
    check = events[-1]["faithfulness"]
    assert len(check["cases"]) == 1
    assert {"rule", "fraction", "mean_loss", "by_case", "by_node"} == set(check["rows"][0])
    assert "Deleting connections" in Path(events[-1]["report"]).read_text(encoding="utf-8")


def test_a_person_reads_a_table(image, tiny_bundle, tmp_path):
    outcome = CliRunner().invoke(
        app,
        ["explain", str(image), "--model", str(tiny_bundle), "-o", str(tmp_path / "out")],
    )
    assert outcome.exit_code == 0
    assert "Upward" in outcome.stdout
    assert "report.html" in outcome.stdout


def test_bad_input_is_one_sentence_and_status_2(image, tiny_bundle, tmp_path):
    status, events = run(
        image, "--model", tiny_bundle, "--output", tmp_path / "out", "--nodes", "9:9"
    )
    assert status == 2
    assert events[-1]["event"] == "error"
    assert events[-1]["code"] == "no-node"
    assert "1:0, 1:1, 2:0" in events[-1]["help"]
    assert not (tmp_path / "out").exists()
