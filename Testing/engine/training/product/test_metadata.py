"""What model.json gets from a person's file and from the bundle that is fine-tuned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from e2enet.bundle import Bundle
from e2enet.data.datasets.labels import Structures
from e2enet.data.planning.plan import Plan
from e2enet.data.preprocessing.store import PreprocessedCase
from e2enet.events import BadInput
from e2enet.inference.localisation.locator import Locator
from e2enet.training.product.metadata import (
    inherited,
    load_metadata,
    merged,
    volumes_ml,
    with_files_kept,
    with_locator,
)
from e2enet.training.run.labels import match_labels
from e2enet.training.train import train

from ...conftest import tiny_model
from ..conftest import Recorder

LOCATOR = {
    "kind": "affine-template",
    "template": "locator/template.nii.gz",
    "notice": "locator/NOTICE",
    "coordinates": "LPS",
    "boxes": [{"name": "Left", "center_mm": [9, 8, 7], "size_mm": [16, 16, 16], "mirror": True}],
    "crop_max_mm": [20, 20, 20],
}


@pytest.fixture
def locating(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The tiny bundle with a locator."""
    folder = tmp_path / "locating"
    shutil.copytree(tiny_bundle, folder)
    (folder / "locator").mkdir()
    (folder / "locator" / "template.nii.gz").write_bytes(b"a head")
    (folder / "locator" / "NOTICE").write_text("Free.")
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    (folder / "model.json").write_text(json.dumps({**model, "locator": LOCATOR}))
    return folder


def finetuned(dataset: Path, output: Path, base: Path, **more: Any) -> Recorder:
    recorder = Recorder()
    short = {"epochs": 1, "iterations_per_epoch": 1, "workers": 0, "device": "cpu"}
    train(dataset, output, base=base, reporter=recorder, **{**short, **more})
    return recorder


def test_a_fine_tuned_model_finds_its_region_too(
    tiny_dataset: Path, locating: Path, tmp_path: Path
) -> None:
    """Also when the base and the run's first folder are gone before the end."""

    class Impatient(Recorder):
        def metric(self, name: str, **values: Any) -> None:
            (tmp_path / "m.run" / "control").write_text("pause")

    wanted = Locator.from_dict(LOCATOR, locating)
    train(
        tiny_dataset, tmp_path / "m", base=locating, epochs=2, iterations_per_epoch=1, workers=0,
        device="cpu", reporter=Impatient(),
    )  # fmt: skip
    shutil.rmtree(locating)
    (tmp_path / "m.run").rename(tmp_path / "moved.run")
    train(tiny_dataset, tmp_path / "moved", resume=True, workers=0, device="cpu")
    bundle = Bundle.open(tmp_path / "moved")
    assert bundle.locator == LOCATOR
    found = Locator.from_dict(bundle.locator, bundle.path)
    assert found.boxes == wanted.boxes
    assert found.template.read_bytes() == b"a head"
    assert found.notice is not None
    assert found.notice.read_text(encoding="utf-8") == "Free."
    assert "locator/template.nii.gz" in bundle.model["files"]


def test_which_labels_keep_the_locator(locating: Path) -> None:
    source, recorder = Bundle.open(locating), Recorder()
    kept = with_locator({"anatomy": "Made shapes"}, source, [], recorder)
    assert kept["locator"] == LOCATOR
    assert set(kept["files"]) == {"locator/template.nii.gz", "locator/NOTICE"}
    assert recorder.events == []
    assert with_locator({}, source, ["cone"], recorder) == {}
    ((code, text),) = recorder.of("warning")
    assert code == "no-locator"
    assert "where its cone may lie" in text


@pytest.mark.parametrize("said", [{"locator": None}, {"anatomy": "Liver"}])
def test_a_person_knows_better(locating: Path, said: dict[str, Any]) -> None:
    recorder = Recorder()
    assert with_locator(said, Bundle.open(locating), [], recorder) == said
    assert recorder.events == []


def test_a_damaged_locator_ends_the_start(
    tiny_dataset: Path, locating: Path, tmp_path: Path
) -> None:
    (locating / "locator" / "template.nii.gz").unlink()
    with pytest.raises(BadInput, match=r"template\.nii\.gz is missing"):
        finetuned(tiny_dataset, tmp_path / "m", locating)
    assert not (tmp_path / "m.run").exists()


def test_no_locator_no_word(tiny_bundle: Path) -> None:
    assert with_locator({}, Bundle.open(tiny_bundle), ["cone"], Recorder()) == {}


