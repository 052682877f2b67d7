"""Regions, partly labelled cases and the ignore label: from dataset.json to metrics."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.bundle import Bundle
from e2enet.evaluation.evaluate import evaluate
from e2enet.events import BadInput
from e2enet.explain.volumes import Explainer
from e2enet.inference import segment
from e2enet.inference.case.inputs import find_case
from e2enet.inference.case.loading import open_case
from e2enet.training.loop.checkpoint import load_checkpoint
from e2enet.training.train import Trained, train

from .conftest import Recorder, assert_same
from .forks import Forks

SMALL: dict[str, Any] = {
    "epochs": 2, "iterations_per_epoch": 10, "base_channels": 4, "levels": 2,
    "patch": (16, 16, 16), "batch_size": 2, "evolve_every": 4, "seed": 3, "lr": 0.05,
    "workers": 0, "device": "cpu",
}  # fmt: skip
QUICK = {"sparsity": 0.0}  # learns these shapes in half a minute
BRATS = {"background": 0, "whole tumour": [1, 2, 3], "tumour core": [2, 3], "enhancing": [3]}
REGIONS = {"labels": BRATS, "regions_class_order": [1, 2, 3]}
LABELS = {"background": 0, "oedema": 1, "core": 2, "enhancing": 3}


def tumour(index: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Two channels and labels: balls within each other, as in BraTS."""
    random = np.random.default_rng(index)
    shape = (18, 20, 22)
    axes = np.indices(shape)
    centre = np.array(shape) / 2 + random.uniform(-2, 2, 3)
    distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))
    label = np.zeros(shape, np.uint8)
    for value, radius in ((1, 7.5), (2, 5), (3, 3)):
        label[distance < radius] = value
    flair = np.array([100.0, 300, 300, 280])[label] + random.normal(0, 10, shape)
    contrast = np.array([100.0, 90, 160, 400])[label] + random.normal(0, 10, shape)
    return [flair.astype(np.float32), contrast.astype(np.float32)], label


def made(folder: Path, record: dict[str, Any], *, cases: int = 5, change: Any = None) -> Path:
    """A dataset in nnU-Net's raw layout; `change(case, label)` may alter a label map."""
    for index in range(cases):
        images, label = tumour(index)
        name = f"case{index}"
        if change:
            label = change(name, label)
        parts = [(f"imagesTr/{name}_{k:04d}", image) for k, image in enumerate(images)]
        for path, array in [*parts, (f"labelsTr/{name}", label)]:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), os.fspath(folder / f"{path}.nii.gz"))
    described = {
        "channel_names": {"0": "FLAIR", "1": "T1c"}, "file_ending": ".nii.gz", **record,
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def small(dataset: Path, output: Path, **changes: Any) -> Trained:
    return train(dataset, output, **{**SMALL, **changes})


@pytest.fixture(scope="module")
def brats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("raw") / "Dataset920_Brats", REGIONS)


