"""`e2enet dataset import` and `check` as a person and a program call them."""

from __future__ import annotations

import json

import pytest
from e2enet.cli.app import app
from e2enet.cli.dataset import Kind
from e2enet.data.datasets.importing.importing import DOORS
from typer.testing import CliRunner


def run(*words):
    return CliRunner().invoke(app, ["dataset", *map(str, words)])


def test_every_door_can_be_named():
    assert {kind.value for kind in Kind} == {*DOORS, "pattern"}


@pytest.fixture
def imported(tiny_dataset, tmp_path):
    outcome = run(
        "import", tiny_dataset, tmp_path / "D", "--kind", "pattern", "--workers", 0,
        "--images", "imagesTr/{case}_0000.nii.gz", "--labels", "labelsTr/{case}.nii.gz",
        "--name", "sphere", "--name", "cube",
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    assert "6 training and 0 test cases" in outcome.stdout.replace("\n", " ")
    return tmp_path / "D"


def test_import_and_check(imported, tmp_path):
    outcome = run("check", imported, "--workers", 0, "--report", tmp_path / "out")
    assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_case_that_cannot_be_used_is_status_2(imported):
    (imported / "labelsTr" / "tiny_002.nii.gz").write_bytes(b"nothing")
    outcome = run("check", imported, "--workers", 0, "--progress", "json")
    assert outcome.exit_code == 2
    *_, result, error = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [one["case"] for one in result["findings"] if one["severity"] == "error"] == ["tiny_002"]
    assert error["code"] == "unusable-cases"


@pytest.mark.parametrize("unreadable", [2, 6])
def test_all_cases_are_counted(imported, unreadable):
    for number in range(unreadable):
        (imported / "labelsTr" / f"tiny_{number:03d}.nii.gz").write_bytes(b"nothing")
    outcome = run("check", imported, "--workers", 0, "--progress", "json")
    assert outcome.exit_code == 2
    *_, result, error = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert f"{unreadable} of 6 cases of" in error["message"]
    assert len(result["findings"]) == unreadable


def test_a_missing_label_map_is_one_finding_among_others(imported):
    (imported / "labelsTr" / "tiny_001.nii.gz").unlink()
    (imported / "labelsTr" / "tiny_002.nii.gz").write_bytes(b"nothing")
    outcome = run("check", imported, "--workers", 0, "--progress", "json")
    assert outcome.exit_code == 2
    *_, result, error = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [one["case"] for one in result["findings"]] == ["tiny_001", "tiny_002"]
    assert error["code"] == "unusable-cases"


def test_a_pattern_that_says_too_little(tiny_dataset, tmp_path):
    words = ["import", tiny_dataset, tmp_path / "D", "--kind", "pattern", "--progress", "json"]
    outcome = run(*words)
    assert outcome.exit_code == 2
    assert json.loads(outcome.stdout)["code"] == "bad-pattern"
