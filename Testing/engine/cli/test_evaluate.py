"""`e2enet evaluate`: a table for a person, JSON for a program."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.cli.app import app
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
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_json(folders):
    outcome = run(*folders, "--json")
    assert outcome.exit_code == 0
    found = json.loads(outcome.stdout)
    assert found["mean"] == pytest.approx(2 / 3)
    assert found["cases"]["a"]["labels"] == {"1": pytest.approx(2 / 3)}


def test_table(folders):
    outcome = run(*folders)
    assert outcome.exit_code == 0
    assert "0.6667" in outcome.stdout
    assert "Mean" in outcome.stdout


def test_events(folders):
    outcome = run(*folders, "--progress", "json")
    result = json.loads(outcome.stdout.splitlines()[-1])
    assert result["event"] == "result"
    assert result["mean"] == pytest.approx(2 / 3)


def test_a_missing_prediction_is_bad_input(folders):
    (folders[0] / "a.nii.gz").unlink()
    outcome = run(*folders, "--progress", "json")
    assert outcome.exit_code == 2
    error = json.loads(outcome.stdout.splitlines()[-1])
    assert error["code"] == "missing-prediction"
    assert "1 of 2 cases: a" in error["message"]
