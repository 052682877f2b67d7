"""Kernels that other processes compile, so that the first run waits less."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from e2enet.folders import cache_folder
from e2enet.runtime import compilation


def test_nothing_is_started_where_kernels_are_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2ENET_CACHE", str(tmp_path))
    monkeypatch.setattr(subprocess, "Popen", lambda *_args, **_options: pytest.fail("started"))
    kernel = tmp_path / "kernels" / "version" / "convolution.convolve-163.py311.nbi"
    kernel.parent.mkdir(parents=True)
    kernel.touch()
    compilation.begin()


def test_a_cache_that_cannot_be_made_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("E2ENET_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_args, **_options: pytest.fail("started"))
    compilation.begin()


def test_two_processes_are_started_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2ENET_CACHE", str(tmp_path))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(compilation, "PARTS", ("no such part",) * 2)  # ends at once
    compilation.begin()
    started = list(compilation._children)
    assert len(started) == 2
    compilation.wait()
    assert [child.poll() is not None for child in started] == [True, True]
    assert not compilation._children


def test_a_part_leaves_its_kernels_in_the_cache() -> None:
    program = "from e2enet.runtime.compilation import compile_part; compile_part('pointwise')"
    subprocess.run([sys.executable, "-c", program], check=True)
    found = {path.name.partition("-")[0] for path in (cache_folder() / "kernels").rglob("*.nbi")}
    assert {"pointwise.expand", "pointwise.pool"} <= found
