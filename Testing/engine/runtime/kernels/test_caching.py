"""Compiled kernels on disk: damaged files, folders that cannot be used."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from e2enet.runtime.kernels import vectors
from numba.core.caching import IndexDataCacheFile


def twice(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize("error", [RuntimeError, PermissionError])
def test_a_machine_on_which_no_cache_can_be_written(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel is then compiled for this process."""

    def cache(function: Any) -> Any:
        raise error("cannot cache function: no locator available")

    monkeypatch.setattr(vectors, "KernelCache", cache)
    assert vectors.kernel(twice)(21) == 42


def made(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    """The kernel `twice` with its files in a folder, called once."""
    monkeypatch.setattr(vectors, "kernel_folder", lambda: str(folder))
    kernel = vectors.kernel(twice)
    assert kernel(21) == 42
    return kernel


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [b"", b"\x80\x04no pickle", None])
def test_a_damaged_file_of_a_kernel_is_made_again(
    ending: str, damage: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(monkeypatch, tmp_path)
    (path,) = tmp_path.rglob(f"*.{ending}")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert made(monkeypatch, tmp_path).stats.cache_misses
    assert made(monkeypatch, tmp_path).stats.cache_hits


def test_a_folder_of_kernels_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes into no other folder, where kernels of another version may lie."""
    (tmp_path / "file").touch()
    kernel = made(monkeypatch, tmp_path / "file" / "kernels")
    assert not list(Path(__file__).parent.rglob("test_execution.twice*"))
    assert kernel.stats.cache_path is None


def test_a_prepared_folder_of_kernels_that_may_only_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(monkeypatch, tmp_path)

    def refused(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)  # with which Numba tries a folder
    assert made(monkeypatch, tmp_path).stats.cache_hits


def test_a_full_disk_does_not_stop_a_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "save", full)
    made(monkeypatch, tmp_path)