@pytest.fixture(scope="module")
def model(brats: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of regions, not to be written in."""
    output = tmp_path_factory.mktemp("regions") / "model"
    assert small(brats, output, epochs=5, **QUICK).state == "finished"
    return output


def channels(dataset: Path, case: str) -> list[Path]:
    return [dataset / "imagesTr" / f"{case}_{k:04d}.nii.gz" for k in range(2)]


def test_regions_are_learned_one_within_the_other(brats: Path, model: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(model)
    assert [label.name for label in bundle.labels] == list(BRATS)[1:]
    assert [(label.value, label.values) for label in bundle.labels] == [
        (1, (1, 2, 3)), (2, (2, 3)), (3, (3,)),
    ]  # fmt: skip
    assert bundle.model["network"]["arguments"]["num_classes"] == 3
    dice = bundle.model["provenance"]["metrics"]["dice"]
    assert set(dice) == set(BRATS) - {"background"}
    assert dice["whole tumour"] > 0.6  # it did learn

    held_out = bundle.model["provenance"]["data"]["held_out"]
    for case in held_out:
        result = segment(
            channels(brats, case), model, device="cpu", save_probabilities=True,
            output=tmp_path / "predictions" / f"{case}.nii.gz",
        )  # fmt: skip
        whole, core, enhancing = (label.voxels for label in result.labels)
        assert whole == (result.label > 0).sum()
        assert core == (result.label > 1).sum()
        assert enhancing == (result.label == 3).sum()
        assert result.probabilities is not None
        assert result.probabilities.shape[0] == 3
        # The last region above a half, as nnU-Net converts probabilities.
        expected = np.zeros_like(result.label)
        for value in (1, 2, 3):
            expected[result.probability(value) > 0.5] = value
        assert (expected == result.label).mean() > 0.999
        assert result.describe(_outputs(tmp_path))["labels"][0]["values"] == [1, 2, 3]
        reference = segment(channels(brats, case), model, device="cpu", runtime="reference")
        assert (reference.label == result.label).mean() > 0.999

    references = tmp_path / "labelsTr"
    references.mkdir()
    for case in held_out:
        (references / f"{case}.nii.gz").write_bytes(
            (brats / "labelsTr" / f"{case}.nii.gz").read_bytes()
        )
    (tmp_path / "dataset.json").write_bytes((brats / "dataset.json").read_bytes())
    found = evaluate(tmp_path / "predictions", references)
    assert {name: found.of_structure(name) for name in found.names} == pytest.approx(dice, abs=1e-6)


def _outputs(folder: Path) -> Any:
    from e2enet.inference.case.result import Outputs

    return Outputs.of(folder / "label.nii.gz")


def test_models_of_regions_average_and_explain(brats: Path, model: Path) -> None:
    images = channels(brats, "case0")
    one = segment(images, model, device="cpu")
    both = segment(images, [model, model], device="cpu")
    assert [label.values for label in both.labels] == [(1, 2, 3), (2, 3), (3,)]
    assert (both.label == one.label).mean() > 0.999
    mirrored = segment(images, model, device="cpu", tta=True)
    assert set(np.unique(mirrored.label)) <= {0, 1, 2, 3}

    bundle = Bundle.open(model)
    explainer = Explainer(bundle, device="cpu")
    case = open_case(find_case(images), bundle)
    assert (explainer.segment(case) == case.undo(one.label)).mean() > 0.999
    case = open_case(find_case(images), bundle)
    node = next(iter(_nodes(explainer)))
    maps = explainer.maps(case, [node], [bundle.labels[0]])
    assert maps[1].label == bundle.labels[0]
    assert any(array.any() for array in maps[1].raw.values())


def _nodes(explainer: Explainer) -> Any:
    from e2enet.explain.nodes import Node

    return [
        Node(layer.stage, layer.level)
        for layer in explainer.network.sparse_layers().values()
        if layer.kind == "fusion" and layer.block == 0
    ]


def test_a_model_of_regions_is_fine_tuned(
    brats: Path, model: Path, tmp_path: Path, recorder: Recorder
) -> None:
    """Regions by name; heads of labels that exclude each other start anew."""
    done = small(
        brats, tmp_path / "tuned", base=model, epochs=1, iterations_per_epoch=1, lr=1e-9,
        base_channels=None, levels=None, evolve_every=0,
    )  # fmt: skip
    before, after = (
        Bundle.open(one).load_network()[0].heads[0].weight for one in (model, done.bundle or "")
    )
    np.testing.assert_allclose(before.detach().numpy(), after.detach().numpy(), atol=1e-6)
    labels = made(tmp_path / "Dataset921_Labels", {"labels": {**LABELS, "core": 2}})
    small(
        labels, tmp_path / "labels", base=model, epochs=1, iterations_per_epoch=1, lr=1e-9,
        base_channels=None, levels=None, reporter=recorder,
    )  # fmt: skip
    told = " ".join(message for _, message in recorder.of("warning"))
    assert "start anew: heads.0.weight" in told
    assert Bundle.open(tmp_path / "labels").regions is False


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_training_on_regions_is_killed_and_goes_on(
    brats: Path, tmp_path: Path, forks: Forks
) -> None:
    calm = small(brats, tmp_path / "calm" / "model")
    output = tmp_path / "killed" / "model"
    options = [
        "--epochs", "2", "--iterations-per-epoch", "10", "--base-channels", "4", "--levels", "2",
        "--patch", "16,16,16", "--batch-size", "2", "--evolve-every", "4", "--seed", "3",
        "--lr", "0.05",
    ]  # fmt: skip
    run = forks.train(brats, output, *options)
    next(event for event in run.events if event.get("stage") == "training" and event["done"])
    time.sleep(0.1)
    assert run.kill() == -signal.SIGKILL
    assert small(brats, output, resume=True).state == "finished"
    one, other = (
        load_checkpoint(path / "checkpoint.safetensors")
        for path in (calm.run, output.with_name("model.run"))
    )
    assert_same(other, one)


def test_what_a_case_lacks_is_neither_learned_nor_judged(tmp_path: Path) -> None:
    """In three of five cases nobody drew the core; the model finds it all the same."""
    lacking = ("case0", "case1", "case2")

    def undrawn(case: str, label: np.ndarray) -> np.ndarray:
        return np.where(label == 2, 0, label) if case in lacking else label

    missing = {case: ["core"] for case in lacking}
    record = {"labels": LABELS, "missing_labels": missing}
    splits = [{"train": ["case0", "case1", "case3"], "val": ["case2", "case4"]}]
    dataset = made(tmp_path / "Dataset922_Partial", record, change=undrawn)
    (dataset / "splits_final.json").write_text(json.dumps(splits), encoding="utf-8")
    small(dataset, tmp_path / "partial", epochs=4, **QUICK)
    scores = Bundle.open(tmp_path / "partial").model["provenance"]["metrics"]
    assert scores["of"] == "2 held-out cases"
    assert set(scores["dice"]) == {"oedema", "core", "enhancing"}

    # The same maps taken at their word: where the core is not drawn there is background.
    (dataset / "dataset.json").write_text(
        json.dumps({**json.loads((dataset / "dataset.json").read_text()), "missing_labels": {}})
    )
    small(dataset, tmp_path / "wrong", epochs=4, **QUICK)
    image = channels(dataset, "case2")
    truth = tumour(2)[1] == 2
    partial, wrong = (
        segment(image, tmp_path / name, device="cpu", save_probabilities=True).probability(2)
        for name in ("partial", "wrong")
    )
    assert partial[truth].mean() > 1.5 * wrong[truth].mean()
    with pytest.raises(BadInput, match="missing are not those"):
        small(dataset, tmp_path / "partial", epochs=4, **QUICK, resume=True)


def test_a_case_that_lacks_a_label_has_no_value_there(tmp_path: Path) -> None:
    record = {"labels": LABELS, "missing_labels": {"case0": ["core"]}}
    dataset = made(tmp_path / "Dataset923_Judged", record, cases=2)
    for path in (dataset / "labelsTr").iterdir():
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / "p" / path.name).write_bytes(path.read_bytes())
    found = evaluate(tmp_path / "p", dataset / "labelsTr")
    assert math.isnan(found.value("case0", "core", "Dice"))
    assert math.isnan(found.value("case0", "core", "HD95"))
    assert found.value("case1", "core", "Dice") == 1
    assert found.of_structure("core") == 1
    assert found.value("case0", "oedema", "Dice") == 1


def test_regions_with_an_ignore_label(tmp_path: Path) -> None:
    """Scribbles: most voxels are not judged, and no patch is drawn for their sake."""

    def scribbled(case: str, label: np.ndarray) -> np.ndarray:
        random = np.random.default_rng(int(case[-1]))
        return np.where(random.random(label.shape) < 0.7, 4, label).astype(np.uint8)

    record = {**REGIONS, "labels": {**BRATS, "ignore": 4}}
    dataset = made(tmp_path / "Dataset924_Scribbles", record, change=scribbled)
    done = small(dataset, tmp_path / "model", epochs=4, **QUICK)
    assert done.dice["whole tumour"] is not None
    assert done.dice["whole tumour"] > 0.5
    label = segment(channels(dataset, "case0"), tmp_path / "model", device="cpu").label
    assert label.max() <= 3


def test_regions_that_overlap_without_an_order_train_nothing(tmp_path: Path) -> None:
    dataset = made(tmp_path / "Dataset925_Bad", {"labels": BRATS}, cases=2)
    with pytest.raises(BadInput, match="regions_class_order") as caught:
        small(dataset, tmp_path / "model")
    assert caught.value.code == "regions-without-order"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Dataset925_Bad"]
