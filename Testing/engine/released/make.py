"""Makes the numbers beside it from the released operations: python make.py [FOLDER].

network_shift3.npz, network_shift5.npz   a tiny network: weights, masks, input, outputs
evolution.npz                            forty steps under the released masking
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from operations import Toy, forward, masked_training
from torch import Tensor

STRIDES = [(1, 2, 2), (2, 2, 2), (2, 2, 2)]
CHANNELS = (3, 6, 10, 10)
INPUTS, CLASSES, SIZE = 2, 3, (8, 16, 24)
STEPS, EVERY, DENSITY = 40, 10, 0.4


def network_state(generator: torch.Generator) -> dict[str, Tensor]:
    """Random weights of a network under released names, small enough for a repository."""
    state: dict[str, Tensor] = {}
    last = len(STRIDES)

    def normal(name: str, *shape: int, fan: int) -> None:
        state[name] = torch.randn(shape, generator=generator) * fan**-0.5

    def block(name: str, inputs: int, outputs: int) -> None:
        normal(f"{name}.conv.weight", outputs, inputs, 1, 3, 3, fan=9 * inputs)
        normal(f"{name}.conv.bias", outputs, fan=9)
        state[f"{name}.instnorm.weight"] = 1 + 0.2 * torch.randn(outputs, generator=generator)
        normal(f"{name}.instnorm.bias", outputs, fan=9)

    inputs = INPUTS
    for level, outputs in enumerate(CHANNELS):
        name = f"conv_blocks_context.{level}"
        parts = [f"{name}.{i}.blocks.0" if level == last else f"{name}.blocks.{i}" for i in (0, 1)]
        block(parts[0], inputs, outputs)
        block(parts[1], outputs, outputs)
        inputs = outputs
    for stage in range(1, last + 1):
        for level in range(last + 1 - stage):
            z, k = last - level - stage, stage - 1
            own, below = CHANNELS[level], CHANNELS[level + 1]
            normal(f"up{z}.{k}.weight", below, own, *STRIDES[level], fan=below)
            above = CHANNELS[level - 1] if level else 0
            block(f"loc{z}.{k}.0.blocks.0", own + own + above, own)
            if z == 0:
                block(f"loc{z}.{k}.1.blocks.0", own, own)
    for head in range(2):
        normal(f"seg_outputs.{head}.weight", CLASSES, CHANNELS[head], 1, 1, 1, fan=CHANNELS[head])
    return state


def network(groups: int) -> dict[str, Tensor]:
    """Weights, masks of the fusion, and the outputs of the whole and of the masked network."""
    generator = torch.Generator().manual_seed(groups)
    state = network_state(generator)
    image = torch.randn(1, INPUTS, *SIZE, generator=generator)
    sparse = [n for n in state if n.startswith(("loc", "up")) and n.endswith("weight")]
    masks = {
        name: torch.rand(state[name].shape[:2], generator=generator) < DENSITY
        for name in sparse
        if "instnorm" not in name
    }
    masked = {
        n: w * masks[n][:, :, None, None, None] if n in masks else w for n, w in state.items()
    }
    outputs, masked_outputs = (forward(s, image, STRIDES, groups) for s in (state, masked))
    return {
        "strides": torch.tensor(STRIDES),
        "shift_groups": torch.tensor(groups),
        "input": image,
        **{f"weights/{name}": value for name, value in state.items()},
        **{f"mask/{name}": value for name, value in masks.items()},
        **{f"output_{head}": value for head, value in enumerate(outputs)},
        **{f"masked_output_{head}": value for head, value in enumerate(masked_outputs)},
    }


def evolution() -> dict[str, Tensor]:
    """Start, batches, and everything the released masking does to them."""
    torch.manual_seed(7)
    start = {}
    for name, layer in Toy().named().items():
        for part, parameter in layer.named_parameters():
            start[f"init/weight/{name}.{part}"] = parameter.detach().clone()
        start[f"init/mask/{name}.weight"] = torch.rand(layer.weight.shape[:2]) < DENSITY
    x, y = torch.randn(STEPS, 1, 12, 1, 4, 4), torch.randn(STEPS, 1, 4, 2, 8, 8)

    def grow(number: int, name: str, alive: Tensor, count: int) -> Tensor:
        dead = (~alive).flatten().nonzero().squeeze(1)
        grown = alive.flatten().clone()
        grown[dead[torch.randperm(len(dead))[:count]]] = True
        return grown.view_as(alive)

    noted = masked_training(start, x, y, every=EVERY, zeta=(0.5, 0.001), grow=grow)
    return {**start, "x": x, "y": y, **noted}


def main(folder: Path) -> None:
    """Write the three files."""
    made = {"network_shift3": network(3), "network_shift5": network(5), "evolution": evolution()}
    for name, values in made.items():
        arrays = {key: value.numpy() for key, value in values.items()}
        np.savez_compressed(folder / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
