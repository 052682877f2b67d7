"""What a trained network hands over."""

from __future__ import annotations

import torch
from e2enet.dsff import Connections
from e2enet.networks import E2ENet
from e2enet.training.finetune import transfer

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
    moved = transfer(source, Connections.dense(source), target, classes={0: 0}, seed=0)
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
