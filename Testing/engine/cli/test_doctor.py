"""`e2enet doctor` says what works, and what does not and what would help."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from e2enet import __version__
from e2enet.cli import doctor
from e2enet.cli.app import app
from typer.testing import CliRunner


@pytest.fixture
def models(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "secret-patient" / "models"
    shutil.copytree(tiny_bundle, folder / "tiny")
    monkeypatch.setenv("E2ENET_MODELS", str(folder))
    monkeypatch.setenv("E2ENET_CACHE", str(tmp_path / "secret-patient" / "cache"))
    return folder


def test_a_sound_installation(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LITTLE_MEMORY", 0)
    monkeypatch.setattr(doctor, "_LITTLE_DISK", 0)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert ["e2enet", __version__] in lines
    assert ["model", "tiny (MRI)"] in lines
    assert ["device", "cpu"] in lines
    assert any(line[0] == "kernels" for line in lines)
    assert "secret-patient" not in result.output
    assert str(Path.home()) not in result.output


def test_what_is_broken_is_named(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (models / "tiny" / "weights.safetensors").write_bytes(b"no weights")
    (models / "file").touch()
    monkeypatch.setenv("E2ENET_CACHE", str(models / "file" / "cache"))
    monkeypatch.setattr(doctor, "_kernels", lambda: 1 / 0)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "cannot be written" in result.stdout
    assert "Set E2ENET_CACHE" in result.stdout
    assert "tiny is damaged" in result.stdout
    assert "ZeroDivisionError" in result.stdout
    assert "3 things to mend" in result.output
    assert "secret-patient" not in result.output


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 KiB"), (3 << 20, "3 MiB"), (5 << 29, "2.5 GiB")]
)
def test_sizes(count: int, words: str) -> None:
    assert doctor._size(count) == words
