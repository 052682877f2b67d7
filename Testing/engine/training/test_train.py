"""From a dataset to a bundle, and everything that may be wrong on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.bundle import Bundle
from e2enet.data.planning.plan import Plan
from e2enet.evaluation.evaluate import evaluate
from e2enet.events import BadInput
from e2enet.inference.segmenter import segment
from e2enet.training.loop.trainer import Trainer
from e2enet.training.run.presets import Preset, with_preset
from e2enet.training.run.settings import Settings
from e2enet.training.train import train

from .conftest import Recorder
from .runs import SMALL, change, edit_json, fine, small


def test_the_bundle_is_whole(trained: Path) -> None:
    bundle = Bundle.open(trained)
    network, connections = bundle.load_network()
    assert network.arguments["base_channels"] == 4
    assert connections.density == pytest.approx(0.2, abs=0.01)
    assert [label.name for label in bundle.labels] == ["sphere", "cube"]
    assert bundle.channels == ["MRI"]
    assert Plan.from_dict(bundle.plan).patch == (16, 16, 16)
    provenance = bundle.model["provenance"]
    assert provenance["iterations"] == 10
    assert set(provenance["metrics"]["dice"]) == {"sphere", "cube"}
    assert provenance["metrics"]["of"] == "2 held-out cases"
    evolved = [e["iteration"] for e in bundle.history()["history"] if e["turnover"] is not None]
    assert evolved == [4]
    readme = (trained / "README.md").read_text(encoding="utf-8")
    assert "e2enet train Dataset900_Tiny --output model" in readme
    assert "--levels 3" in readme
    assert "(feature sparsity 0.8" in readme
    assert str(trained.parent) not in readme + json.dumps(bundle.model)


def test_held_out_dice_is_what_evaluate_finds(
    tiny_dataset: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """On the images' own grids, which differ from the plan's in spacing and orientation."""
    dataset = tmp_path / "Dataset903_Oblique"
    shutil.copytree(tiny_dataset, dataset)
    for part in ("imagesTr", "labelsTr"):
        for path in (dataset / part).iterdir():
            image = sitk.PermuteAxes(sitk.ReadImage(path), (1, 2, 0))
            image.SetSpacing((1.3, 0.9, 0.8))
            sitk.WriteImage(image, path)
    done = fine(dataset, tmp_path / "m", tiny_bundle, fold="1", lr=1e-7)
    held_out = Bundle.open(tmp_path / "m").model["provenance"]["data"]["held_out"]
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    for folder in (predictions, references):
        folder.mkdir()
    for name in held_out:
        image = dataset / "imagesTr" / f"{name}_0000.nii.gz"
        segment(image, tmp_path / "m", output=predictions / f"{name}.nii.gz", device="cpu")
        shutil.copy(dataset / "labelsTr" / f"{name}.nii.gz", references)
    shutil.copy(dataset / "dataset.json", tmp_path)
    found = evaluate(predictions, references)
    assert done.dice == {name: found.of_structure(name) for name in found.names}
    assert min(done.dice.values()) > 0.01  # type: ignore[type-var]  # else it says nothing


def test_the_run_holds_its_curves(trained: Path) -> None:
    run = trained.with_name("model.run")
    names = {path.name for path in run.iterdir()}
    assert names == {
        "run.json", "plan.json", "checkpoint.safetensors", "metrics.csv", "curves.png", "lock",
        "log.txt", "best.safetensors",
    }  # fmt: skip


OWN_SPLIT = [{"train": ["tiny_001", "tiny_002"], "val": ["tiny_000"]}]


@pytest.fixture
def own_split(copied: Path) -> Path:
    """Three cases with a splits_final.json of one fold."""
    (copied / "splits_final.json").write_text(json.dumps(OWN_SPLIT), encoding="utf-8")
    return copied


def test_a_datasets_own_split_is_used_and_kept(own_split: Path, tmp_path: Path) -> None:
    class Impatient(Recorder):
        def metric(self, name: str, **values: Any) -> None:
            (tmp_path / "m.run" / "control").write_text("pause")

    recorder = Impatient()
    assert small(own_split, tmp_path / "m", reporter=recorder).state == "paused"
    assert "no-held-out-cases" not in [code for code, _ in recorder.of("warning")]
    run = json.loads((tmp_path / "m.run" / "run.json").read_text(encoding="utf-8"))
    assert run["dataset"]["split"] == OWN_SPLIT[0]
    splits = own_split / "splits_final.json"
    text = splits.read_text(encoding="utf-8")
    for changed in (text.replace("000", "002").replace("002", "000", 1), "[]"):
        splits.write_text(changed, encoding="utf-8")
        with pytest.raises(BadInput, match=r"holds out other cases|no list of folds"):
            small(own_split, tmp_path / "m", resume=True)
    splits.write_text(text, encoding="utf-8")
    assert small(own_split, tmp_path / "m", resume=True).state == "finished"
    provenance = Bundle.open(tmp_path / "m").model["provenance"]
    assert provenance["metrics"]["of"] == "1 held-out case"
    assert provenance["data"]["cases"] == 2
    split = {"train": provenance["data"]["training"], "val": provenance["data"]["held_out"]}
    assert split == OWN_SPLIT[0]


def test_a_run_from_before_splits_were_recorded(
    trained: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained.with_name("model.run"), tmp_path / "model.run")
    record = tmp_path / "model.run" / "run.json"
    dataset = json.loads(record.read_text(encoding="utf-8"))["dataset"]
    assert len(dataset.pop("split")["val"]) == 2
    edit_json(record, dataset=dataset)
    done = train(tiny_dataset, tmp_path / "model", resume=True, workers=0, device="cpu")
    assert done.state == "finished"


def test_an_existing_output_is_never_overwritten(tiny_dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    output.mkdir()
    (output / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="already exists"):
        small(tiny_dataset, output)
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "thesis.txt"]


def test_another_bundle_in_the_place_of_the_output_is_kept(
    trained: Path, tiny_dataset: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained.with_name("model.run"), tmp_path / "model.run")
    shutil.copytree(tiny_bundle, tmp_path / "model")
    with pytest.raises(BadInput, match="already exists"):
        small(tiny_dataset, tmp_path / "model", resume=True)
    assert Bundle.open(tmp_path / "model").name == "tiny"


def test_training_on_all_cases_says_what_its_dice_is(tiny_dataset: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    small(tiny_dataset, tmp_path / "m", fold="all", epochs=1, sparsity=0.0, reporter=recorder)
    assert "no-held-out-cases" in [code for code, _ in recorder.of("warning")]
    model = Bundle.open(tmp_path / "m").model
    assert model["provenance"]["metrics"]["of"] == "patches of training cases"
    assert model["provenance"]["sparsity"] == 0


def test_a_dry_run_tells_and_measures_and_leaves_nothing(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    recorder = Recorder()
    done = small(tiny_dataset, tmp_path / "m", dry_run=True, fold="1", epochs=7, reporter=recorder)
    assert (done.state, done.bundle) == ("dry-run", None)
    (told,) = recorder.of("metric")
    assert told == {
        "name": "summary", "dataset": "Dataset900_Tiny", "training_cases": 5,
        "held_out_cases": 1, "labels": ["sphere", "cube"], "channels": ["MRI"],
        "spacing_mm": [1.0, 1.0, 1.0], "patch": [16, 16, 16], "batch_size": 2, "levels": 3,
        "base_channels": 4, "sparsity": pytest.approx(0.8, abs=0.01), "epochs": 7,
        "iterations_per_epoch": 5, "evolve_every": 4, "device": "CPU",
        "memory_gb": told["memory_gb"], "output": str(tmp_path / "m"),
        "step_s": told["step_s"], "training_s": told["training_s"],
    }  # fmt: skip
    assert told["step_s"] > 0
    assert told["training_s"] == pytest.approx(35 * told["step_s"], rel=0.1, abs=1)
    assert recorder.of("result")[0]["state"] == "dry-run"
    assert not list(tmp_path.iterdir())
    with pytest.raises(BadInput, match="--dry-run"):
        small(tiny_dataset, tmp_path / "m", dry_run=True, resume=True)


def test_what_will_go_wrong_is_said_before(copied: Path, tmp_path: Path) -> None:
    for path in (copied / "labelsTr").iterdir():
        change(path, lambda array: np.where(array == 2, 0, array).astype(np.uint8))
    recorder = Recorder()
    small(copied, tmp_path / "m", dry_run=True, epochs=10**9, reporter=recorder)
    said = dict(recorder.of("warning"))
    assert "No training case has cube" in said["label-without-cases"]
    assert "days" in said["long-training"]


def test_running_out_of_memory_suggests_what_fits(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step

    def stepping(trainer: Trainer, *args: Any) -> float:
        if trainer.iteration == 6:
            bytearray(1 << 62)  # what no machine has
        return step(trainer, *args)

    monkeypatch.setattr(Trainer, "step", stepping)
    with pytest.raises(BadInput, match="CPU ran out of memory after iteration 6") as caught:
        small(tiny_dataset, tmp_path / "m")
    assert caught.value.code == "out-of-memory"
    assert "--memory-gb" in caught.value.help
    monkeypatch.undo()
    assert small(tiny_dataset, tmp_path / "m", resume=True).state == "finished"


def test_a_run_keeps_a_log(trained: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    lines = (trained.with_name("model.run") / "log.txt").read_text(encoding="utf-8").splitlines()
    kinds = [line.split(" ")[1] for line in lines]
    assert kinds == ["summary:", "epoch:", "epoch:", "result:"]
    shutil.copytree(trained.with_name("model.run"), tmp_path / "model.run")
    (tmp_path / "model.run" / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(BadInput):
        small(tiny_dataset, tmp_path / "model", resume=True)
    text = (tmp_path / "model.run" / "log.txt").read_text(encoding="utf-8")
    assert text.startswith("\n".join(lines))
    assert "ended: The checkpoint" in text.splitlines()[-1]


def test_metadata_goes_into_the_model(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "notice.txt").write_text("Free.")
    metadata = tmp_path / "metadata.json"
    record = {
        "title": "Blocks", "licence": "CC BY-SA 4.0", "attribution": "Made here.", "modality": "MR",
        "labels": [{"value": 2, "name": "Cube", "color": [1, 2, 3]}],
        "files": {"locator/notice.txt": "notice.txt"},
    }  # fmt: skip
    metadata.write_text(json.dumps(record))
    small(tiny_dataset, tmp_path / "m", epochs=1, iterations_per_epoch=1, metadata=metadata)
    bundle = Bundle.open(tmp_path / "m")
    assert bundle.title == "Blocks"
    assert bundle.model["licence"] == "CC BY-SA 4.0"
    assert [(x.name, x.color) for x in bundle.labels][1] == ("Cube", (1, 2, 3))
    assert (tmp_path / "m" / "locator" / "notice.txt").read_text(encoding="utf-8") == "Free."
    readme = (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    assert "Made here." in readme
    assert "CC BY-SA 4.0" in readme


def test_bad_metadata(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text('{"plan": {}}')
    with pytest.raises(BadInput, match='"plan"'):
        small(tiny_dataset, tmp_path / "m", metadata=tmp_path / "metadata.json")
    assert not (tmp_path / "m.run").exists()


def test_an_output_that_cannot_be_made(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot be made"):
        small(tiny_dataset, tmp_path / "file" / "model")


def test_an_edited_plan_is_used(tiny_dataset: Path, trained: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    shutil.copy(trained.with_name("model.run") / "plan.json", plan)
    edit_json(plan, spacing=[1.5, 1.5, 1.5], mirror_axes=[])
    short = {"epochs": 1, "iterations_per_epoch": 1, "levels": None, "patch": None}
    small(tiny_dataset, tmp_path / "m", plan=plan, **short)
    used = Plan.from_dict(Bundle.open(tmp_path / "m").plan)
    assert used.spacing == (1.5, 1.5, 1.5)
    assert used.mirror_axes == ()


def test_a_training_that_does_not_fit_is_refused_before_it_begins(
    tiny_dataset: Path, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"needs about .* 0\.2 GB may be used") as caught:
        small(tiny_dataset, tmp_path / "m", memory_gb=0.2)
    assert caught.value.code == "too-little-memory"
    assert not list(tmp_path.iterdir())
    shutil.copytree(trained.with_name("model.run"), tmp_path / "model.run")
    with pytest.raises(BadInput, match="may be used") as caught:
        small(tiny_dataset, tmp_path / "model", memory_gb=0.2, resume=True)
    assert "Close other programs" in caught.value.help


def test_a_plan_keeps_the_width_it_was_made_for(
    tiny_dataset: Path, trained: Path, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.json"
    shutil.copy(trained.with_name("model.run") / "plan.json", plan)
    edit_json(plan, base_channels=6)
    short = {"epochs": 1, "iterations_per_epoch": 1, "plan": plan}
    small(tiny_dataset, tmp_path / "six", base_channels=None, **short)
    assert Bundle.open(tmp_path / "six").model["network"]["arguments"]["base_channels"] == 6
    small(tiny_dataset, tmp_path / "three", base_channels=3, **short)
    bundle = Bundle.open(tmp_path / "three")
    assert bundle.model["network"]["arguments"]["base_channels"] == 3
    assert Plan.from_dict(bundle.plan).base_channels == 3


def test_level_0_has_its_own_density_through_the_whole_training(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    output = tmp_path / "m"
    small(tiny_dataset, output, level0_density=0.5, sparsity=0.9, batch_dice=True)
    bundle = Bundle.open(output)
    connections = bundle.load_network()[1]
    for name, layer in connections.layers.items():
        density = float(connections.masks[name].float().mean())
        expected = 0.5 if layer.level == 0 and layer.kind == "fusion" else 0.1
        assert density == pytest.approx(expected, abs=0.05), name
    evolved = [e for e in bundle.history()["history"] if e["turnover"] is not None]
    assert evolved
    assert {entry["live"] for entry in bundle.history()["history"]} == {connections.live}
    command = bundle.model["provenance"]["command"]
    assert "--level0-density 0.5 " in command
    assert "--batch-dice --base-channels 4" in command


def test_the_preset_fills_in_what_is_not_given(tmp_path: Path, tiny_dataset: Path) -> None:
    given = {"sparsity": 0.7, "base_channels": 4, "epochs": None}
    filled = Settings.of(with_preset(given, Preset.paper))
    assert (filled.sparsity, filled.base_channels, filled.level0_density) == (0.7, 4, 0.2)
    assert (filled.levels, filled.epochs, filled.evolve_every) == (6, 1000, 1200)
    assert with_preset({"sparsity": 0.0}, Preset.paper).get("level0_density") is None
    with pytest.raises(BadInput, match=r"allows . levels, not 6"):  # nothing is made smaller unsaid
        train(tiny_dataset, tmp_path / "m", preset=Preset.paper, patch=(16, 16, 16), device="cpu")
    with pytest.raises(BadInput, match="--preset cannot be chosen with --from"):
        train(tiny_dataset, tmp_path / "m", preset=Preset.paper, base="any")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"fold": "7"}, "no fold 7"),
        ({"fold": "first"}, "no fold first"),
        ({"patch": (15, 16, 16)}, "15×16×16 does not divide"),
        ({"sparsity": 1.0}, "--sparsity is 1.0; it must be"),
        ({"lr": 0.0}, "--lr"),
        ({"optimizer": "lbfgs"}, "--optimizer is lbfgs; it must be sgd or adamw"),
        ({"level0_density": 0.0}, "--level0-density is 0.0"),
        ({"level0_density": 1.5}, "--level0-density is 1.5"),
        ({"epochs": 0}, "--epochs"),
        ({"evolve_every": -1}, "--evolve-every"),
        ({"iterations_per_epoch": 0}, "--iterations-per-epoch"),
        ({"device": "abacus"}, "no device"),
        ({"base": "no-such-model"}, "no model 'no-such-model'"),
    ],
)
def test_settings_that_cannot_be(
    tiny_dataset: Path, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(BadInput, match=text):
        train(tiny_dataset, tmp_path / "m", **{**SMALL, "workers": 0, **changes})
    assert not list(tmp_path.iterdir())


def test_a_given_plan_is_checked(tiny_dataset: Path, trained: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    shutil.copy(trained.with_name("model.run") / "plan.json", plan)
    with pytest.raises(BadInput, match="--levels is 4, but the plan has 3"):
        small(tiny_dataset, tmp_path / "m", plan=plan, levels=4)
    with pytest.raises(BadInput, match='"patch" of the plan has to be divisible'):
        small(tiny_dataset, tmp_path / "m", plan=plan, patch=(18, 16, 16))
    edit_json(plan, channels=[{"name": "a", "normalisation": "zscore"}] * 2)
    with pytest.raises(BadInput, match=r"plan.json is for 2 channels"):
        small(tiny_dataset, tmp_path / "m", plan=plan)


def spoil(dataset: Path, how: str) -> str:
    """Damage a dataset; returns what the message has to say."""
    label = sorted((dataset / "labelsTr").iterdir())[1]
    if how == "unknown label":
        change(label, lambda array: np.where(array == 2, 7, array).astype(np.uint8))
        return f"{label.name} holds the label 7"
    if how == "other grid":
        change(label, lambda array: array, origin=(90.0, 0.0, 0.0))
        return label.name
    if how == "empty labels":
        for path in (dataset / "labelsTr").iterdir():
            change(path, np.zeros_like)
        return "no foreground"
    if how == "no cases":
        shutil.rmtree(dataset / "imagesTr")
        return "holds no image"
    if how == "no label":
        label.unlink()
        return f"has no label map {label.name}"
    (dataset / "dataset.json").unlink()
    return "no dataset.json"


@pytest.mark.parametrize(
    "how",
    ["unknown label", "other grid", "empty labels", "no cases", "no label", "no description"],
)
def test_a_dataset_that_cannot_be_used(copied: Path, tmp_path: Path, how: str) -> None:
    text = spoil(copied, how)
    with pytest.raises(BadInput, match=text):
        small(copied, tmp_path / "m")
    assert {path.name for path in tmp_path.iterdir()} == {copied.name}


def test_empty_labels_are_found_without_planning(
    copied: Path, trained: Path, tmp_path: Path
) -> None:
    spoil(copied, "empty labels")
    plan = trained.with_name("model.run") / "plan.json"
    with pytest.raises(BadInput, match="no foreground"):
        small(copied, tmp_path / "m", plan=plan)
    assert not (tmp_path / "m.run").exists()
