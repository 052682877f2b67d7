"""The released E2ENet's forward and masking, operation by operation, on its own state dict.

Written from the description of the method and the released names; nothing of the engine is used.
`test_operations.py` proves them against the released code's own outputs where those are at hand,
and `make.py` makes the numbers from them that every clone compares with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = Mapping[str, Tensor]
Stride = Sequence[int]


def forward(state: State, image: Tensor, strides: Sequence[Stride], groups: int) -> list[Tensor]:
    """Logits of every head, finest first, of an image (B, C, D, H, W)."""
    last = len(strides)
    nodes: dict[tuple[int, int], Tensor] = {}  # stage, level
    x = image
    for level in range(last + 1):
        name = f"conv_blocks_context.{level}"
        stride = strides[level - 1] if level else (1, 1, 1)
        parts = [f"{name}.{i}.blocks.0" if level == last else f"{name}.blocks.{i}" for i in (0, 1)]
        x = block(state, parts[0], x, groups, stride)
        x = nodes[0, level] = block(state, parts[1], x, groups)
    for stage in range(1, last + 1):
        for level in range(last + 1 - stage):
            z, k = last - level - stage, stage - 1
            below = nodes[stage - 1, level + 1]
            kernel = state[f"up{z}.{k}.weight"]
            flows = [
                nodes[stage - 1, level],
                F.conv_transpose3d(below, kernel, stride=tuple(strides[level])),
            ]
            if level:
                above, size = nodes[stage - 1, level - 1], tuple(strides[level - 1])
                flows.append(F.max_pool3d(above, size, size))
            x = torch.cat(flows, 1)
            for index in range(2 if z == 0 else 1):
                x = block(state, f"loc{z}.{k}.{index}.blocks.0", x, groups)
            nodes[stage, level] = x
    heads = sum(name.startswith("seg_outputs.") for name in state)
    return [
        F.conv3d(nodes[last - head, head], state[f"seg_outputs.{head}.weight"])
        for head in range(heads)
    ]


def block(state: State, name: str, x: Tensor, groups: int, stride: Stride = (1, 1, 1)) -> Tensor:
    """Depth-shift, planar convolution, instance norm and leaky ReLU."""
    reach = groups // 2
    padded = F.pad(x, (0, 0, 0, 0, reach, reach))
    chunks = torch.chunk(padded, groups, dim=1)
    rolled = [torch.roll(chunk, index - reach, 2) for index, chunk in enumerate(chunks)]
    x = torch.cat(rolled, 1).narrow(2, reach, x.shape[2])
    conv = state[f"{name}.conv.weight"], state[f"{name}.conv.bias"]
    x = F.conv3d(x, *conv, stride=tuple(stride), padding=(0, 1, 1))
    norm = state[f"{name}.instnorm.weight"], state[f"{name}.instnorm.bias"]
    return F.leaky_relu(F.instance_norm(x, weight=norm[0], bias=norm[1], eps=1e-5), 0.01)


class Toy(nn.Module):
    """The three sparse layers of the released run, under its names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(12, 8, (1, 3, 3), padding=(0, 1, 1))
        self.second = nn.Conv3d(8, 6, (1, 3, 3), padding=(0, 1, 1))
        self.up = nn.ConvTranspose3d(6, 4, 2, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.relu(self.second(F.relu(self.first(x)))))

    def named(self) -> dict[str, nn.Module]:
        return {"loc0.0": self.first, "loc0.1": self.second, "up0.0": self.up}


Grow = Callable[[int, str, Tensor, int], Tensor]  # evolution, layer, alive, k -> alive afterwards


def masked_training(
    start: State, x: Tensor, y: Tensor, *, every: int, zeta: tuple[float, float], grow: Grow
) -> dict[str, Tensor]:
    """Train `Toy` under the released masking code and note what it does.

    Args:
        start: "init/weight/NAME" and "init/mask/NAME".
        x, y: (steps, B, C, D, H, W); the loss is the mean squared error.
        every: Steps between evolutions.
        zeta: First and last share of live connections that is pruned; a cosine between them.
        grow: Chooses what grows.
    """
    network, steps, noted = Toy(), len(x), {}
    layers = network.named()
    for name, layer in layers.items():
        for part, parameter in layer.named_parameters():
            parameter.data = start[f"init/weight/{name}.{part}"].clone()
    masks = {name: start[f"init/mask/{name}.weight"].clone() for name in layers}
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=0.99, nesterov=True, weight_decay=3e-5
    )

    def apply() -> None:
        for name, layer in layers.items():
            dead = ~masks[name][:, :, None, None, None]
            layer.weight.data.masked_fill_(dead, 0.0)
            if momentum := optimizer.state[layer.weight]:
                momentum["momentum_buffer"].masked_fill_(dead, 0.0)

    apply()
    zetas = []
    for step in range(steps):
        optimizer.zero_grad()
        F.mse_loss(network(x[step]), y[step]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
        apply()
        swing = (1 + math.cos(math.pi * (step + 1) / steps)) / 2
        zetas.append(zeta[1] + (zeta[0] - zeta[1]) * swing)
        if (step + 1) % every == 0:
            number = (step + 1) // every
            for name, layer in layers.items():
                key = f"evolution_{number}/{{}}/{name}.weight"
                noted[key.format("weight_before")] = before[name]
                norms = layer.weight.detach().abs().sum((2, 3, 4))
                count = math.ceil(zetas[-1] * int(masks[name].sum()))
                # All that do not pass the k-th norm: on ties more than k.
                threshold = torch.sort(norms[masks[name]]).values[count - 1]
                masks[name] &= norms > threshold
                noted[key.format("pruned_count")] = torch.tensor(count)
                noted[key.format("alive_after_pruning")] = masks[name].clone()
                masks[name] = grow(number, name, masks[name], count).clone()
                noted[key.format("alive_after_growth")] = masks[name].clone()
            apply()
            for name, layer in layers.items():
                key = f"evolution_{number}/{{}}/{name}.weight"
                momentum = optimizer.state[layer.weight]["momentum_buffer"]
                noted[key.format("weight_after")] = layer.weight.detach().clone()
                noted[key.format("momentum_after")] = momentum.clone()
    for name, layer in layers.items():
        for part, parameter in layer.named_parameters():
            noted[f"final/weight/{name}.{part}"] = parameter.detach().clone()
    noted["zeta"] = torch.tensor(zetas, dtype=torch.float64)
    return noted
