"""Networks in plain operations: the same logits as the networks that were trained."""

from __future__ import annotations

import pytest
import torch
from e2enet.dsff import Connections
from e2enet.interop.portable import Portable
from e2enet.networks import E2ENet, build_network


@pytest.mark.parametrize(
    ("strides", "size", "options"),
    [
        ([(2, 2, 2)] * 2, (8, 8, 12), {}),
        ([(1, 2, 2), (2, 2, 2)], (6, 16, 8), {"shift_groups": 5}),
        ([(1, 2, 2)] * 2, (1, 16, 16), {}),  # every shift leaves the only slice
        ([(1, 2, 2)] * 2, (3, 16, 16), {"norm_axes": "slice", "shift_groups": 1}),
    ],
)
def test_the_same_logits(strides: list, size: tuple, options: dict) -> None:
    torch.manual_seed(4)
    network = E2ENet(2, 3, strides, base_channels=6, **options).eval()
    Connections.random(network, 0.7, seed=4).apply()
    for parameter in network.parameters():  # norms as after a training
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.5)
    image = torch.randn(2, 2, *size)
    with torch.no_grad():
        expected = network(image.clone())[0]
        got = Portable(network)(image.clone())
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)
    assert network.deep_supervision  # it stays as it is


@pytest.mark.parametrize("kind", ["DSNet", "DXNet", "OmniaNet", "EncoderE2ENet"])
def test_every_kind_of_network(kind: str) -> None:
    torch.manual_seed(4)
    arguments = {"in_channels": 1, "num_classes": 2, "encoder": "resnet10"}
    if kind == "DSNet":
        arguments |= {"depth": 32}
    if kind == "EncoderE2ENet":
        arguments |= {"strides": [(1, 2, 2)] * 5, "base_channels": 4}
    network = build_network(kind, arguments).eval()
    image = torch.randn(1, 1, 32, 64, 64)
    with torch.no_grad():
        logits = network(image.clone())
        expected = logits[0] if isinstance(logits, list) else logits
        got = Portable(network)(image.clone())
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)
