"""`e2enet runs`."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2enet.cli.app import app
from e2enet.locks import locked, used
from e2enet.training.train import train
from typer.testing import CliRunner


@pytest.fixture(autouse=True)
def _own_sigterm() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def folder(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training, an unfinished one below it, and a damaged one."""
    folder = tmp_path_factory.mktemp("trainings")
    for name, epochs in (("done", 1), ("deeper/half", 2)):
        (folder / name).parent.mkdir(exist_ok=True)
        train(
            tiny_dataset, folder / name, epochs=epochs, iterations_per_epoch=1, base_channels=4,
            levels=3, patch=(16, 16, 16), batch_size=1, workers=0, device="cpu",
        )  # fmt: skip
    for path in sorted((folder / "deeper" / "half").rglob("*"), reverse=True):
        path.unlink()
    (folder / "deeper" / "half").rmdir()
    (folder / "broken.run").mkdir()
    (folder / "broken.run" / "run.json").write_text("{")
    return folder


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["runs", *map(str, words)], env={"COLUMNS": "100"})
    return result.exit_code, result.stdout


def test_lists_every_run_with_its_state(folder: Path) -> None:
    status, text = call("list", folder, "--json")
    assert status == 0
    found = {Path(run["folder"]).name: run for run in json.loads(text)["runs"]}
    states = {name: run["state"] for name, run in found.items()}
    assert states == {"broken.run": "damaged", "done.run": "finished", "half.run": "unfinished"}
    assert (found["half.run"]["epoch"], found["half.run"]["epochs"]) == (2, 2)
    assert found["done.run"]["dataset"] == "Dataset900_Tiny"
    on_disk = sum(path.stat().st_size for path in (folder / "done.run").rglob("*"))
    assert found["done.run"]["bytes"] == on_disk
    status, text = call("list", folder)
    assert "deeper/half.run" in text.replace("\\", "/")
    assert "2/2" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.skipif(sys.platform == "win32", reason="its locks are held against this process too")
def test_a_run_under_way_is_running_and_keeps_the_cache(folder: Path) -> None:
    with locked(folder / "done.run"):
        _, text = call("list", folder, "--json")
        assert "running" in {run["state"] for run in json.loads(text)["runs"]}
        status, _ = call("prune", folder, "--caches", "--delete")
        assert status == 2
    assert (folder / "done.run").exists()


def test_shows_settings(folder: Path) -> None:
    status, text = call("show", folder / "done.run")
    assert status == 0
    assert "patch                 16,16,16" in text
    assert "state                 finished" in text
    assert json.loads(call("show", folder / "done.run", "--json")[1])["batch_size"] == 1
    assert call("show", folder)[0] == 2


def test_nothing_is_deleted_unless_asked_for(folder: Path) -> None:
    status, text = call("prune", folder)
    assert (status, "--delete" in text, "half.run" in text) == (0, True, False)
    assert (folder / "done.run").exists()
    status, text = call("prune", folder, "--delete")
    assert status == 0
    assert not (folder / "done.run").exists()
    assert (folder / "done" / "model.json").exists()
    assert (folder / "deeper" / "half.run").exists()
    assert call("prune", folder)[1].startswith("Nothing")


def test_the_cache_can_go_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2ENET_CACHE", str(tmp_path))
    made = tmp_path / "preprocessed" / "Dataset900_Tiny-0123"
    made.mkdir(parents=True)
    (made / "a.npy").write_bytes(bytes(5000))
    with used(made):  # by a training in some other folder
        assert call("prune", folder, "--caches", "--delete")[0] == 0
        assert made.exists()
    status, text = call("prune", folder, "--caches", "--delete")
    assert (status, "5.0 kB" in text) == (0, True)
    assert not made.exists()


def test_no_folder_and_no_runs(tmp_path: Path) -> None:
    assert call("list", tmp_path / "none")[0] == 2
    status, text = call("list", tmp_path)
    assert (status, "holds no training" in text) == (0, True)
