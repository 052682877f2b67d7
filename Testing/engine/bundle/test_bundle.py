from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from e2enet.bundle import Bundle, find_model, list_models, write_bundle
from e2enet.bundle.archive import pack
from e2enet.dsff import Connections
from e2enet.events import BadInput
from e2enet.networks import E2ENet
from safetensors.torch import load_file, save_file

from ..conftest import tiny_model


def network(seed: int = 0) -> tuple[E2ENet, Connections]:
    torch.manual_seed(seed)
    made = E2ENet(1, 3, [(2, 2, 2), (2, 2, 2)], base_channels=4, shift_groups=5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    connections = Connections.random(made, 0.8, seed=seed)
    connections.apply()
    return made, connections


def write(folder: Path, *, seed: int = 0, model: dict[str, Any] | None = None, **more: Any) -> Any:
    made, connections = network(seed)
    return write_bundle(
        folder, network=made, connections=connections, model=model or tiny_model(),
        history={"history": []}, readme="# Tiny\n", **more,
    )  # fmt: skip


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copied"))


def change_json(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "model.json"
    model = json.loads(path.read_text(encoding="utf-8"))
    change(model)
    path.write_text(json.dumps(model), encoding="utf-8")


def test_network_and_connections_come_back_bit_for_bit(tmp_path: Path) -> None:
    made, connections = network()
    bundle = write(tmp_path / "tiny")
    loaded, masks = bundle.load_network()
    assert not loaded.training
    assert loaded.arguments == made.arguments
    for name, value in made.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert all(torch.equal(mask, masks.masks[name]) for name, mask in connections.masks.items())
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        for ours, theirs in zip(loaded(image), made.eval()(image), strict=True):
            assert torch.equal(ours, theirs)


def test_a_live_kernel_of_zeros_stays_alive(tmp_path: Path) -> None:
    made, connections = network()
    mask = connections.masks["ups.1_0"]
    with torch.no_grad():
        made.get_parameter("ups.1_0.weight").zero_()
    _, again = write_bundle(
        tmp_path / "tiny", network=made, connections=connections, model=tiny_model(), history={},
        readme="",
    ).load_network()  # fmt: skip
    assert mask.any()
    assert torch.equal(again.masks["ups.1_0"], mask)


def test_only_live_kernels_are_stored(tmp_path: Path) -> None:
    bundle = write(tmp_path / "tiny")
    _, connections = network()
    stored = load_file(bundle.path / "weights.safetensors")
    kernels = sum(t.numel() for name, t in stored.items() if name.endswith(".weight.live"))
    assert kernels == connections.live_parameters
    assert not {f"{name}.weight" for name in connections.masks} & set(stored)


def test_what_a_bundle_says_without_its_weights(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    assert bundle.name == "tiny"
    assert bundle.title == "Tiny model with random weights"
    assert bundle.channels == ["MRI"]
    assert bundle.locator is None
    assert bundle.plan["patch"] == [16, 16, 16]
    assert [(x.value, x.name, x.color) for x in bundle.labels] == [
        (1, "sphere", (216, 101, 79)),
        (2, "cube", (128, 174, 128)),
    ]
    assert bundle.labels[0].to_dict() == bundle.model["labels"][0]
    assert [entry["iteration"] for entry in bundle.history()["history"]] == [0]
    assert re.fullmatch("[0-9a-f]{64}", bundle.weights_sha256())
    files = bundle.model["files"]
    assert set(files) == {"weights.safetensors", "evolution.json", "README.md"}
    assert files["weights.safetensors"]["sha256"] == bundle.weights_sha256()


def test_a_model_without_a_history_has_an_empty_one(copied: Path) -> None:
    (copied / "evolution.json").unlink()
    assert Bundle.open(copied).history() == {"history": []}


def test_triples_are_written_on_one_line(tiny_bundle: Path) -> None:
    text = (tiny_bundle / "model.json").read_text(encoding="utf-8")
    assert '"patch": [16, 16, 16]' in text
    assert "[216, 101, 79]" in text


def test_an_existing_folder_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    bundle = write(tmp_path / "tiny")
    first = bundle.weights_sha256()
    with pytest.raises(BadInput, match="already exists"):
        write(tmp_path / "tiny", seed=1)
    assert Bundle.open(tmp_path / "tiny").weights_sha256() == first
    again = write(tmp_path / "tiny", seed=1, overwrite=True)
    assert again.weights_sha256() != first
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path, overwrite: bool) -> None:
    before = write(tmp_path / "tiny").weights_sha256() if overwrite else None
    broken = {**tiny_model(), "labels": [{"value": "x"}]}
    with pytest.raises(BadInput):
        write(tmp_path / "tiny", seed=1, model=broken, overwrite=overwrite)
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path / "tiny", model={**tiny_model(), "x": float("nan")}, overwrite=overwrite)
    if before is None:
        assert list(tmp_path.iterdir()) == []
    else:
        assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
        assert Bundle.open(tmp_path / "tiny").weights_sha256() == before


def test_a_failed_replacement_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write(tmp_path / "tiny").weights_sha256()
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if Path(target).name == "tiny" and self.name != "old":
            raise OSError("no")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(BadInput, match=r"tiny cannot be written: no\."):
            write(tmp_path / "tiny", seed=1, overwrite=True)
    assert Bundle.open(tmp_path / "tiny").weights_sha256() == before
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_extra_files_are_listed(tmp_path: Path) -> None:
    source = tmp_path / "somewhere.nii.gz"
    source.write_bytes(b"template")
    bundle = write(tmp_path / "tiny", extra={"locator/template.nii.gz": source})
    assert (bundle.path / "locator" / "template.nii.gz").read_bytes() == b"template"
    assert bundle.model["files"]["locator/template.nii.gz"]["bytes"] == 8


def test_a_zip_opens_like_its_folder(tiny_bundle: Path, tmp_path: Path) -> None:
    archive = tmp_path / "tiny.zip"
    pack(tiny_bundle, archive)
    first, second = Bundle.open(archive), Bundle.open(archive)
    assert first.path == second.path  # unpacked once
    assert tmp_path not in first.path.parents
    assert first.model == Bundle.open(tiny_bundle).model
    first.load_network()


def test_models_are_found_by_name_and_by_path(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("one", "two"):
        shutil.copytree(tiny_bundle, tmp_path / place / "tiny")
    shutil.copytree(tiny_bundle, tmp_path / "two" / "other")
    (tmp_path / "two" / "no-model").mkdir()
    folders = [tmp_path / "one", tmp_path / "none", tmp_path / "two"]
    monkeypatch.setenv("E2ENET_MODELS", os.pathsep.join(map(str, folders)))
    found = {path.name: path for path in list_models()}
    assert found["tiny"] == tmp_path / "one" / "tiny"  # the first folder first
    assert found["other"] == tmp_path / "two" / "other"
    assert "no-model" not in found
    assert find_model("other") == found["other"]
    assert find_model(tiny_bundle) == tiny_bundle
    with pytest.raises(BadInput, match="There is no model 'nobody'") as caught:
        find_model("nobody")
    assert "tiny" in caught.value.help
    assert caught.value.code == "no-model"
    with pytest.raises(BadInput, match=r"has no model\.json"):
        find_model(tmp_path / "two" / "no-model")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(schema_version=2), "schema version 2"),
        (lambda m: m.pop("schema_version"), "schema version None"),
        (lambda m: m.pop("plan"), '"plan"'),
        (lambda m: m.update(labels="x"), '"labels"'),
        (lambda m: m["labels"][0].pop("value"), "label that cannot be read"),
        (lambda m: m["labels"][0].update(color=[1, 2]), "label that cannot be read"),
        (lambda m: m["labels"][0].update(one_piece="yes"), "label that cannot be read"),
        (lambda m: m.update(channels=[{}]), "channel without a name"),
    ],
)
def test_a_damaged_model_json_is_refused(
    copied: Path, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    change_json(copied, change)
    with pytest.raises(BadInput) as caught:
        Bundle.open(copied)
    assert said in caught.value.message
    assert "model.json" in caught.value.message


def test_shared_connections_of_before_the_first_release(copied: Path) -> None:
    assert "connection_group" not in json.loads((copied / "model.json").read_text(encoding="utf-8"))
    plain = Bundle.open(copied)
    change_json(copied, lambda m: m.update(connection_group=1))
    assert Bundle.open(copied).model == plain.model
    assert Bundle.open(copied).settings_sha256() == plain.settings_sha256()
    for group in (16, 0, None, "1"):
        change_json(copied, lambda m, g=group: m.update(connection_group=g))
        with pytest.raises(
            BadInput, match=r"model\.json has connection_group .* removed"
        ) as caught:
            Bundle.open(copied)
        assert caught.value.code == "model-version"
        assert "Write 1 there" in caught.value.help


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_model_json_that_is_none_is_refused(copied: Path, content: bytes) -> None:
    (copied / "model.json").write_bytes(content)
    with pytest.raises(BadInput) as caught:
        Bundle.open(copied)
    assert caught.value.code == "damaged-model"


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["network"].update(kind="UNet"),
        lambda m: m["network"].pop("arguments"),
        lambda m: m["network"]["arguments"].update(colour=1),
        lambda m: m["network"]["arguments"].update(strides=[[2, 2]]),
        lambda m: m["network"]["arguments"].update(base_channels="many"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(
    copied: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    change_json(copied, change)
    with pytest.raises(BadInput, match="no network that can be built"):
        Bundle.open(copied).load_network()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("heads.0.weight"), "heads.0.weight"),
        (lambda t: t.update(surplus=torch.zeros(1)), "surplus"),
        (lambda t: t.update({"heads.0.weight": torch.zeros(4, 4, 1, 1, 1)}), "heads.0.weight of"),
        (lambda t: t.pop("ups.1_0.weight.live"), "ups.1_0"),
        (lambda t: t.pop("ups.1_0.weight.mask"), "ups.1_0"),
        (lambda t: t.update({"ups.1_0.weight.mask": torch.zeros(1, dtype=torch.uint8)}), "ups.1_0"),
        (lambda t: t["ups.1_0.weight.mask"].zero_(), "do not fit its mask"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    copied: Path, change: Callable[[dict[str, torch.Tensor]], Any], said: str
) -> None:
    path = copied / "weights.safetensors"
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(BadInput) as caught:
        Bundle.open(copied).load_network()
    assert said in caught.value.message


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_weights_are_refused(copied: Path, share: float) -> None:
    path = copied / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadInput, match="cannot be read"):
        Bundle.open(copied).load_network()


def test_missing_weights_are_refused(copied: Path) -> None:
    (copied / "weights.safetensors").unlink()
    bundle = Bundle.open(copied)
    for use in (bundle.load_network, bundle.weights_sha256):
        with pytest.raises(BadInput, match="is missing"):
            use()


def test_loading_draws_nothing_from_the_global_random_state(tiny_bundle: Path) -> None:
    before = torch.get_rng_state()
    Bundle.open(tiny_bundle).load_network()
    assert torch.equal(torch.get_rng_state(), before)
