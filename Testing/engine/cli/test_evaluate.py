"""`e2enet evaluate`: a table for a person, JSON for a program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.bundle.archive import pack
from e2enet.cli.app import app
from e2enet.inference.batch import segment_folder
from typer.testing import CliRunner


def write(path, array):
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.asarray(array, np.uint8)), os.fspath(path))
    return path


@pytest.fixture
def folders(tmp_path):
    one, two = np.zeros((2, 3, 4)), np.zeros((2, 3, 4))
    one[0, 0, :] = 1
    two[0, 0, :2] = 1
    for name in ("a", "b"):
        write(tmp_path / "predictions" / f"{name}.nii.gz", one)
        write(tmp_path / "references" / f"{name}.nii.gz", two)
    return tmp_path / "predictions", tmp_path / "references"


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", "--workers", "0", *map(str, arguments)])


def test_json(folders):
    outcome = run(*folders, "--json")
    assert outcome.exit_code == 0
    found = json.loads(outcome.stdout)
    assert found["mean"]["Dice"]["mean"] == pytest.approx(2 / 3)
    assert found["cases"]["a"]["1"]["Dice"] == pytest.approx(2 / 3)


def test_table(folders):
    outcome = run(*folders)
    assert outcome.exit_code == 0
    assert "0.6667" in outcome.stdout
    assert "Mean" in outcome.stdout


def test_events(folders):
    outcome = run(*folders, "--progress", "json")
    result = json.loads(outcome.stdout.splitlines()[-1])
    assert result["event"] == "result"
    assert result["mean"]["Dice"]["mean"] == pytest.approx(2 / 3)


def test_a_missing_prediction_is_bad_input(folders):
    (folders[0] / "a.nii.gz").unlink()
    outcome = run(*folders, "--progress", "json")
    assert outcome.exit_code == 2
    error = json.loads(outcome.stdout.splitlines()[-1])
    assert error["code"] == "missing-prediction"
    assert "1 of 2 cases: a" in error["message"]


def test_report_and_tolerances(folders, tmp_path):
    outcome = run(*folders, "--report", tmp_path / "out", "--tolerance", 2, "--tolerance", "1=0.5")
    assert outcome.exit_code == 0
    assert "NSD at 0.5 mm" in outcome.stdout
    record = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert record["definitions"]["tolerance_mm"] == {"1": 0.5}
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize("text", ["wide", "-1", "1=", "inf", "nan"])
def test_a_tolerance_that_is_none(folders, text):
    outcome = run(*folders, "--progress", "json", f"--tolerance={text}")
    assert outcome.exit_code == 2
    assert json.loads(outcome.stdout.splitlines()[-1])["code"] == "bad-setting"


def test_an_existing_report_is_refused_before_anything_is_read(folders, tmp_path):
    (tmp_path / "predictions" / "a.nii.gz").write_bytes(b"no image")
    outcome = run(*folders, "--progress", "json", "--report", tmp_path)
    assert outcome.exit_code == 2
    assert json.loads(outcome.stdout.splitlines()[-1])["code"] == "output-exists"


def test_evaluating_needs_no_torch(folders):
    code = (
        "import sys; sys.modules['torch'] = None; from e2enet.cli import main; "
        f"sys.argv = ['e2enet', 'evaluate', {str(folders[0])!r}, {str(folders[1])!r}]; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert "0.6667" in done.stdout


def test_results_of_its_own_predictions_go_into_a_model(tiny_bundle, tiny_dataset, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_bundle, model)
    predictions, references = tmp_path / "predictions", tiny_dataset / "labelsTs"
    segment_folder(tiny_dataset / "imagesTs", model, output=predictions, device="cpu")
    outcome = run(predictions, references, "--into", model, "--json")
    assert outcome.exit_code == 0, outcome.output
    means = json.loads(outcome.stdout)["mean_by_label"]
    (entry,) = json.loads((model / "model.json").read_text(encoding="utf-8"))["results"]
    assert entry["references"] == "Dataset900_Tiny/labelsTs"
    assert entry["cases"] == ["tiny_006", "tiny_007"]
    for label, metrics in means.items():
        for metric, interval in metrics.items():
            assert entry["mean_by_label"][label][metric] == pytest.approx(
                interval["mean"], abs=1e-6
            )
    assert f"{means['sphere']['Dice']['mean']:.3f}" in (model / "README.md").read_text(
        encoding="utf-8"
    )
    # Predictions of nobody knows what are not its results.
    outcome = run(references, references, "--into", model, "--progress", "json")
    assert outcome.exit_code == 2
    assert json.loads(outcome.stdout.splitlines()[-1])["code"] == "no-manifest"


def test_results_do_not_go_into_a_zip(folders, tiny_bundle, tmp_path):
    pack(tiny_bundle, tmp_path / "tiny.zip")
    outcome = run(*folders, "--into", tmp_path / "tiny.zip", "--progress", "json")
    assert outcome.exit_code == 2
    assert json.loads(outcome.stdout.splitlines()[-1])["code"] == "zipped-model"
