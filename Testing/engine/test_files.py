"""What is written appears whole or not at all, and a failure leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from e2enet.events import BadInput
from e2enet.files import (
    check_writable,
    move_folder,
    output_errors,
    replacing,
    scratch_folder,
    sha256,
    write_atomic,
)

LONGEST = "n" * 255


def test_sha256_of_more_than_one_block(tmp_path: Path) -> None:
    content = b"0123456789" * 300_000
    (tmp_path / "f").write_bytes(content)
    assert sha256(tmp_path / "f") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["f", LONGEST])
def test_write_atomic_replaces(tmp_path: Path, name: str) -> None:
    write_atomic(tmp_path / name, b"one")
    write_atomic(tmp_path / name, "zwölf")
    assert (tmp_path / name).read_bytes() == "zwölf".encode()
    assert os.listdir(tmp_path) == [name]


def test_write_atomic_keeps_the_old_content_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "f", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("name", ["image.nii.gz", LONGEST])
def test_replacing_takes_the_place_at_the_end(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")
    with replacing(tmp_path / name, ".nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"new")
        assert (tmp_path / name).read_bytes() == b"old"
    assert (tmp_path / name).read_bytes() == b"new"
    assert os.listdir(tmp_path) == [name]


def half_written(path: Path) -> None:
    path.write_bytes(b"ne")
    raise RuntimeError("stop")


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(RuntimeError, match="stop"), replacing(tmp_path / "f") as temporary:
        half_written(temporary)
    assert (tmp_path / "f").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_scratch_folder_makes_what_is_missing_and_goes(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "a" / "b") as scratch:
        (scratch / "left").write_text("behind")
        (scratch / "kept").write_text("kept")
        os.replace(scratch / "kept", tmp_path / "a" / "b" / "kept")
    assert os.listdir(tmp_path / "a" / "b") == ["kept"]


def test_scratch_folder_takes_its_folders_along_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), scratch_folder(tmp_path / "a" / "b") as scratch:
        half_written(scratch / "f")
    assert os.listdir(tmp_path) == []


def test_scratch_folder_leaves_what_somebody_else_put_in(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), scratch_folder(tmp_path / "a" / "b"):
        half_written(tmp_path / "a" / "theirs")
    assert os.listdir(tmp_path / "a") == ["theirs"]


def test_move_folder_replaces(tmp_path: Path) -> None:
    for content in ("one", "two"):
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / content).touch()
        move_folder(tmp_path / "new", tmp_path / "target")
        assert os.listdir(tmp_path / "target") == [content]
    assert os.listdir(tmp_path) == ["target"]


def test_move_folder_puts_the_old_one_back(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old").touch()
    with pytest.raises(FileNotFoundError):
        move_folder(tmp_path / "missing", tmp_path / "target")
    assert os.listdir(tmp_path / "target") == ["old"]
    assert os.listdir(tmp_path) == ["target"]


def test_where_nothing_can_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "new", tmp_path / "a" / "b" / "new", tmp_path / "folder"):
        check_writable(path)
    for path in (tmp_path / "file" / "new", tmp_path / "file" / "a" / "new"):
        with pytest.raises(BadInput, match=r"file is no folder that may be written to") as caught:
            check_writable(path)
        assert caught.value.code == "output-not-writable"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_output_errors_say_what_the_system_said(tmp_path: Path) -> None:
    with (
        pytest.raises(BadInput, match="No such file or directory") as caught,
        output_errors("result.nii.gz", help="Try again."),
    ):
        (tmp_path / "missing" / "f").write_text("")
    assert caught.value.message.startswith("result.nii.gz cannot be written")
    assert (caught.value.code, caught.value.help) == ("output-not-writable", "Try again.")


def test_output_errors_name_the_whole_and_not_its_part() -> None:
    with (
        pytest.raises(BadInput, match=r"^whole cannot be written"),
        output_errors("whole"),
        output_errors("part"),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(BadInput, match=r"^other$"), output_errors("whole"):
        raise BadInput("other")


def test_long_names_that_begin_alike_do_not_share_a_temporary_name(tmp_path: Path) -> None:
    one, other = tmp_path / ("n" * 200 + "1"), tmp_path / ("n" * 200 + "2")
    with replacing(one) as first, replacing(other) as second:
        first.write_bytes(b"1")
        second.write_bytes(b"2")
    assert (one.read_bytes(), other.read_bytes()) == (b"1", b"2")
