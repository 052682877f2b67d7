"""What a 2D bundle hands over to a 3D one, and that training goes on from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from e2enet.bundle import Bundle
from e2enet.cli.app import app
from e2enet.events import BadInput
from e2enet.inference import segment
from e2enet.training.starting_point import transfer_bundle
from e2enet.training.train import train
from typer.testing import CliRunner

from .datasets import make_dataset

SMALL: dict[str, Any] = {
    "epochs": 1, "iterations_per_epoch": 2, "batch_size": 2, "evolve_every": 2, "seed": 3,
    "workers": 0, "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("raw") / "Dataset914_Deep", depth=5)


@pytest.fixture(scope="module")
def lattice(volumes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An E2ENet of slices."""
    output = tmp_path_factory.mktemp("lattice") / "flat"
    train(volumes, output, patch=(1, 16, 16), base_channels=4, **SMALL)
    return output


@pytest.fixture(scope="module")
def omnia(volumes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("omnia") / "omnia"
    train(volumes, output, network="omnia", encoder="resnet10", patch=(1, 32, 32), **SMALL)
    return output


def test_an_e2enet_of_slices_is_exact_until_it_is_switched(
    lattice: Path, volumes: Path, tmp_path: Path
) -> None:
    source = Bundle.open(lattice)
    assert source.model["network"]["arguments"]["shift_groups"] == 1
    exact = transfer_bundle(
        source, tmp_path / "exact", to="e2enet", norm_axes="slice", shift_groups=1,
        patch=(4, 16, 16),
    )  # fmt: skip
    network, connections = exact.load_network()
    flat, flat_connections = source.load_network()
    for name, mask in flat_connections.masks.items():
        assert torch.equal(connections.masks[name], mask)
    image = torch.randn(1, 1, 4, 16, 32)
    with torch.no_grad():
        slices = torch.cat([flat(image[:, :, d : d + 1])[0] for d in range(4)], dim=2)
        torch.testing.assert_close(network(image)[0], slices, atol=1e-5, rtol=0)
    case = volumes / "imagesTr" / "case0_0000.nii.gz"
    # The windows stand elsewhere along depth, which changes nothing in the plane.
    one, other = (segment(case, bundle, device="cpu").label for bundle in (source, exact))
    assert (one == other).mean() > 0.999

    switched = transfer_bundle(source, tmp_path / "deep", to="e2enet")
    assert switched.model["network"]["arguments"]["shift_groups"] == 3
    assert switched.plan["patch"][0] == 16
    done = train(volumes, tmp_path / "tuned", base=switched.path, **SMALL)
    tuned = Bundle.open(done.bundle or "")
    assert tuned.model["provenance"]["sparsity"] == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    ("to", "kind"), [("dx", "DXNet"), ("ds", "DSNet"), ("e2enet", "EncoderE2ENet")]
)
def test_an_encoder_goes_on_in_three_dimensions(
    to: str, kind: str, omnia: Path, volumes: Path, tmp_path: Path
) -> None:
    source = Bundle.open(omnia)
    made = transfer_bundle(source, tmp_path / to, to=to, patch=(4, 32, 32))
    assert made.model["network"]["kind"] == kind
    flat: Any = source.load_network()[0]
    deep: Any = made.load_network()[0]
    kernel = deep.encoder.body.layer3[0].conv2.weight
    kernel = kernel.sum(2) if to == "dx" else kernel
    expected = flat.encoder.body.layer3[0].conv2.weight
    torch.testing.assert_close(kernel, expected, atol=1e-5, rtol=0)
    mean = "layer1.0.bn1.running_mean"
    assert torch.equal(deep.encoder.body.get_buffer(mean), flat.encoder.body.get_buffer(mean))
    if to == "ds":
        step = "unet.decoder.steps.0.conv1.0.weight"
        assert torch.equal(deep.get_parameter(step), flat.get_parameter(step))
    assert made.model["provenance"]["anew"]
    text = (made.path / "README.md").read_text(encoding="utf-8")
    assert "starting point" in text
    done = train(volumes, tmp_path / "tuned", base=made.path, **SMALL)
    assert Bundle.open(done.bundle or "").model["network"]["kind"] == kind


def test_single_images_need_a_plan_of_volumes(volumes: Path, tmp_path: Path) -> None:
    images = make_dataset(tmp_path / "Dataset915_Flat", depth=0, ending=".png", cases=5)
    done = train(images, tmp_path / "flat", patch=(1, 16, 16), base_channels=4, **SMALL)
    source = Bundle.open(done.bundle or "")
    with pytest.raises(BadInput, match="--plan"):
        transfer_bundle(source, tmp_path / "deep", to="e2enet")
    plan = source.plan | {"patch": [4, 16, 16], "flat": False, "spacing": [4.0, 1.0, 1.0]}
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    made = transfer_bundle(source, tmp_path / "deep", to="e2enet", plan=tmp_path / "plan.json")
    result = segment(volumes / "imagesTr" / "case1_0000.nii.gz", made, device="cpu")
    assert result.label.shape == (5, 34, 40)
    assert np.isin(result.label, (0, 1, 2)).all()


def test_the_verb_and_what_it_refuses(lattice: Path, tmp_path: Path) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["transfer", *words, "--progress", "json"])

    output = str(tmp_path / "deep")
    done = run(str(lattice), "--output", output, "--patch", "4,16,16")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["network"] == "E2ENet"
    for words, sentence in (
        ((str(lattice), "--output", output), "already exists"),
        ((output, "--output", f"{output}2"), "3D model"),
        ((str(lattice), "--output", f"{output}2", "--to", "dx"), "no encoder"),
        ((str(lattice), "--output", f"{output}2", "--to", "unet"), "unet"),
        ((str(lattice), "--output", f"{output}2", "--patch", "1,16,16"), "single slice"),
        ((str(lattice), "--output", f"{output}2", "--patch", "4,17,16"), "does not divide"),
        ((str(lattice), "--output", f"{output}2", "--norm-axes", "slice"), "shift_groups 1"),
        ((str(lattice), "--output", f"{output}2", "--expansion", "mirror"), "inflate, centre"),
    ):
        refused = run(*words)
        assert refused.exit_code == 2, (words, refused.output)
        assert sentence in refused.output, refused.output
        assert not Path(f"{output}2").exists()