def test_files_are_kept_with_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "meta.json").write_text(json.dumps({"files": {"x/a.txt": "a.txt"}}))
    metadata = load_metadata(tmp_path / "meta.json")
    kept = with_files_kept(metadata, tmp_path / "run")
    assert kept["files"] == {"x/a.txt": "files/x/a.txt"}
    assert (tmp_path / "run" / "files" / "x" / "a.txt").read_text(encoding="utf-8") == "a"
    assert with_files_kept({"title": "T"}, tmp_path / "run") == {"title": "T"}
    (tmp_path / "a.txt").unlink()
    with pytest.raises(BadInput, match="cannot be copied"):
        with_files_kept(metadata, tmp_path / "other")


def test_metadata_from_before_the_first_release(tmp_path: Path) -> None:
    path = tmp_path / "meta.json"
    path.write_text(json.dumps({"title": "T", "connection_group": 1}))
    assert load_metadata(path) == {"title": "T", "files": {}}
    path.write_text(json.dumps({"connection_group": 16}))
    with pytest.raises(BadInput, match=r"meta\.json has connection_group 16"):
        load_metadata(path)


def test_metadata_that_are_given_again(tmp_path: Path) -> None:
    before = {"title": "Old", "licence": "CC0-1.0", "files": {"a": "files/a", "b": "files/b"}}
    now = {"title": "New", "files": {"b": "/elsewhere/b"}}
    assert merged(before, now) == {
        "title": "New", "licence": "CC0-1.0", "files": {"a": "files/a", "b": "/elsewhere/b"},
        "labels": [],
    }  # fmt: skip
    assert merged({}, {}) == {"files": {}, "labels": []}
    labels = [{"value": 1, "color": [1, 2, 3]}, {"value": 2, "name": "b"}]
    now = {"labels": [{"value": 2, "color": [4, 5, 6]}]}
    assert merged({"labels": labels}, now)["labels"] == [
        labels[0], {"value": 2, "name": "b", "color": [4, 5, 6]},
    ]  # fmt: skip


def test_licence_and_citation_are_the_bases_unless_somebody_says_so(tiny_bundle: Path) -> None:
    source, recorder = Bundle.open(tiny_bundle), Recorder()
    source.model["citation"] = "Somebody, 2020"
    labels = {"background": 0, "cube": 1, "cone": 2}
    match = match_labels(labels, [], source.labels)
    found = inherited({"title": "T"}, source, match, labels, recorder)
    assert (found["licence"], found["citation"]) == ("CC0-1.0", "Somebody, 2020")
    assert "attribution" not in found
    (cube,) = found["labels"]
    assert (cube["value"], cube["color"]) == (1, [128, 174, 128])
    assert cube["terminology"] == source.labels[1].terminology
    assert recorder.events == []
    own = {"licence": "MIT", "labels": [{"value": 1, "color": [9, 9, 9]}]}
    found = inherited(own, source, match, labels, recorder)
    assert (found["licence"], found["citation"]) == ("MIT", "Somebody, 2020")
    assert found["labels"][0]["color"] == [9, 9, 9]
    ((code, text),) = recorder.of("warning")
    assert code == "licence-replaced"
    assert "CC0-1.0" in text
    assert "MIT" in text


def test_a_range_of_few_cases_is_none(tmp_path: Path) -> None:
    plan = Plan.from_dict(tiny_model()["plan"])
    cases = [
        PreprocessedCase(f"c{n}", tmp_path, (9, 9, 9), 1, counts, (1, 1, 1))
        for n, counts in enumerate([{1: 1000 + k, 2: 50} for k in range(9)] + [{1: 500}])
    ]
    labels = Structures({"one": (1,), "two": (2,)})
    assert volumes_ml(cases, plan, labels) == {"1": [0.5, 1.008]}
    assert volumes_ml(cases[:9], plan, labels) == {}
    # A region's is that of all its values, told by the one it is written with.
    regions = Structures({"both": (1, 2), "second": (2,)}, order=(1, 2))
    assert volumes_ml(cases, plan, regions) == {"1": [0.5, 1.058]}
    lacking = Structures(labels.values, missing={"c0": ("one",)})
    assert volumes_ml(cases, plan, lacking) == {}


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ("{", "cannot be read"),
        ([], "not an object"),
        ({"plan": {}}, '"plan"'),
        ({"labels": {"1": "a"}}, '"labels"'),
        ({"files": ["a"]}, '"files"'),
        ({"files": {"../a": "a"}}, '"files"'),
        ({"files": {"a": 3}}, '"files"'),
        ({"files": {"a": "nowhere"}}, "does not exist"),
    ],
)
def test_metadata_that_cannot_be(tmp_path: Path, record: Any, text: str) -> None:
    path = tmp_path / "meta.json"
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    with pytest.raises(BadInput, match=text) as caught:
        load_metadata(path)
    assert caught.value.code == "bad-metadata"
