"""What is shown of the U-Nets, whose decoders are chains, and of an E2ENet on an encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from e2enet.bundle import Bundle, write_bundle
from e2enet.dsff import Connections
from e2enet.events import BadInput
from e2enet.explain.explanation import explain
from e2enet.explain.importance import FusionMaps
from e2enet.explain.nodes import Node, nodes_of
from e2enet.networks import build_network
from torch import nn

ENCODER = "resnet10"
STRIDES = [[1, 2, 2]] * 5
ARGUMENTS: dict[str, dict[str, Any]] = {
    "OmniaNet": {"encoder": ENCODER},
    "DXNet": {"encoder": ENCODER, "strides": [[1, 2, 2]] * 4 + [[2, 2, 2]]},
    "DSNet": {"encoder": ENCODER, "depth": 4},
    "EncoderE2ENet": {"encoder": ENCODER, "strides": STRIDES, "base_channels": 4},
}
U_NETS = ["OmniaNet", "DXNet", "DSNet"]


@pytest.fixture(scope="module")
def networks() -> dict[str, Any]:
    """Each kind with random weights, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        made: dict[str, Any] = {
            kind: build_network(kind, {"in_channels": 1, "num_classes": 3, **arguments}).eval()
            for kind, arguments in ARGUMENTS.items()
        }
        for network in made.values():  # statistics that are not those of a new network
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    nn.init.uniform_(module.running_var, 0.5, 2.0)
                    nn.init.uniform_(module.running_mean, -0.5, 0.5)
        for kind in U_NETS:  # every label wins somewhere
            with torch.no_grad():
                logits = made[kind](torch.randn(1, 1, 4, 32, 32))[0]
                made[kind].heads[0].bias -= logits.mean((0, 2, 3, 4))
    return made


def steps_of(network: Any) -> dict[Node, nn.Module]:
    """The module of each level of a decoder that is called with what it joins."""
    if hasattr(network, "up"):
        steps = list(network.up)
    else:
        steps = list(getattr(network, "unet", network).decoder.steps)
    return {Node(k + 1, len(steps) - 1 - k): step for k, step in enumerate(steps)}


def joined(network: Any, window: torch.Tensor) -> tuple[torch.Tensor, dict[Node, dict[str, Any]]]:
    """Logits, and what each level of the decoder is given, taken from its own calls."""
    found: dict[Node, dict[str, Any]] = {}
    handles = []
    for node, step in steps_of(network).items():

        def keep(module: Any, args: Any, node: Node = node) -> Any:
            # Cut here, for the next stage of the encoder reads the skip as well.
            if len(args) == 2:  # upsampled inside
                upward, forward = module.up(args[0]), args[1] * 1
                found[node] = {"upward": upward, "forward": forward}
                return args[0], forward
            width = network.arguments["widths"][node.level]
            upward, forward = args[0][:, :-width] * 1, args[0][:, -width:] * 1
            found[node] = {"upward": upward, "forward": forward}
            return (torch.cat([upward, forward], 1),)

        handles.append(step.register_forward_pre_hook(keep))
    logits = network(window)[0]
    for handle in handles:
        handle.remove()
    return logits, found


