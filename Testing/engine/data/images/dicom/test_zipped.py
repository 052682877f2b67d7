"""Zips of DICOM files: read as their folder would be, and refused when they are made to harm."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from e2enet.data.images.volume import read_image
from e2enet.events import BadInput

Series = Callable[..., list[Path]]


@pytest.fixture
def zipped(tmp_path: Path, dicom_series: Series, monkeypatch: pytest.MonkeyPatch) -> Path:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    archive = tmp_path / "study.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for value, uid in ((1, "1.1"), (2, "1.2")):
            array = np.full((4, 6, 8), value, np.int16)
            for path in dicom_series(tmp_path / uid, array, uid=uid, number=value):
                # Equal names in two folders, and a path that would lead outside.
                opened.write(path, f"../out/{uid}/{path.name}")
    return archive


def test_a_series_of_a_zip(zipped: Path, tmp_path: Path) -> None:
    assert (read_image(zipped, series="2").array == 2).all()
    with pytest.raises(BadInput, match=r"study\.zip holds 2 DICOM series"):
        read_image(zipped)
    assert not list((tmp_path / "scratch").iterdir())  # nothing stays, nothing lies outside
    assert not (tmp_path / "out").exists()


def test_damaged_zip(zipped: Path, tmp_path: Path) -> None:
    whole = zipped.read_bytes()
    for content in (whole[: len(whole) // 2], b"PK", b""):
        zipped.write_bytes(content)
        with pytest.raises(BadInput, match=r"^study\.zip cannot be unpacked") as caught:
            read_image(zipped)
        assert caught.value.code == "bad-archive"
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_with_changed_bytes(tmp_path: Path, method: int) -> None:
    archive = tmp_path / "study.zip"
    with zipfile.ZipFile(archive, "w", method) as opened:
        opened.writestr("a.dcm", np.random.default_rng(0).bytes(5000))
    changed = bytearray(archive.read_bytes())
    changed[60:400] = bytes(range(255, 85, -1)) * 2
    archive.write_bytes(changed)
    with pytest.raises(BadInput, match=r"^study\.zip cannot be unpacked") as caught:
        read_image(archive)
    assert caught.value.code == "bad-archive"


def test_long_names_in_any_script(tmp_path: Path, dicom_series: Series) -> None:
    archive = tmp_path / "study.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in dicom_series(tmp_path / "ct", np.full((4, 6, 8), 3, np.int16)):
            opened.write(path, "\U0001f600" * 90 + path.name)
    assert (read_image(archive).array == 3).all()


def test_zip_that_unpacks_to_far_more(tmp_path: Path) -> None:
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("image.dcm", bytes(100 << 20))
    with pytest.raises(BadInput, match="more than such a zip can hold"):
        read_image(archive)


def test_zip_without_dicom(tmp_path: Path) -> None:
    archive = tmp_path / "notes.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("notes.txt", "nothing")
    with pytest.raises(BadInput, match="no DICOM series"):
        read_image(archive)
