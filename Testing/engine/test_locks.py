"""Who works on a run works on it alone."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from e2enet.events import BadInput
from e2enet.locks import LOCK, in_use, is_used, locked, used
from e2enet.training.train import train

HOLD = """
import sys, time
from pathlib import Path
from e2enet.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process at work in tmp_path."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"held"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_process_at_a_time(tmp_path: Path, holder: subprocess.Popen) -> None:
    with (
        pytest.raises(BadInput, match=f"under way already, by process {holder.pid} on ") as caught,
        locked(tmp_path),
    ):
        pass
    assert caught.value.code == "run-in-use"
    holder.kill()  # a crash leaves the file, not the lock
    holder.wait()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        pass


def test_who_only_asks_changes_nothing(tmp_path: Path, holder: subprocess.Popen) -> None:
    said = (tmp_path / LOCK).read_bytes()
    assert in_use(tmp_path)
    assert (tmp_path / LOCK).read_bytes() == said
    holder.kill()
    holder.wait()
    assert not in_use(tmp_path)
    assert not in_use(tmp_path / "none")
    with locked(tmp_path):
        assert in_use(tmp_path)


def test_once_in_a_process(tmp_path: Path) -> None:
    with locked(tmp_path):
        with (
            pytest.raises(BadInput, match="already, by this process"),
            locked(tmp_path / ".." / tmp_path.name),
        ):
            pass
        assert f"process {os.getpid()} on" in (tmp_path / LOCK).read_text(encoding="utf-8")
    with locked(tmp_path):
        pass


def test_a_failure_gives_it_back(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="boom"), locked(tmp_path):
        raise RuntimeError("boom")
    with locked(tmp_path):
        pass


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stream: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("e2enet.locks._take", refuse)
    with locked(tmp_path):
        pass
    with pytest.raises(RuntimeError, match="boom"), locked(tmp_path):
        raise RuntimeError("boom")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be written"), locked(tmp_path / "nowhere"):
        pass


def test_neither_resuming_nor_starting_disturbs(tiny_dataset: Path, tmp_path: Path) -> None:
    """While one process works on a run, a second one is refused and changes nothing."""
    run = tmp_path / "m.run"
    settings = {"epochs": 1, "iterations_per_epoch": 1, "base_channels": 4, "levels": 3}
    small = {**settings, "patch": (16, 16, 16), "batch_size": 2, "workers": 0, "device": "cpu"}
    run.mkdir()
    with locked(run):  # it has made its folder, and is about to describe itself
        with pytest.raises(BadInput, match="under way already"):
            train(tiny_dataset, tmp_path / "m", **small)
        assert [path.name for path in run.iterdir()] == [LOCK]
    assert train(tiny_dataset, tmp_path / "m", **small).state == "finished"
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    with locked(run), pytest.raises(BadInput, match="under way already"):
        train(tiny_dataset, tmp_path / "m", resume=True, **small)
    assert {p: t for p, t in before.items() if p.name != LOCK} == {
        path: path.stat().st_mtime_ns for path in run.iterdir() if path.name != LOCK
    }


@pytest.mark.skipif(sys.platform == "win32", reason="its locks are held against this process too")
def test_a_folder_that_is_read(tmp_path: Path) -> None:
    assert not is_used(tmp_path)
    with used(tmp_path), used(tmp_path):
        assert is_used(tmp_path)
    assert not is_used(tmp_path)
    (tmp_path / ".users" / "of-a-killed-process").mkdir()
    assert not is_used(tmp_path)
