"""The released operations as we wrote them: equal to the released code, and as they were kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from .operations import forward, masked_training

HERE = Path(__file__).parent
EVERY, ZETA = 10, (0.5, 0.001)


def load(path: Path) -> dict[str, Tensor]:
    data = np.load(path)
    return {name: torch.from_numpy(data[name]) for name in data.files}


def outputs(data: dict[str, Tensor], masked: bool) -> list[Tensor]:
    state = {n.removeprefix("weights/"): v for n, v in data.items() if n.startswith("weights/")}
    for name, mask in data.items():
        if masked and name.startswith("mask/"):
            layer = name.removeprefix("mask/")
            state[layer] = state[layer] * mask[:, :, None, None, None]
    return forward(state, data["input"], data["strides"].tolist(), int(data["shift_groups"]))


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("groups", [3, 5])
def test_forward_equals_the_released_network(shared: Path, groups: int, masked: bool) -> None:
    data = load(shared / "reference" / f"official_e2enet_shift{groups}.npz")
    prefix = "masked_output" if masked else "output"
    for head, output in enumerate(outputs(data, masked)):
        torch.testing.assert_close(output, data[f"{prefix}_{head}"], atol=2e-5, rtol=0)


def replayed(data: dict[str, Tensor]) -> Callable[[int, str, Tensor, int], Tensor]:
    return lambda number, name, alive, count: data[
        f"evolution_{number}/alive_after_growth/{name}.weight"
    ]


def test_masking_equals_the_released_run(shared: Path) -> None:
    data = load(shared / "reference" / "official_evolution.npz")
    noted = masked_training(data, data["x"], data["y"], every=EVERY, zeta=ZETA, grow=replayed(data))
    assert {name for name in data if name.startswith(("evolution", "final"))} <= noted.keys()
    for name, value in noted.items():
        torch.testing.assert_close(value, data[name], atol=1e-6, rtol=0, msg=name)


def test_what_is_kept_is_what_the_script_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(HERE / "make.py"), str(tmp_path)], check=True)
    kept = sorted(HERE.glob("*.npz"))
    assert len(kept) == 3
    for path in kept:
        ours, made = load(path), load(tmp_path / path.name)
        assert ours.keys() == made.keys()
        for name, value in ours.items():
            torch.testing.assert_close(made[name], value, atol=1e-5, rtol=1e-5, msg=name)
