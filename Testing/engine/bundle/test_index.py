"""A list of models that anyone can host."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from e2enet.bundle import Bundle
from e2enet.bundle.archive import pack
from e2enet.bundle.index import DEFAULT_INDEX, find_entry, read_index, write_index
from e2enet.bundle.install import install
from e2enet.events import BadInput
from harness.server import serving

REPOSITORY = Path(__file__).resolve().parents[3]
SHIPPED = REPOSITORY / "Resources" / "Models"
SAMPLE = REPOSITORY / "Resources" / "Samples" / "MNI152_T1_1mm.nii.gz"


def refused(code: str, place: object) -> str:
    with pytest.raises(BadInput) as caught:
        read_index(place)  # type: ignore[arg-type]
    assert caught.value.code == code
    return caught.value.message


def test_the_projects_own_index_is_of_the_models_that_ship(tmp_path: Path) -> None:
    """`e2enet models index Resources/Models --sample …` was run since they changed (make index)."""
    kept = (SHIPPED / "index.json").read_bytes()
    copy = tmp_path / "Resources"
    for name in ("Models", "Samples"):
        shutil.copytree(REPOSITORY / "Resources" / name, copy / name)
    sample = copy / "Samples" / SAMPLE.name
    written = write_index(copy / "Models", {"hippocampus-mr": sample, "brain-any": sample})
    assert written.read_bytes() == kept
    assert DEFAULT_INDEX.endswith("/Resources/Models/index.json")


def test_what_a_card_shows_is_what_the_model_says() -> None:
    for entry in read_index(SHIPPED):
        bundle = Bundle.open(SHIPPED / entry.name)
        assert entry.model["title"] == bundle.title
        assert entry.model["licence"] == bundle.model["licence"]
        assert entry.model["attribution"] == bundle.model["attribution"]
        assert entry.is_at(bundle.path)
        assert entry.bytes == sum(p.stat().st_size for p in bundle.path.rglob("*") if p.is_file())
        for short, whole in zip(entry.model["results"], bundle.model["results"], strict=True):
            assert short["cases"] == whole["cases"]
            for name, values in short["mean_by_label"].items():
                assert values["Dice"] == whole["mean_by_label"][name]["Dice"]
    first = find_entry("hippocampus-mr", SHIPPED)
    assert first.sample is not None
    assert Path(first.sample.place) == SAMPLE
    assert first.sample.name == "MNI152_T1_1mm"


def test_over_http_every_file_is_an_address(tiny_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "www" / "models" / "tiny model")
    (tmp_path / "www" / "head.nii.gz").write_bytes(b"head")
    write_index(tmp_path / "www" / "models", {"tiny": tmp_path / "www" / "head.nii.gz"})
    with serving(tmp_path / "www") as server:
        (entry,) = read_index(server.at("models/index.json"))
        assert entry.file.place == f"{server.url}/models/tiny%20model/model.json"
        assert entry.sample is not None
        assert entry.sample.place == f"{server.url}/head.nii.gz"
        target = entry.sample.fetch(tmp_path / "head.nii.gz")
        assert target.read_bytes() == b"head"
        entry.file.fetch(tmp_path / "model.json")


def test_zips(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a release has them: flat, each with its picture beside it."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    www = tmp_path / "www"
    www.mkdir()
    pack(tiny_bundle, www / "tiny.zip")
    pack(SHIPPED / "hippocampus-mr", www / "hippocampus-mr.zip")
    write_index(www)
    assert sorted(path.name for path in www.iterdir()) == [
        "hippocampus-mr.png", "hippocampus-mr.zip", "index.json", "tiny.zip",
    ]  # fmt: skip
    with serving(www) as server:
        index = server.at("index.json")
        entry = find_entry("hippocampus-mr", index)
        assert entry.bytes == (www / "hippocampus-mr.zip").stat().st_size
        assert entry.picture is not None
        shown = entry.picture.fetch(tmp_path / "picture.png")
        assert shown.read_bytes() == (SHIPPED / "hippocampus-mr" / "picture.png").read_bytes()
        assert find_entry("tiny", index).picture is None
        (placed,) = install("tiny", index=index)
    assert find_entry("tiny", www).is_at(placed)
    assert not entry.is_at(placed)
    assert not entry.is_at(tmp_path)


def good(tiny_bundle: Path, folder: Path) -> dict[str, Any]:
    shutil.copytree(tiny_bundle, folder / "tiny")
    content: dict[str, Any] = json.loads(write_index(folder).read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize(
    "change",
    [
        {"url": "file:///etc/passwd"},
        {"url": "ftp://127.0.0.1/x"},
        {"url": "https://me:secret@host/x"},
        {"sha256": ""},
        {"sha256": "12"},
        {"sha256": None},
        {"bytes": -1},
        {"bytes": 1 << 60},
        {"bytes": "many"},
        {"name": 3},
        {"model": []},
        {"model": {}},
        {"model": {"labels": [3], "channels": []}},
        {"model": {"labels": [{"name": 3}], "channels": []}},
        {"picture": {"url": "x"}},
        {"picture": {"url": "file:///etc/passwd", "sha256": "0" * 64, "bytes": 3}},
        {"sample": "x"},
    ],
)
def test_an_index_that_says_what_it_should_not(
    tiny_bundle: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    content = good(tiny_bundle, tmp_path)
    content["models"][0].update(change)
    (tmp_path / "index.json").write_text(json.dumps(content), encoding="utf-8")
    with serving(tmp_path) as server, pytest.raises(BadInput) as caught:
        read_index(server.at("index.json"))
    assert caught.value.code in ("bad-index", "bad-address", "bad-hash")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema_version": 1}', "[" * 100_000, '{"schema_version": 1, "models": 3}'],
)
def test_what_is_no_index(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text, encoding="utf-8")
    assert "no index of models" in refused("bad-index", tmp_path)


def test_other_places_and_versions(tmp_path: Path) -> None:
    refused("missing-file", tmp_path)
    refused("bad-address", "file:///etc/passwd")
    refused("insecure-address", "http://host/index.json")
    (tmp_path / "index.json").write_text('{"schema_version": 2}', encoding="utf-8")
    assert "schema version 2" in refused("index-version", tmp_path)
    (tmp_path / "index.json").write_bytes(b" " * (5 << 20))
    with serving(tmp_path) as server:
        refused("too-large", server.at("index.json"))


def test_a_text_that_would_steer_a_terminal(tiny_bundle: Path, tmp_path: Path) -> None:
    content = good(tiny_bundle, tmp_path)
    content["models"][0]["model"]["title"] = "\x1b[2JTiny\n"
    (tmp_path / "index.json").write_text(json.dumps(content), encoding="utf-8")
    (entry,) = read_index(tmp_path)
    assert entry.model["title"] == " [2JTiny "


def test_a_folder_that_cannot_be_listed(tiny_bundle: Path, tmp_path: Path) -> None:
    def wrong(code: str, samples: dict[str, Path] | None = None) -> str:
        with pytest.raises(BadInput) as caught:
            write_index(tmp_path / "www", samples)
        assert not (tmp_path / "www" / "index.json").exists()
        assert caught.value.code == code
        return caught.value.message

    wrong("missing-file")
    (tmp_path / "www").mkdir()
    wrong("no-model")
    shutil.copytree(tiny_bundle, tmp_path / "www" / "tiny")
    assert "not other" in wrong("no-model", {"other": tiny_bundle / "model.json"})
    wrong("missing-file", {"tiny": tmp_path / "none.nii.gz"})
    pack(tiny_bundle, tmp_path / "www" / "tiny.zip")
    wrong("no-model")  # twice
    (tmp_path / "www" / "tiny.zip").unlink()
    (tmp_path / "www" / "tiny" / "README.md").write_text("changed", encoding="utf-8")
    wrong("damaged-model")
