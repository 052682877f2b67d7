"""Weights from files that the tests make, and every way in which they do not fit."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from e2enet.events import BadInput
from e2enet.networks.dsnet import DSNet
from e2enet.networks.encoders import Encoder
from e2enet.networks.omnia import OmniaNet
from e2enet.transfer.encoder_weights import load_encoder, pretrained_state
from monai.networks.nets import EfficientNetBN
from safetensors.torch import save_file


def classifier(path: Path, *, flat_names: bool = False) -> dict[str, torch.Tensor]:
    """A classification network's file, by MONAI's names or by EfficientNet-PyTorch's."""
    state = EfficientNetBN("efficientnet-b0", pretrained=False, num_classes=5).state_dict()
    if flat_names:
        state = {re.sub(r"_blocks\.\d+\.", "_blocks.", name): t for name, t in state.items()}
    torch.save(state, path)
    return state


@pytest.mark.parametrize("flat_names", [False, True])
def test_a_classification_networks_file(tmp_path: Path, flat_names: bool) -> None:
    state = classifier(tmp_path / "b0.pth", flat_names=flat_names)
    encoder = Encoder("efficientnet-b0", in_channels=3)
    found = pretrained_state("efficientnet-b0", tmp_path / "b0.pth")
    assert load_encoder(encoder, found, source="b0.pth") == ()
    own = encoder.state_dict()
    assert torch.equal(own["body._conv_stem.weight"], state["_conv_stem.weight"])
    name = "_blocks.15._project_conv.weight"
    expected = state[name] if flat_names else state["_blocks.6.15._project_conv.weight"]
    assert torch.equal(own["body._blocks.6.15._project_conv.weight"], expected)


def test_the_first_kernel_by_channels(tmp_path: Path) -> None:
    state = classifier(tmp_path / "b0.pth")
    grey, four = (Encoder("efficientnet-b0", in_channels=n) for n in (1, 4))
    fresh = four.state_dict()["body._conv_stem.weight"].clone()
    assert load_encoder(grey, state, source="b0") == ()
    summed = state["_conv_stem.weight"].sum(1, keepdim=True)
    assert torch.equal(grey.state_dict()["body._conv_stem.weight"], summed)
    assert load_encoder(four, state, source="b0") == ("body._conv_stem.weight",)
    assert torch.equal(four.state_dict()["body._conv_stem.weight"], fresh)


def test_statistics_come_along_and_kernels_grow() -> None:
    flat = Encoder("resnet18", in_channels=1)
    with torch.no_grad():
        flat.body.layer3[0].bn1.running_var.fill_(3.0)
    deep = Encoder("resnet18", in_channels=1, dimensions=3)
    load_encoder(deep, flat.state_dict(), source="flat")
    assert float(deep.body.layer3[0].bn1.running_var[0]) == 3.0
    kernel = deep.body.layer3[0].conv1.weight
    assert torch.allclose(kernel.sum(2), flat.body.layer3[0].conv1.weight, atol=1e-6)


def test_weights_of_a_bundle_here_are_taken_as_they_are(tmp_path: Path) -> None:
    trained = OmniaNet(1, 2, "resnet10")
    save_file(dict(trained.state_dict()), tmp_path / "weights.safetensors")
    state = pretrained_state("resnet10", tmp_path / "weights.safetensors")
    network = DSNet(1, 2, 5, "resnet10")
    assert load_encoder(network.encoder, state, source="weights") == ()
    first = network.encoder.body.conv1.weight  # three slices in the place of colours
    assert torch.allclose(first.sum(1, keepdim=True), trained.encoder.body.conv1.weight, atol=1e-6)


@pytest.mark.parametrize(
    ("owner", "given", "words"),
    [
        ("resnet10", "resnet18", "layer1.1.conv1.weight beyond"),
        ("resnet18", "resnet10", "has no layer1.1.conv1.weight"),
        ("resnet18", "resnet50", "layer1.0"),
        ("efficientnet-b0", "efficientnet-b1", "has no _blocks.1.1._expand_conv.weight"),
        ("efficientnet-b0", "resnet18", "has no _conv_stem.weight"),
    ],
)
def test_weights_of_another_network(owner: str, given: str, words: str) -> None:
    state = Encoder(given, in_channels=1).state_dict()
    encoder = Encoder(owner, in_channels=1)
    before = {name: t.clone() for name, t in encoder.state_dict().items()}
    with pytest.raises(BadInput) as caught:
        load_encoder(encoder, state, source="other.pth")
    assert caught.value.code == "other-weights"
    assert "other.pth" in caught.value.message
    assert words in caught.value.message
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name])


class Evil:
    """What a pickle may do to whoever opens it: here, make a file."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.made), "w")


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04")
    (tmp_path / "empty.pth").write_bytes(b"")
    made = tmp_path.with_name("made-by-a-pickle")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": Evil(made)}))
    torch.save([1, 2], tmp_path / "list.pth")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(BadInput) as caught:
            pretrained_state("resnet10", path)
        assert caught.value.code == "unreadable-weights", path
        assert path.name in caught.value.message
    assert not made.exists()
    with pytest.raises(BadInput) as caught:
        pretrained_state("resnet10", tmp_path / "missing.pth")
    assert caught.value.code == "missing-file"


def test_imagenet_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library's own loading, with the one call that reaches out cut off."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    with pytest.raises(BadInput) as caught:
        pretrained_state("efficientnet-b0", "imagenet")
    assert caught.value.code == "offline"
    assert "--encoder-weights" in caught.value.help
    for name in ("resnet18", "efficientnet-b8"):
        with pytest.raises(BadInput) as caught:
            pretrained_state(name, "imagenet")
        assert caught.value.code == "no-imagenet-weights"
