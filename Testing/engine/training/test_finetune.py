"""What a trained network hands over, and fine-tuning from a dataset to a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from e2enet.bundle import Bundle
from e2enet.data.planning.plan import Plan
from e2enet.dsff import Connections
from e2enet.events import BadInput
from e2enet.inference.segmenter import segment
from e2enet.networks import E2ENet
from e2enet.training.finetune import transfer
from e2enet.training.train import train

from .conftest import Recorder
from .runs import change, edit_json, fine

STRIDES = [(2, 2, 2)] * 2
SAME = {0: 0, 1: 1, 2: 2}


def network(channels: int = 1, classes: int = 3, base: int = 4) -> E2ENet:
    return E2ENet(channels, classes, STRIDES, base_channels=base)


def test_a_network_that_fits_is_taken_over_whole() -> None:
    source, target = network(), network()
    connections = Connections.random(source, 0.7, seed=3)
    connections.apply()
    moved = transfer(source, connections, target, classes=SAME, seed=0)
    assert moved.reinitialised == ()
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name]), name
    for name, mask in connections.masks.items():
        assert torch.equal(mask, moved.connections.masks[name])
        assert moved.connections.masks[name] is not mask


def test_other_labels_and_channels_start_two_ends_anew() -> None:
    source, target = network(), network(channels=2, classes=5)
    fresh = {name: t.clone() for name, t in target.state_dict().items()}
    moved = transfer(source, Connections.dense(source), target, classes={}, seed=0)
    assert set(moved.reinitialised) == {
        "backbone.0.0.conv.weight",
        *(f"heads.{h}.weight" for h in range(target.num_heads)),
    }
    for name in moved.reinitialised:
        assert torch.equal(target.state_dict()[name], fresh[name])
    assert len(moved.kept) + len(moved.reinitialised) == len(fresh)


def test_sparse_layers_that_do_not_fit_keep_the_sparsity() -> None:
    source, target = network(base=4), network(base=6)
    moved = transfer(source, Connections.random(source, 0.75, seed=1), target, classes=SAME, seed=2)
    assert abs(moved.connections.density - 0.25) < 0.01
    for name, mask in moved.connections.masks.items():
        weight = moved.connections.layers[name].module.weight
        assert not weight.detach()[~mask].any()


def test_classes_that_changed_places_give_the_same_maps() -> None:
    source, target = network(classes=4), network(classes=4)
    connections = Connections.dense(source)
    places = {0: 0, 1: 3, 2: 1}
    fresh = {name: t.clone() for name, t in target.state_dict().items()}
    moved = transfer(source, connections, target, classes=places, seed=0)
    assert moved.reinitialised == ()
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        for before, after in zip(source(image), target(image), strict=True):
            for own, other in places.items():
                assert torch.equal(after[:, own], before[:, other])
    assert torch.equal(target.heads[0].weight[3], fresh["heads.0.weight"][3])


def test_fine_tuning_keeps_masks_plan_and_sparsity(
    tiny_dataset: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    recorder = Recorder()
    fine(tiny_dataset, tmp_path / "m", tiny_bundle, reporter=recorder)
    source, tuned = Bundle.open(tiny_bundle), Bundle.open(tmp_path / "m")
    before, masks = source.load_network()
    after, kept = tuned.load_network()
    for name, mask in masks.masks.items():
        assert torch.equal(mask, kept.masks[name]), name
    assert Plan.from_dict(tuned.plan) == Plan.from_dict(source.plan)
    assert any(
        not torch.equal(t, before.state_dict()[name]) for name, t in after.state_dict().items()
    )
    assert tuned.model["provenance"]["from"]["name"] == "tiny"
    card = (tuned.path / "README.md").read_text(encoding="utf-8")
    assert f", starting from tiny with the weights {source.weights_sha256()[:8]}." in card
    assert tuned.model["provenance"]["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert "re-initialised" not in [code for code, _ in recorder.of("warning")]


def test_fine_tuning_evolves_when_asked_and_gently(
    tiny_dataset: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    fine(tiny_dataset, tmp_path / "m", tiny_bundle, evolve_every=1)
    history = Bundle.open(tmp_path / "m").history()["history"]
    assert history[0]["zeta"] == pytest.approx(0.1)
    assert any(entry["turnover"] is not None for entry in history)


def test_fine_tuning_on_other_channels_and_labels_says_what_starts_anew(
    copied: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    for path in sorted((copied / "imagesTr").iterdir()):
        shutil.copy(path, str(path).replace("_0000", "_0001"))
    edit_json(
        copied / "dataset.json",
        channel_names={"0": "MRI", "1": "again"},
        labels={"background": 0, "left thing": 1, "right thing": 2, "more": 3},
    )
    recorder = Recorder()
    fine(copied, tmp_path / "m", tiny_bundle, reporter=recorder)
    (said,) = [text for code, text in recorder.of("warning") if code == "re-initialised"]
    assert "backbone.0.0.conv.weight" in said
    assert "heads.0.weight" in said
    assert "backbone.1" not in said
    plan = Plan.from_dict(Bundle.open(tmp_path / "m").plan)
    assert plan.patch == (16, 16, 16)
    assert len(plan.channels) == 2
    assert plan.left_right_pairs == ((1, 2),)


def swap(array: np.ndarray) -> np.ndarray:
    return np.array([0, 2, 1], np.uint8)[array.astype(np.uint8)]


def test_labels_that_changed_values_are_taken_over_by_name(
    tiny_dataset: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    dataset = tmp_path / "Dataset902_Swapped"
    shutil.copytree(tiny_dataset, dataset)
    for path in (dataset / "labelsTr").iterdir():
        change(path, swap)
    edit_json(dataset / "dataset.json", labels={"background": 0, "Cube": 1, "sphere": 2})
    recorder = Recorder()
    fine(dataset, tmp_path / "m", tiny_bundle, lr=1e-7, reporter=recorder)
    (said,) = [text for code, text in recorder.of("warning") if code == "labels-matched"]
    assert said == "Taken over from tiny: Cube (there cube), sphere."
    image = sorted((tiny_dataset / "imagesTs").iterdir())[0]
    before, after = (segment(image, path, device="cpu") for path in (tiny_bundle, tmp_path / "m"))
    assert all(label.voxels > 100 for label in before.labels)  # random weights, but all labels
    assert (swap(after.label) == before.label).mean() > 0.999
    assert [label.color for label in after.labels] == [(128, 174, 128), (216, 101, 79)]
    assert Bundle.open(tmp_path / "m").model["licence"] == "CC0-1.0"


def test_fine_tuning_goes_on_without_the_bundle(
    tiny_dataset: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    class Impatient(Recorder):
        def warning(self, code: str, message: str) -> None:
            if code == "no-held-out-cases":  # the run's folder is there by then
                (tmp_path / "m.run" / "control").write_text("pause")

    source = tmp_path / "source"
    shutil.copytree(tiny_bundle, source)
    done = fine(tiny_dataset, tmp_path / "m", source, fold="all", reporter=Impatient())
    assert done.state == "paused"
    shutil.rmtree(source)
    assert train(tiny_dataset, tmp_path / "m", resume=True, workers=0).state == "finished"


KEPT = ["sparsity", "level0_density", "base_channels", "shift_groups"]


@pytest.mark.parametrize("name", KEPT)
def test_fine_tuning_does_not_pretend_to_change_what_it_keeps(
    tiny_dataset: Path, tiny_bundle: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(BadInput, match=f"--{name.replace('_', '-')} cannot be chosen"):
        fine(tiny_dataset, tmp_path / "m", tiny_bundle, **{name: 3 if name in KEPT[2:] else 0.5})


def test_channels_are_matched_by_name(copied: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """CT after MR has its own normalisation; another name is told; another order is refused."""
    for name, code, kind in (("CT", "channels-replaced", "ct"), ("T1", "channels-matched", None)):
        edit_json(copied / "dataset.json", channel_names={"0": name})
        recorder = Recorder()
        fine(copied, tmp_path / name, tiny_bundle, reporter=recorder)
        assert code in [found for found, _ in recorder.of("warning")]
        bundle = Bundle.open(tmp_path / name)
        (channel,) = Plan.from_dict(bundle.plan).channels
        before = Plan.from_dict(Bundle.open(tiny_bundle).plan).channels[0].normalisation
        assert (channel.name, channel.normalisation) == (name, kind or before)
        assert bundle.model["modality"] == ("CT" if kind else "")
    for path in sorted((copied / "imagesTr").iterdir()):
        shutil.copy(path, str(path).replace("_0000", "_0001"))
    edit_json(copied / "dataset.json", channel_names={"0": "T1", "1": "T2"})
    fine(copied, tmp_path / "two", tiny_bundle)
    edit_json(copied / "dataset.json", channel_names={"0": "T2", "1": "T1"})
    with pytest.raises(BadInput, match="in another order: T1, T2"):
        fine(copied, tmp_path / "turned", tmp_path / "two")
    assert not (tmp_path / "turned.run").exists()
