"""Where a user's own files lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2enet import folders


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("E2ENET_CACHE", "XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("platform", "data", "cache"),
    [
        ("linux", ".local/share/e2enet", ".cache/e2enet"),
        ("darwin", "Library/Application Support/e2enet", "Library/Caches/e2enet"),
        ("win32", "AppData/Local/e2enet", "AppData/Local/e2enet/cache"),
    ],
)
def test_folders_of_each_system(
    monkeypatch: pytest.MonkeyPatch, platform: str, data: str, cache: str
) -> None:
    monkeypatch.setattr(folders.sys, "platform", platform)
    assert folders.user_folder() == Path.home() / data
    assert folders.cache_folder() == Path.home() / cache


def test_a_person_may_choose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(folders.sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert folders.user_folder() == tmp_path / "data" / "e2enet"
    assert folders.cache_folder() == tmp_path / "cache" / "e2enet"
    monkeypatch.setenv("E2ENET_CACHE", str(tmp_path / "mine"))
    assert folders.cache_folder() == tmp_path / "mine"
    monkeypatch.setattr(folders.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert folders.user_folder() == tmp_path / "local" / "e2enet"
