"""Results in a bundle: of its own predictions, in model.json and for a person."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from e2enet.bundle import Bundle
from e2enet.bundle.archive import extract_checked, pack
from e2enet.bundle.results import record_results, recorded
from e2enet.events import BadInput


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    return Bundle.open(tmp_path / "tiny")


def manifest(bundle: Bundle, path: Path, *, tta: bool = False, weights: str = "") -> Path:
    weights = weights or bundle.weights_sha256()
    content = {"model": {"weights_sha256": weights}, "options": {"tta": tta}}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def record(bundle: Bundle, folder: Path, dice: float, *, tta: bool = False) -> Bundle:
    return record_results(
        bundle,
        references="Dataset900_Tiny/labelsTs",
        manifests={name: manifest(bundle, folder / f"{name}.json", tta=tta) for name in ("b", "a")},
        by_label={"sphere": {"Dice": dice, "HD95": 1.5}, "cube": {"Dice": None, "HD95": None}},
        mean={"Dice": dice, "HD95": 1.5},
    )


def test_results_are_written_for_programs_and_for_a_person(bundle: Bundle, tmp_path: Path) -> None:
    before = {k: v for k, v in bundle.model.items() if k not in ("results", "files")}
    written = record(bundle, tmp_path, 0.75)
    (entry,) = recorded(written)
    assert entry["cases"] == ["a", "b"]
    assert entry["mean_by_label"]["sphere"] == {"Dice": 0.75, "HD95": 1.5}
    assert entry["mean_by_label"]["cube"] == {"Dice": None, "HD95": None}
    assert {k: v for k, v in written.model.items() if k not in ("results", "files")} == before
    readme = (written.path / "README.md").read_text(encoding="utf-8")
    assert "2 cases of Dataset900_Tiny/labelsTs, without mirroring" in readme
    assert "| sphere | 0.750 | 1.500 |" in readme
    assert "| cube | – | – |" in readme
    assert readme.startswith("# Tiny")
    # The hashes are those of what lies there now: the bundle survives a zip and its checks.
    pack(written.path, tmp_path / "tiny.zip")
    extract_checked(tmp_path / "tiny.zip", tmp_path / "again")
    assert recorded(Bundle.open(tmp_path / "again")) == [entry]


def test_the_same_references_are_replaced_and_others_kept(bundle: Bundle, tmp_path: Path) -> None:
    bundle = record(bundle, tmp_path, 0.5)
    bundle = record(bundle, tmp_path, 0.8, tta=True)
    bundle = record(bundle, tmp_path, 0.6)
    assert [(one["tta"], one["mean"]["Dice"]) for one in recorded(bundle)] == [
        (True, 0.8), (False, 0.6)
    ]  # fmt: skip
    readme = (bundle.path / "README.md").read_text(encoding="utf-8")
    assert readme.count("## Results") == 1
    assert "0.500" not in readme


def test_what_was_typed_goes_and_the_rest_of_the_readme_stays(
    bundle: Bundle, tmp_path: Path
) -> None:
    text = "# Title\n\nAbout.\n\nResults: 0.99, believe me.\n\nLicence: CC0\n\nPlease cite: us\n"
    (bundle.path / "README.md").write_text(text, encoding="utf-8")
    model = json.loads((bundle.path / "model.json").read_text(encoding="utf-8"))
    (bundle.path / "model.json").write_text(json.dumps({**model, "results": "0.99"}))
    for _ in range(2):
        bundle = record(Bundle.open(bundle.path), tmp_path, 0.5)
        readme = (bundle.path / "README.md").read_text(encoding="utf-8")
        assert "believe" not in readme
        head, table = readme.split("\n\n## Results\n")
        assert head == "# Title\n\nAbout."
        assert table.endswith("|\n\nLicence: CC0\n\nPlease cite: us\n")


def test_predictions_of_another_model_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    good = manifest(bundle, tmp_path / "good.json")
    other = manifest(bundle, tmp_path / "other.json", weights="0" * 64)
    mirrored = manifest(bundle, tmp_path / "mirrored.json", tta=True)
    (tmp_path / "damaged.json").write_text("{}")
    before = (bundle.path / "model.json").read_bytes()
    for path, code, words in (
        (other, "other-model", "was not segmented by tiny"),
        (mirrored, "mixed-options", "b was segmented with --tta, a without"),
        (tmp_path / "damaged.json", "no-manifest", "damaged.json is missing or damaged"),
        (tmp_path / "none.json", "no-manifest", "none.json is missing or damaged"),
    ):
        with pytest.raises(BadInput, match=words) as caught:
            record_results(
                bundle, references="r", manifests={"a": good, "b": path}, by_label={}, mean={}
            )
        assert caught.value.code == code
    assert (bundle.path / "model.json").read_bytes() == before
