"""`e2enet compare`: a table for a person, JSON for a program."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.cli.app import app
from typer.testing import CliRunner


@pytest.fixture
def folders(tmp_path):
    thing = np.zeros((3, 6, 8), np.uint8)
    thing[1:, 1:5, 1:5] = 1
    for folder, by in (("first", 0), ("second", 1), ("references", 0)):
        (tmp_path / folder).mkdir()
        for case in "abc":
            path = tmp_path / folder / f"{case}.nii.gz"
            sitk.WriteImage(sitk.GetImageFromArray(np.roll(thing, by, 2)), os.fspath(path))
    return [tmp_path / name for name in ("first", "second", "references")]


def run(*arguments):
    return CliRunner().invoke(app, ["compare", "--workers", "0", *map(str, arguments)])


def test_table(folders):
    outcome = run(*folders)
    assert outcome.exit_code == 0
    assert "0.25" in outcome.stdout  # three of three: 2 / 2³
    assert "3 : 0" in outcome.stdout


def test_json(folders):
    outcome = run(*folders, "--json")
    assert json.loads(outcome.stdout)["1"]["Dice"]["p"] == pytest.approx(0.25)


def test_a_missing_case(folders):
    (folders[1] / "b.nii.gz").unlink()
    outcome = run(*folders, "--progress", "json")
    assert outcome.exit_code == 2
    assert json.loads(outcome.stdout.splitlines()[-1])["code"] == "missing-prediction"
