"""Every network trains, goes on after a kill, ships as a bundle and segments, in 2D and in 3D."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from e2enet.bundle import Bundle
from e2enet.events import BadInput
from e2enet.inference import segment
from e2enet.networks.encoders import Encoder
from e2enet.training.loop.checkpoint import load_checkpoint
from e2enet.training.train import Trained, train

from .conftest import assert_same
from .datasets import make_dataset
from .forks import Forks

ENCODER = "resnet10"
SHORT: dict[str, Any] = {
    "epochs": 2, "iterations_per_epoch": 2, "batch_size": 2, "evolve_every": 2, "seed": 3,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "E2ENet": {"network": "e2enet", "base_channels": 4},
    "EncoderE2ENet": {"network": "e2enet", "base_channels": 4, "encoder": ENCODER},
    "OmniaNet": {"network": "omnia", "encoder": ENCODER},
    "DSNet": {"network": "ds", "encoder": ENCODER},
    "DXNet": {"network": "dx", "encoder": ENCODER},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Single images as PNG."""
    return make_dataset(tmp_path_factory.mktemp("raw") / "Dataset910_Flat", depth=0, ending=".png")


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("raw") / "Dataset911_Deep", depth=5)


def small(dataset: Path, output: Path, **changes: Any) -> Trained:
    return train(dataset, output, workers=0, device="cpu", **{**SHORT, **changes})


def patch_of(kind: str, dataset: Path) -> tuple[int, int, int]:
    depth = 1 if "Flat" in dataset.name or kind == "OmniaNet" else 4
    return depth, 32, 32


@pytest.fixture(scope="module")
def calm(
    images: Path, volumes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Path], Path]:
    """calm(kind, dataset) is a finished bundle, not to be written in, with its run beside it."""

    @cache
    def trained(kind: str, dataset: Path) -> Path:
        settings = {**KINDS[kind], "patch": patch_of(kind, dataset)}
        done = small(dataset, tmp_path_factory.mktemp("calm") / "model", **settings)
        assert done.state == "finished"
        assert done.bundle is not None
        return done.bundle

    return trained


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "E2ENet"])
def test_a_killed_training_ends_as_if_it_had_not_been(
    kind: str, volumes: Path, tmp_path: Path, forks: Forks, calm: Callable[[str, Path], Path]
) -> None:
    """As an E2ENet's does (`test_kill`)."""
    output, options = tmp_path / "model", []
    for name, value in {**SHORT, **KINDS[kind], "patch": patch_of(kind, volumes)}.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        options += [f"--{name.replace('_', '-')}", text]
    run = forks.train(volumes, output, *options)
    assert run.until("name", "epoch")["epoch"] == 1
    assert run.kill() == -signal.SIGKILL
    assert not output.exists()
    checkpoint = tmp_path / "model.run" / "checkpoint.safetensors"
    assert 2 <= load_checkpoint(checkpoint)["iteration"] <= 4
    assert small(volumes, output, resume=True).state == "finished"
    expected = calm(kind, volumes).with_name("model.run") / "checkpoint.safetensors"
    assert_same(load_checkpoint(checkpoint), load_checkpoint(expected))
    check(kind, volumes, output)


@pytest.mark.parametrize(
    ("kind", "where"), [*((kind, "images") for kind in KINDS), ("E2ENet", "volumes")]
)
def test_train_and_segment(
    kind: str, where: str, calm: Callable[[str, Path], Path], request: pytest.FixtureRequest
) -> None:
    dataset: Path = request.getfixturevalue(where)
    check(kind, dataset, calm(kind, dataset))


def check(kind: str, dataset: Path, output: Path) -> None:
    """The bundle says what it is, and segments on the image's own grid."""
    flat = "Flat" in dataset.name
    bundle = Bundle.open(output)
    assert bundle.model["network"]["kind"] == kind
    assert bundle.model["plan"].get("flat", False) is flat
    assert kind in (output / "README.md").read_text(encoding="utf-8")
    connections = bundle.load_network()[1]
    assert (connections.total > 0) is ("E2ENet" in kind)
    assert connections.density == pytest.approx(0.2 if connections.total else 1.0, abs=0.01)

    ending = ".png" if flat else ".nii.gz"
    image = dataset / "imagesTr" / f"case0_0000{ending}"
    result = segment(image, output, output=output.with_name(f"label{ending}"), device="cpu")
    written = sitk.ReadImage(str(output.with_name(f"label{ending}")))
    assert written.GetSize() == sitk.ReadImage(str(image)).GetSize()
    assert set(np.unique(result.label)) <= {0, 1, 2}
    reference = segment(image, output, device="cpu", runtime="reference")
    assert (reference.label == result.label).mean() > 0.999


def test_a_model_of_slices_takes_volumes_and_single_images(
    volumes: Path, images: Path, tmp_path: Path
) -> None:
    """Omnia-Net with three slices at once; its windows are deeper than one."""
    done = small(volumes, tmp_path / "model", **KINDS["OmniaNet"], input_slices=3)
    bundle = Bundle.open(done.bundle or "")
    assert bundle.plan["patch"][0] > 1
    assert bundle.model["network"]["arguments"]["input_slices"] == 3
    result = segment(volumes / "imagesTr" / "case1_0000.nii.gz", bundle, device="cpu")
    assert result.label.shape == (5, 34, 40)


