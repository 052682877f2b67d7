"""Models come and go: zips, folders, addresses, names of an index, packs of several."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2enet.bundle import Bundle, find_model, list_models
from e2enet.bundle.archive import extract_all, extract_checked, pack
from e2enet.bundle.checking import find_damage
from e2enet.bundle.index import write_index
from e2enet.bundle.install import folder_name, install, installed_folder, remove
from e2enet.events import BadInput, Reporter
from harness.server import FileServer, serving


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    return installed_folder()


@pytest.fixture
def two(tiny_bundle: Path, tmp_path: Path) -> list[Path]:
    """Two models of other names."""
    return [renamed(tiny_bundle, tmp_path / "made" / name, name) for name in ("one", "two")]


@pytest.fixture
def server(tiny_bundle: Path, tmp_path: Path) -> Iterator[FileServer]:
    """Serves /tiny, a folder, /tiny.zip and an index of one of them, /index.json."""
    folder = tmp_path / "served"
    shutil.copytree(tiny_bundle, folder / "tiny")
    write_index(folder)
    pack(tiny_bundle, folder / "tiny.zip")
    with serving(folder) as server:
        yield server


def renamed(source: Path, target: Path, name: str) -> Path:
    shutil.copytree(source, target)
    model = json.loads((target / "model.json").read_text(encoding="utf-8"))
    (target / "model.json").write_text(json.dumps({**model, "name": name}), encoding="utf-8")
    return target


def refused(code: str, *given: object, **options: object) -> str:
    """Nothing may change."""
    home = installed_folder()
    before = {p: p.read_bytes() for p in home.rglob("*") if p.is_file() and not hidden(p)}
    with pytest.raises(BadInput) as caught:
        install(*given, **options)  # type: ignore[arg-type]
    after = {p: p.read_bytes() for p in home.rglob("*") if p.is_file() and not hidden(p)}
    assert after == before
    assert caught.value.code == code
    return caught.value.message


def hidden(path: Path) -> bool:
    return ".downloads" in path.parts


def same(one: Path, other: Path) -> bool:
    def content(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    return content(one) == content(other)


def test_a_zip_and_a_folder(home: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    pack(tiny_bundle, tmp_path / "download.zip")
    assert install(tmp_path / "download.zip") == [home / "tiny"]
    assert same(home / "tiny", tiny_bundle)
    assert os.listdir(home) == ["tiny"]
    assert find_model("tiny") == home / "tiny"
    assert Bundle.open("tiny").load_weights()
    assert remove("tiny") == home / "tiny"
    assert os.listdir(home) == []
    assert install(tiny_bundle) == [home / "tiny"]
    assert same(home / "tiny", tiny_bundle)


def test_one_that_is_there_is_only_replaced_when_asked(
    home: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    install(tiny_bundle)
    other = renamed(tiny_bundle, tmp_path / "other", "tiny")
    assert "already installed" in refused("exists", other)
    assert same(home / "tiny", tiny_bundle)
    install(other, replace=True)
    assert same(home / "tiny", other)
    assert os.listdir(home) == ["tiny"]


def test_an_address_of_a_zip(home: Path, server: FileServer, tiny_bundle: Path) -> None:
    told = []

    class Listener(Reporter):
        def progress(self, stage: str, done: int, total: int) -> None:
            told.append((stage, done, total))

    server.cuts = [1000, 0]
    refused("connection-broken", server.at("tiny.zip"))
    install(server.at("tiny.zip"), reporter=Listener())
    assert server.asked[-1] == ("/tiny.zip", "bytes=1000-")
    assert same(home / "tiny", tiny_bundle)
    assert sorted(os.listdir(home)) == [".downloads", "tiny"]
    assert os.listdir(home / ".downloads") == []
    size = (server.folder / "tiny.zip").stat().st_size
    assert told[-1] == ("download", size, size)
    assert [path.name for path in list_models()].count("tiny") == 1


def test_an_address_of_a_folder(home: Path, server: FileServer, tiny_bundle: Path) -> None:
    """Each file is gone on with by itself; what came is not fetched again."""
    server.cuts = [10**9, 10**9, 0]
    refused("connection-broken", server.at("tiny/model.json"))
    assert len(server.asked) == 3
    assert install(server.at("tiny/model.json")) == [home / "tiny"]
    assert len(server.asked) == 3 + len(list(tiny_bundle.iterdir())) - 2
    assert same(home / "tiny", tiny_bundle)
    assert os.listdir(home / ".downloads") == []


def test_a_name_of_an_index(
    home: Path, server: FileServer, tiny_bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    index = server.at("index.json")
    assert install("tiny", index=index) == [home / "tiny"]
    assert same(home / "tiny", tiny_bundle)
    count = len(server.asked)
    refused("exists", "tiny", index=index)
    assert len(server.asked) == count + 1  # only the index
    assert "lists no model" in refused("no-model", "another", index=index)
    remove("tiny")
    install("tiny", index=server.folder)  # a network drive
    assert same(home / "tiny", tiny_bundle)
    remove("tiny")
    (tmp_path / "tiny").mkdir()  # a dataset of that name, for example
    monkeypatch.chdir(tmp_path)
    install("tiny", index=index)
    refused("damaged-model", "tiny")


def test_what_an_index_promised_and_what_came(home: Path, server: FileServer) -> None:
    index = server.at("index.json")
    weights = server.folder / "tiny" / "weights.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + b"x")
    refused("wrong-hash", "tiny", index=index)
    refused("damaged-model", "tiny", index=server.folder)
    weights.write_bytes(good + b"x")
    refused("too-large", "tiny", index=index)
    weights.write_bytes(good)
    install("tiny", index=index)


def test_a_wrong_hash(home: Path, server: FileServer, tiny_bundle: Path) -> None:
    wrong = hashlib.sha256(b"x").hexdigest()
    refused("wrong-hash", f"{server.url}/tiny.zip", sha256=wrong)
    refused("wrong-hash", f"{server.url}/tiny/model.json", sha256=wrong)
    refused("wrong-hash", server.folder / "tiny.zip", sha256=wrong)
    refused("bad-hash", server.folder / "tiny.zip", sha256="12")
    refused("insecure-address", f"{server.url}/tiny.zip")


def test_what_came_is_no_model(home: Path, server: FileServer) -> None:
    (server.folder / "page.zip").write_text("<html>Log in</html>", encoding="utf-8")
    assert "not a readable zip" in refused("bad-archive", server.at("page.zip"))
    assert [p for p in (home / ".downloads").rglob("*") if p.is_file() and p.name != "lock"] == []
    (server.folder / "x").mkdir()
    for text in ("[]", '{"files": 3}', "{", '{"files": {"../x": {"sha256": "", "bytes": 1}}}',
                 '{"files": {"model.json": {"sha256": "", "bytes": 1}}}', "[" * 10_000,
                 '{"files": {"x": {"sha256": "", "bytes": 1e18}}}'):  # fmt: skip
        (server.folder / "x" / "model.json").write_text(text, encoding="utf-8")
        refused("damaged-model", server.at("x/model.json"))


def test_an_address_that_leads_to_a_file_of_this_disk(home: Path, server: FileServer) -> None:
    server.away = {"/away.zip": (server.folder / "tiny.zip").as_uri()}
    refused("bad-redirection", f"{server.url}/away.zip", sha256="0" * 64)
    refused("bad-address", (server.folder / "tiny.zip").as_uri())


def test_a_file_that_is_not_there(home: Path, tmp_path: Path) -> None:
    refused("missing-file", tmp_path / "none.zip")
    refused("missing-file", "none.zip")


def test_two_downloads_of_one_address(home: Path, server: FileServer) -> None:
    from e2enet.locks import locked

    address = server.at("tiny.zip")
    work = home / ".downloads" / hashlib.sha256(address.split("#")[0].encode()).hexdigest()[:16]
    work.mkdir(parents=True)
    with locked(work, "download"):
        assert "under way already" in refused("run-in-use", address)
    install(address)


def test_a_pack_of_several(home: Path, two: list[Path], tmp_path: Path) -> None:
    pack(two, tmp_path / "all.zip")
    assert install(tmp_path / "all.zip") == [home / "one", home / "two"]
    for model in two:
        assert same(home / model.name, model)
    with pytest.raises(BadInput) as caught:
        extract_checked(tmp_path / "all.zip", tmp_path / "x")
    assert caught.value.code == "several-models"
    remove("one")
    refused("exists", tmp_path / "all.zip")  # both or none
    assert os.listdir(home) == ["two"]


def test_a_pack_with_a_damaged_model(home: Path, two: list[Path], tmp_path: Path) -> None:
    (two[1] / "README.md").write_text("changed", encoding="utf-8")
    pack(two, tmp_path / "all.zip")
    assert "changed or damaged" in refused("bad-archive", tmp_path / "all.zip")
    assert not home.exists() or os.listdir(home) == []


def test_a_pack_with_one_name_twice(home: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    both = [renamed(tiny_bundle, tmp_path / name, "tiny") for name in ("a", "b")]
    pack(both, tmp_path / "all.zip")
    assert "two models of one name" in refused("bad-archive", tmp_path / "all.zip")


def test_the_same_files_make_the_same_bytes(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "tiny"
    shutil.copytree(tiny_bundle, copy)
    for number, path in enumerate(copy.rglob("*")):
        os.utime(path, (1e9 + number, 1e9 + number))
    (copy / "README.md").chmod(0o600)
    pack(tiny_bundle, tmp_path / "a.zip")
    pack(copy, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        assert opened.testzip() is None
        assert {info.external_attr >> 16 for info in opened.infolist()} == {0o100644}
    (tmp_path / "out").mkdir()
    assert same(extract_all(tmp_path / "a.zip", tmp_path / "out")[0], tiny_bundle)


def test_removing(home: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    for name in ("hippocampus-mr", "../models", "..", ""):
        with pytest.raises(BadInput) as caught:
            remove(name)
        assert caught.value.code in ("not-installed", "no-model")
    install(tiny_bundle)
    (home / "x").mkdir()
    with pytest.raises(BadInput):
        remove("x")  # no model
    assert (home / "x").is_dir()


def test_names_of_folders() -> None:
    assert folder_name("Hippocampus, T1 MR") == "Hippocampus-T1-MR"
    assert folder_name("../../etc") == "etc"
    assert folder_name("…") == "model"


def test_damage_is_found(tiny_bundle: Path, tmp_path: Path) -> None:
    assert find_damage(tiny_bundle) == []
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    (copy / ".DS_Store").write_bytes(b"the system's own")
    assert find_damage(copy) == []
    (copy / "README.md").write_text("changed", encoding="utf-8")
    (copy / "evolution.json").unlink()
    (copy / "more").mkdir()
    (copy / "more" / "run.py").write_text("print()", encoding="utf-8")
    said = " ".join(find_damage(copy))
    assert "README.md was changed or damaged" in said
    assert "lacks evolution.json" in said
    assert "holds more/run.py" in said
    model = json.loads((copy / "model.json").read_text(encoding="utf-8"))
    (copy / "model.json").write_text(json.dumps({**model, "files": [1]}), encoding="utf-8")
    assert find_damage(copy) == [f"{copy / 'model.json'} lists no files."]


def test_a_link_is_no_file_of_a_model(home: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    (copy / "README.md").unlink()
    try:
        (copy / "README.md").symlink_to(tiny_bundle / "README.md")
    except OSError:
        pytest.skip("links cannot be made here")
    refused("damaged-model", copy)
