from __future__ import annotations

import hashlib
import json
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from e2enet.bundle import archive as module
from e2enet.bundle.archive import extract_checked, pack
from e2enet.events import BadInput

FILES = {"weights.safetensors": b"weights" * 200, "locator/template.nii.gz": b"template"}


def listing(files: dict[str, bytes]) -> bytes:
    entries = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in files.items()
    }
    return json.dumps({"files": entries}).encode()


def make_zip(path: Path, files: dict[str, bytes], *, root: str = "tiny/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(root + name, content)
    return path


def good() -> dict[str, bytes]:
    return {"model.json": listing(FILES), **FILES}


def refused(archive: Path, folder: Path) -> str:
    """Nothing may be left behind, inside the folder, beside it or above it."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(BadInput) as caught:
        extract_checked(archive, folder / "unpacked")
    assert sorted(archive.parent.rglob("*")) == before
    assert caught.value.code == "bad-archive"
    assert archive.name in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("root", ["", "tiny/", "./"])
def test_a_good_zip_is_unpacked(tmp_path: Path, root: str) -> None:
    archive = make_zip(tmp_path / "tiny.zip", good(), root=root)
    extract_checked(archive, tmp_path / "new" / "unpacked")
    for name, content in good().items():
        assert (tmp_path / "new" / "unpacked" / name).read_bytes() == content
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["unpacked"]


def test_what_pack_writes_can_be_unpacked(tmp_path: Path, tiny_bundle: Path) -> None:
    archive = tmp_path / "tiny.zip"
    pack(tiny_bundle, archive)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.zip"]
    extract_checked(archive, tmp_path / "again")
    for path in tiny_bundle.rglob("*"):
        if path.is_file():
            again = tmp_path / "again" / path.relative_to(tiny_bundle)
            assert again.read_bytes() == path.read_bytes()


def test_a_failure_while_packing_leaves_no_file(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(module.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="disk full"):
        pack(tiny_bundle, tmp_path / "tiny.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/evil", "..", "C:/evil", "C:evil", "a\\..\\..\\evil", "tiny/../x"],
)
def test_paths_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    archive = make_zip(tmp_path / "bad.zip", good())
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(name, b"evil")
    assert "leads outside" in refused(archive, tmp_path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    archive = make_zip(tmp_path / "bad.zip", good())
    info = zipfile.ZipInfo("tiny/link")
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(info, b"/etc/passwd")
    assert "not a plain file" in refused(archive, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.update({"weights.safetensors": b"other"}), "changed or damaged"),
        (lambda f: f.update({"extra.py": b"print()"}), "extra.py, which its model.json does not"),
        (lambda f: f.pop("locator/template.nii.gz"), "lacks locator/template.nii.gz"),
        (lambda f: f.pop("model.json"), "no model.json"),
        (lambda f: f.update({"model.json": b"{"}), "lists no files"),
        (lambda f: f.update({"model.json": b"[]"}), "lists no files"),
        (lambda f: f.update({"model.json": b'{"files": {"a": 1}}'}), "lists no files"),
        (lambda f: f.update({"model.json": b"[" * 100_000}), "not a readable zip"),
        (lambda f: f.update({"Weights.safetensors": b""}), "a file twice"),
        (lambda f: f.update({"x/model.json": f.pop("model.json")}), "no model.json"),
    ],
)
def test_what_is_not_listed_and_whole_is_refused(
    tmp_path: Path, change: Callable[[dict], None], said: str
) -> None:
    files = good()
    change(files)
    assert said in refused(make_zip(tmp_path / "bad.zip", files), tmp_path)


def test_a_model_json_of_another_name_is_none(tmp_path: Path) -> None:
    files = {"supermodel.json": listing({}), "a/b/model.json": listing({})}
    archive = make_zip(tmp_path / "bad.zip", files, root="")
    assert "no model.json" in refused(archive, tmp_path)


def test_sizes_are_looked_at_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 5_000_000)
    bomb = {"bomb.bin": bytes(6_000_000)}
    archive = make_zip(tmp_path / "bomb.zip", {"model.json": listing(bomb), **bomb})
    assert archive.stat().st_size < 20_000

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was opened")

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "open", never)
        assert "more than a model" in refused(archive, tmp_path)

    monkeypatch.setattr(module, "MAX_MODEL_BYTES", 10)
    archive = make_zip(tmp_path / "large.zip", good())
    assert "far too large" in refused(archive, tmp_path)


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    many = {f"{index}": b"" for index in range(module.MAX_FILES + 1)}
    archive = make_zip(tmp_path / "many.zip", many)
    assert "more than a model" in refused(archive, tmp_path)


def test_a_size_that_lies_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "lies.zip", good())
    content = bytearray(archive.read_bytes())
    size = len(FILES["weights.safetensors"]).to_bytes(4, "little")
    place = content.rindex(size, 0, content.rindex(b"weights.safetensors"))
    content[place : place + 4] = (3).to_bytes(4, "little")
    archive.write_bytes(content)
    refused(archive, tmp_path)


def test_truncated_and_damaged_zips_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "bad.zip", good())
    whole = archive.read_bytes()
    for length in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        archive.write_bytes(whole[:length])
        refused(archive, tmp_path)
    archive.write_bytes(b"this is no zip")
    refused(archive, tmp_path)


def test_no_flipped_byte_gets_through(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "bad.zip", good())
    whole = archive.read_bytes()
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        archive.write_bytes(changed)
        target = tmp_path / "unpacked"
        try:
            extract_checked(archive, target)
        except BadInput:
            assert not target.exists()
            continue
        # The byte lay where it means nothing, such as a time stamp or a name in a local header.
        assert {n: (target / n).read_bytes() for n in FILES} == FILES
        shutil.rmtree(target)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "secret.zip", good())
    content = bytearray(archive.read_bytes())
    for marker, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(marker)
        while place >= 0:
            content[place + offset] |= 1
            place = content.find(marker, place + 4)
    archive.write_bytes(content)
    assert "not a readable zip" in refused(archive, tmp_path)


def test_somebody_else_may_be_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "tiny.zip", good())
    folder = tmp_path / "unpacked"
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        shutil.copytree(self, target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    extract_checked(archive, folder)
    assert (folder / "model.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.zip", "unpacked"]