def test_single_images_are_not_volumes(
    volumes: Path, images: Path, calm: Callable[[str, Path], Path]
) -> None:
    with pytest.raises(BadInput) as caught:
        segment(volumes / "imagesTr" / "case1_0000.nii.gz", calm("OmniaNet", images), device="cpu")
    assert caught.value.code == "not-2d"
    with pytest.raises(BadInput) as caught:
        segment(images / "imagesTr" / "case1_0000.png", calm("DXNet", volumes), device="cpu")
    assert caught.value.code == "single-slice"


def test_fine_tuning_keeps_the_network(
    volumes: Path, tmp_path: Path, calm: Callable[[str, Path], Path]
) -> None:
    base, tuned = calm("DXNet", volumes), tmp_path / "tuned"
    small(volumes, tuned, base=base, epochs=1, iterations_per_epoch=1, lr=1e-6, evolve_every=0)
    before, after = (Bundle.open(one).load_network()[0] for one in (base, tuned))
    assert type(after).__name__ == "DXNet"
    for name, tensor in before.named_parameters():
        torch.testing.assert_close(after.get_parameter(name), tensor, atol=1e-3, rtol=0)
    with pytest.raises(BadInput, match="--network cannot be chosen with --from"):
        small(volumes, tmp_path / "no", base=base, network="ds")


@pytest.mark.parametrize("kind", ["OmniaNet", "DSNet", "DXNet", "EncoderE2ENet"])
def test_encoder_weights_are_where_training_begins(
    kind: str, volumes: Path, tmp_path: Path
) -> None:
    encoder = Encoder(ENCODER, in_channels=3)
    torch.save(encoder.body.state_dict(), tmp_path / "weights.pth")
    weights = {"encoder_weights": str(tmp_path / "weights.pth"), "patch": patch_of(kind, volumes)}
    settings = {**KINDS[kind], **weights, "epochs": 1, "iterations_per_epoch": 1, "lr": 1e-9}
    done = small(volumes, tmp_path / "model", **settings)
    bundle = Bundle.open(done.bundle or "")
    network: Any = bundle.load_network()[0]
    kernel = network.encoder.body.layer2[0].conv1.weight
    if kind == "DXNet":
        kernel = kernel.sum(2)  # inflated
    torch.testing.assert_close(kernel, encoder.body.layer2[0].conv1.weight, atol=1e-5, rtol=0)
    assert "--encoder-weights weights.pth" in bundle.model["provenance"]["command"]


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"network": "unet"}, "bad-setting", "--network"),
    ({"network": "dx", "encoder": "resnet81"}, "unknown-encoder", "resnet81"),
    ({"encoder_weights": "imagenet"}, "bad-setting", "--encoder"),
    ({"network": "dx", "levels": 4}, "bad-setting", "--levels"),
    ({"network": "dx", "input_slices": 3}, "bad-setting", "--input-slices"),
    ({"network": "omnia", "input_slices": 2}, "bad-setting", "odd"),
    ({"network": "dx", "expansion": "mirror"}, "bad-setting", "inflate or centre"),
    ({"network": "dx", "encoder": ENCODER, "encoder_weights": "no.pth"}, "missing-file", "no.pth"),
    ({"network": "dx", "patch": (4, 40, 32)}, "bad-plan", "4×64×32"),
]


@pytest.mark.parametrize(("given", "code", "word"), BAD)
def test_what_cannot_be_is_said_before_training(
    given: dict[str, Any], code: str, word: str, volumes: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput) as caught:
        small(volumes, tmp_path / "model", **given)
    assert caught.value.code == code
    assert word in f"{caught.value.message} {caught.value.help}"
    assert not list(tmp_path.iterdir())


def test_weights_of_another_encoder(volumes: Path, tmp_path: Path) -> None:
    torch.save(Encoder("resnet18", in_channels=1).state_dict(), tmp_path / "w.pth")
    with pytest.raises(BadInput) as caught:
        small(volumes, tmp_path / "model", **KINDS["DXNet"], encoder_weights=tmp_path / "w.pth")
    assert caught.value.code == "other-weights"
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]


def test_images_smaller_than_the_encoders_stride(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "Dataset912_Tiny", depth=0, size=(24, 40), ending=".png")
    with pytest.raises(BadInput) as caught:
        small(dataset, tmp_path / "model", network="omnia")
    assert caught.value.code == "too-small"
    assert not (tmp_path / "model.run").exists()


def test_a_colour_photograph_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "Dataset913_Photo", depth=0, ending=".png")
    pixels = np.zeros((34, 40, 3), np.uint8)
    photograph = dataset / "imagesTr" / "case0_0000.png"
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(photograph))
    with pytest.raises(BadInput) as caught:
        small(dataset, tmp_path / "model", network="omnia")
    assert caught.value.code == "not-scalar"
    assert "case0_0000.png" in caught.value.message


def test_a_plan_for_another_network(volumes: Path, tmp_path: Path) -> None:
    done = small(volumes, tmp_path / "model", patch=(4, 16, 16), base_channels=4)
    plan = done.run / "plan.json"
    with pytest.raises(BadInput, match="halves the plane five times"):
        small(volumes, tmp_path / "other", **KINDS["DXNet"], plan=plan)
    record = json.loads(plan.read_text(encoding="utf-8"))
    record.update(strides=[[1, 2, 2]] * 4 + [[2, 2, 2]], patch=[4, 32, 32])
    plan.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(BadInput, match="halve the depth"):
        small(volumes, tmp_path / "other", **KINDS["OmniaNet"], plan=plan)
