"""`e2enet models` lists what --model takes by name."""

from __future__ import annotations

import json
import shutil

import pytest
from e2enet.cli.app import app
from typer.testing import CliRunner


@pytest.fixture
def folder(tmp_path, tiny_bundle, monkeypatch):
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    monkeypatch.setenv("E2ENET_MODELS", str(tmp_path))
    return tmp_path


def test_json(folder):
    outcome = CliRunner().invoke(app, ["models", "--json"])
    assert outcome.exit_code == 0
    models = {model["name"]: model for model in json.loads(outcome.stdout)["models"]}
    tiny = models["tiny"]
    assert tiny["channels"] == ["MRI"]
    assert [label["name"] for label in tiny["labels"]] == ["sphere", "cube"]
    assert tiny["modality"] == "MR"
    assert tiny["regions"] == []


def test_table(folder):
    outcome = CliRunner().invoke(app, ["models"])
    assert outcome.exit_code == 0
    assert "tiny" in outcome.stdout


def test_a_damaged_model_does_not_hide_the_others(folder):
    (folder / "broken").mkdir()
    (folder / "broken" / "model.json").write_text("{", encoding="utf-8")
    outcome = CliRunner().invoke(app, ["models", "--json"])
    models = {model["name"]: model for model in json.loads(outcome.stdout)["models"]}
    assert "title" in models["tiny"]
    assert "model.json" in models["broken"]["error"]