def on_window(maps: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """(B, D, h, w) or (B * D, h, w) -> (D, H, W)."""
    maps = maps[0] if maps.ndim == 4 else maps
    size = tuple(window.shape[2:])
    return F.interpolate(maps[None, None], size, mode="trilinear", align_corners=False)[0, 0]


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_the_nodes_are_those_of_the_network(kind: str, networks: dict[str, Any]) -> None:
    model = {"network": {"kind": kind, "arguments": networks[kind].arguments}}
    expected = {Node(one.stage, one.level): set(one.flows) for one in networks[kind].fusions()}
    found = nodes_of(Bundle(Path("made"), model))
    assert {node: set(directions) for node, directions in found.items()} == expected
    assert list(found) == sorted(found)


@pytest.mark.parametrize("kind", U_NETS)
def test_importance_and_label_form_are_the_definitions(kind: str, networks: dict[str, Any]) -> None:
    network, nodes = networks[kind], list(steps_of(networks[kind]))
    window = torch.randn(1, 1, 4, 32, 32, generator=torch.Generator().manual_seed(3))
    label = int(network(window)[0].argmax(1).flatten().mode().values)
    maps = FusionMaps(network, Connections(network, {}), nodes, classes=[label])
    found = dict(zip(maps.keys, maps(window)[0], strict=True))
    assert len(found) == 2 * 2 * len(nodes)

    network.requires_grad_(True)
    logits, inputs = joined(network, window)
    score = logits[:, label][logits.argmax(1) == label].sum()
    for key, shown in found.items():
        x = inputs[key.node][key.direction]
        if key.label is None:
            step: Any = steps_of(network)[key.node]
            conv = step.conv1[0] if hasattr(step, "conv1") else step[0]
            upward = inputs[key.node]["upward"].shape[1]
            own = conv.weight[:, :upward] if key.direction == "upward" else conv.weight[:, upward:]
            mass = own.detach().abs().sum((0, *range(2, own.ndim)))
            expected = (x.detach().abs() * mass.view(1, -1, *[1] * (x.ndim - 2))).sum(1)
            expected = on_window(expected, window)
        elif key.direction == "forward":
            gradient = torch.autograd.grad(score, x, retain_graph=True)[0]
            expected = (gradient * x.detach()).abs().sum(1)
            expected = on_window(expected, window) * (expected.numel() / window.numel())
        else:
            assert shown.any()
            continue
        assert shown.any()
        torch.testing.assert_close(shown, expected, rtol=1e-3, atol=1e-6)


def test_slices_of_omnia_net_are_each_their_own(networks: dict[str, Any]) -> None:
    network = networks["OmniaNet"]
    window = torch.randn(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    nodes = list(steps_of(network))
    maps = FusionMaps(network, Connections(network, {}), nodes, classes=[0])
    whole = maps(window)
    for case in range(2):
        for depth in range(3):
            alone = maps(window[case : case + 1, :, depth : depth + 1])
            torch.testing.assert_close(whole[case, :, depth], alone[0, :, 0], rtol=1e-3, atol=1e-6)


def bundle_of(kind: str, network: Any, tiny_bundle: Path, folder: Path) -> Path:
    model = json.loads((tiny_bundle / "model.json").read_text(encoding="utf-8"))
    for key in ("schema_version", "network", "files"):
        del model[key]
    model["plan"].update(strides=STRIDES, patch=[2, 32, 32])
    connections = Connections.random(network, 0.5, seed=1)
    connections.apply()
    write_bundle(
        folder, network=network, connections=connections, model={**model, "name": kind.lower()},
        history={"history": []}, readme="# Made\n",
    )  # fmt: skip
    return folder


def test_a_u_net_explained(
    networks: dict[str, Any], tiny_bundle: Path, write_case: Any, tmp_path: Path
) -> None:
    bundle = bundle_of("OmniaNet", networks["OmniaNet"], tiny_bundle, tmp_path / "model")
    case = write_case(shape=(3, 30, 34))
    done = explain(case, bundle, output=tmp_path / "why", nodes="5:0,4:1,1:4", labels=["sphere"])
    index = done.index
    assert index["flow"] is done.describe()["flow"] is None
    assert [(n["stage"], n["level"]) for n in index["nodes"]] == [
        (stage, 5 - stage) for stage in range(1, 6)
    ]
    assert all(n["directions"] == ["forward", "upward"] for n in index["nodes"])
    assert {entry["direction"] for entry in index["volumes"]} == {"forward", "upward", None}
    assert [entry["label"]["name"] for entry in index["scales"]] == ["sphere"]
    for entry in index["scales"]:
        assert [node["level"] for node in entry["nodes"]] == [0, 1, 4]
        assert sum(node["share"] for node in entry["nodes"]) == pytest.approx(1, abs=1e-4)
        # As the volumes have it: the sums of what the skips give.
        sums = {
            v["level"]: float(read(done.folder / v["path"]).sum())
            for v in index["volumes"]
            if v["label"] == entry["label"] and (v["direction"], v["kind"]) == ("forward", "raw")
        }
        for node in entry["nodes"]:
            share = sums[node["level"]] / sum(sums.values())
            assert node["share"] == pytest.approx(share, abs=1e-4)
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert "The encoder's scales" in page
    assert "decoder of a U-Net" in page
    assert "Fusion flow" not in page

    for given in ({"inputs": None}, {"inputs": case, "faithfulness_on": (tmp_path, tmp_path)}):
        with pytest.raises(BadInput, match="is OmniaNet") as caught:
            explain(model=bundle, output=tmp_path / "no", **given)  # type: ignore[arg-type]
        assert caught.value.code == "no-fusion"
        assert "an image" in caught.value.help
    with pytest.raises(BadInput, match="no node '1:0'") as caught:
        explain(case, bundle, output=tmp_path / "no", nodes="1:0")
    assert "5:0" in caught.value.help
    assert not (tmp_path / "no").exists()


def read(path: Path) -> np.ndarray:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float64)


def test_an_e2enet_on_an_encoder_has_a_flow_and_maps(
    networks: dict[str, Any], tiny_bundle: Path, write_case: Any, tmp_path: Path
) -> None:
    network = networks["EncoderE2ENet"]
    bundle = bundle_of("EncoderE2ENet", network, tiny_bundle, tmp_path / "model")
    done = explain(
        write_case(shape=(3, 30, 34)), bundle, output=tmp_path / "why", nodes="5:0,1:2",
        labels=["cube"],
    )  # fmt: skip
    assert len(done.index["nodes"]) == 15
    assert done.index["scales"] == []
    flow = json.loads((done.folder / "flow.json").read_text(encoding="utf-8"))
    live = Bundle.open(bundle).load_network()[1].live
    assert flow["records"][-1]["live"] == live
    maps = {(v["stage"], v["level"], v["direction"]) for v in done.index["volumes"]}
    assert {(1, 2, "downward"), (1, 2, "forward"), (5, 0, "upward")} <= maps
