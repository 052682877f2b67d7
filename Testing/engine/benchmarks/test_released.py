"""The released operations that the benchmark measures compute what our network computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from e2enet.dsff import Connections
from e2enet.interop.official import from_state_dict
from e2enet.networks import E2ENet

BENCHMARKS = Path(__file__).parents[3] / "engine" / "benchmarks"


@pytest.mark.parametrize(
    ("strides", "channels", "groups"),
    [([(2, 2, 2)] * 2, 1, 3), ([(1, 2, 2), (2, 2, 2), (2, 2, 1)], 2, 5)],
)
def test_equals_the_network(strides, channels, groups, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from released import MaskedDense

    torch.manual_seed(0)
    network = E2ENet(channels, 3, strides, base_channels=6, shift_groups=groups).eval()
    Connections.random(network, 0.5).apply()
    image = torch.randn(1, channels, 8, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(
            MaskedDense(network)(image), network(image)[0], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("groups", [3, 5])
def test_equals_the_released_operations(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from released import MaskedDense

    data = np.load(Path(__file__).parents[1] / "released" / f"network_shift{groups}.npz")
    state = {name.removeprefix("weights/"): data[name] for name in data.files if "weights/" in name}
    network = from_state_dict(state, data["strides"].tolist(), groups)
    with torch.inference_mode():
        output = MaskedDense(network)(torch.from_numpy(data["input"]))
    torch.testing.assert_close(output, torch.from_numpy(data["output_0"]), atol=1e-5, rtol=0)
