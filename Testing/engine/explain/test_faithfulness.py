"""Deleting connections: how many, which, and that the network is whole again afterwards."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from e2enet.bundle import Bundle
from e2enet.dsff import Connections
from e2enet.events import BadInput
from e2enet.explain.faithfulness import (
    RULES,
    MeanInputs,
    WeightGradients,
    connection_importance,
    deleted,
    faithfulness,
)
from e2enet.explain.importance import FusionMaps, inputs_of
from e2enet.explain.nodes import Node
from e2enet.explain.volumes import Explainer
from e2enet.networks import E2ENet


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = E2ENet(1, 3, [(2, 2, 2)] * 2, base_channels=4).eval()
        window = torch.randn(1, 1, 8, 8, 8)
    connections = Connections.random(network, 0.5, seed=2)
    connections.apply()
    return network, connections, window


def test_as_many_go_from_every_layer_and_all_come_back(model):
    _, connections, _ = model
    before = {name: layer.weight.detach().clone() for name, layer in connections.layers.items()}
    scores = {name: torch.rand(mask.shape) for name, mask in connections.masks.items()}
    with deleted(connections, scores, 0.25) as count:
        total = 0
        for name, layer in connections.layers.items():
            mask = connections.masks[name]
            gone = mask & ~layer.weight.detach().flatten(2).ne(0).any(2)
            assert int(gone.sum()) == round(0.25 * int(mask.sum()))
            # The highest of the live ones, and nothing else has changed.
            assert scores[name][gone].min() >= scores[name][mask & ~gone].max()
            kept = (layer.weight.detach() == before[name]).flatten(2).all(2)
            assert bool((kept | gone).all())
            total += int(gone.sum())
        assert count == total
    for name, layer in connections.layers.items():
        assert torch.equal(layer.weight.detach(), before[name])


def test_the_network_is_whole_again_after_an_error(model):
    _, connections, _ = model
    before = {name: layer.weight.detach().clone() for name, layer in connections.layers.items()}
    scores = {name: torch.rand(mask.shape) for name, mask in connections.masks.items()}
    with pytest.raises(RuntimeError), deleted(connections, scores, 0.5):
        raise RuntimeError
    for name, layer in connections.layers.items():
        assert torch.equal(layer.weight.detach(), before[name])


def first_convolutions(connections):
    return [layer for layer in connections.layers.values() if layer.flows and layer.kind != "up"]


def test_connection_importance_adds_up_to_the_maps(model):
    """The sum over a direction is the mean of A_d over the voxels, all or those of a label."""
    network, connections, window = model
    watched = MeanInputs(network, first_convolutions(connections))
    maps = FusionMaps(network, connections, [Node(2, 0)])
    with torch.no_grad():
        inside = watched(window)[0].argmax(1)[0] > 0
        found = maps(window)[0]
    assert inside.any()
    assert not inside.all()
    name = "nodes.2_0.0.conv"
    for kind, voxels in (("image", torch.ones_like(inside)), ("importance", inside)):
        scores = connection_importance(connections, watched.means(kind))[name]
        for place, key in enumerate(maps.keys):
            start, stop = connections.layers[name].flows[key.direction]
            total = float((scores * connections.masks[name])[:, start:stop].sum())
            assert float(found[place][voxels].mean()) == pytest.approx(total, rel=1e-4)


def test_a_coarse_voxel_counts_by_its_share_of_the_label(model):
    network, connections, window = model
    layer = connections.layers["nodes.1_1.0.conv"]
    watched = MeanInputs(network, [layer])
    with torch.no_grad(), inputs_of([layer]) as inputs:
        inside = watched(window)[0].argmax(1)[0] > 0
        x = inputs[layer.name][0]
    total, weight, centred = torch.zeros(len(x)), 0, torch.zeros(len(x))
    for d, h, w in np.ndindex(*x.shape[1:]):
        box = inside[2 * d : 2 * d + 2, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2]
        total += x[:, d, h, w].abs() * box.sum()
        centred += (x[:, d, h, w] - x.mean((1, 2, 3))).abs() * box.sum()
        weight += int(box.sum())
    torch.testing.assert_close(watched.means("importance")[layer.name], total / weight)
    torch.testing.assert_close(watched.means("centred")[layer.name], centred / weight)


def test_without_any_label_the_whole_image_counts(model):
    network, connections, window = model
    with torch.no_grad():
        for head in network.heads:
            head.weight.zero_()
    watched = MeanInputs(network, first_convolutions(connections))
    with torch.no_grad():
        watched(window)
    for name, mean in watched.means("importance").items():
        torch.testing.assert_close(mean, watched.means("image")[name])


def test_means_run_over_all_windows(model):
    network, connections, window = model
    layers = first_convolutions(connections)
    together, apart = MeanInputs(network, layers), MeanInputs(network, layers)
    with torch.no_grad():
        together(torch.cat([window, window.flip(4)]))
        apart(window)
        apart(window.flip(4))
    for kind in ("image", "importance", "centred"):
        for name, mean in together.means(kind).items():
            torch.testing.assert_close(mean, apart.means(kind)[name], rtol=1e-4, atol=1e-6)


def test_the_gradient_form_is_what_a_weaker_kernel_changes(model):
    """θ · ∂y/∂θ is the change of y when a kernel grows by a little, in double precision."""
    network, connections, window = model
    network, window = network.double(), window.double()
    with torch.no_grad():
        winner = network(window)[0].argmax(1)

    def score() -> float:
        with torch.no_grad():
            logits = network(window)[0]
        best = logits.gather(1, winner[:, None])[:, 0]
        return float(best[winner > 0].sum())

    watched = WeightGradients(network, list(connections.layers.values()))
    watched(window)
    for name in ("nodes.1_1.0.conv", "nodes.1_1.1.conv", "ups.2_0"):
        weight = connections.layers[name].weight
        for o, c in connections.masks[name].nonzero()[:3].tolist():
            kernel = weight.detach()[o, c].clone()
            with torch.no_grad():
                weight[o, c] = kernel * (1 + 1e-5)
                up = score()
                weight[o, c] = kernel * (1 - 1e-5)
                down = score()
                weight[o, c] = kernel
            expected = (up - down) / 2e-5
            assert float(watched.sums[name][o, c]) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_every_rule_on_every_case(tiny_bundle, tiny_dataset):
    explainer = Explainer(Bundle.open(tiny_bundle))
    before = {k: v.clone() for k, v in explainer.network.state_dict().items()}
    check = faithfulness(
        explainer,
        tiny_dataset / "imagesTs",
        tiny_dataset / "labelsTs",
        count=1,
        fractions=(0.0, 0.5),
        seeds=2,
    )
    assert check.cases == ["tiny_006"]
    assert set(check.nodes) == {(1, 0), (1, 1), (2, 0)}
    for rule in RULES:
        assert check.mean(rule, 0.0) == 0  # nothing deleted, nothing lost
        for node in check.nodes:
            assert check.losses[rule, 0.5, node][0] <= check.intact[0]
    content = json.loads(json.dumps(check.to_dict(), allow_nan=False))
    assert len(content["rows"]) == 2 * len(RULES)
    row = content["rows"][1]
    assert row["mean_loss"] == pytest.approx(np.mean(row["by_case"]), abs=1e-3)
    assert row["mean_loss"] == pytest.approx(
        np.mean([node["mean_loss"] for node in row["by_node"]]), abs=1e-3
    )
    for name, value in explainer.network.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_case_without_a_reference_is_named(tiny_bundle, tiny_dataset, tmp_path):
    references = tmp_path / "labels"
    references.mkdir()
    shutil.copy(tiny_dataset / "labelsTs" / "tiny_006.nii.gz", references)
    with pytest.raises(BadInput, match="tiny_007"):
        faithfulness(Explainer(Bundle.open(tiny_bundle)), tiny_dataset / "imagesTs", references)


def test_a_folder_that_is_missing(tiny_bundle, tiny_dataset, tmp_path):
    with pytest.raises(BadInput) as caught:
        faithfulness(
            Explainer(Bundle.open(tiny_bundle)), tmp_path / "none", tiny_dataset / "labelsTs"
        )
    assert caught.value.code == "missing-file"
    assert os.fspath(tmp_path / "none") in caught.value.message


def test_scores_of_live_connections_alone_are_ranked(model):
    _, connections, _ = model
    # Dead connections score highest here, and none of them may be chosen in place of a live one.
    scores = {name: (~mask).float() * 9 for name, mask in connections.masks.items()}
    with deleted(connections, scores, 0.1) as count:
        live = sum(
            int(layer.weight.detach().flatten(2).ne(0).any(2).sum())
            for layer in connections.layers.values()
        )
        assert live == connections.live - count
