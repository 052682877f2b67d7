"""Parameters and multiply-adds of any network, from the shapes its layers meet.

Counted as `e2enet.dsff.complexity` does: one multiply-add for every kernel tap at every output
voxel, and for a transposed convolution at every input voxel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from e2enet.dsff.complexity import Complexity, LayerCost
from e2enet.networks.e2enet import SliceConv, UpConv

_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d, UpConv)
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, SliceConv, *_TRANSPOSED)


def traced_complexity(
    network: nn.Module, patch: Sequence[int], live: Mapping[str, int] | None = None
) -> Complexity:
    """Count a network by running it on tensors that have shapes but no values.

    Args:
        network: Its parts are the children by name; a convolution carries the parameters that
            follow it up to the next (its norm).
        patch: Input (D, H, W).
        live: Live connections of each sparse layer; all of them by default.

    Raises:
        ValueError: The patch does not divide; names the next one that does.
    """
    ghost: Any = _on_meta(network)
    sparse = network.sparse_layers()  # type: ignore[operator]
    met: dict[str, tuple[Tensor, Tensor, int]] = {}

    def meet(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            before = met.get(name)
            met[name] = (inputs[0], output, (before[2] if before else 0) + 1)

        module.register_forward_hook(hook)

    for name, module in ghost.named_modules():
        if isinstance(module, _CONVOLUTIONS):
            meet(name, module)
    with torch.no_grad():
        ghost(torch.empty(1, ghost.in_channels, *patch, device="meta"))

    beside = _beside(ghost)
    layers = []
    for name, (given, made, times) in met.items():
        module = ghost.get_submodule(name)
        weight = module.weight
        at = given if isinstance(module, _TRANSPOSED) else made
        voxels = times * at.shape[0] * math.prod(at.shape[2:])
        weights = weight.numel()
        kept = weights
        if name in sparse and live is not None:
            kept = live[name] * math.prod(weight.shape[2:])
        layer = sparse.get(name)
        depth, height, width = (1, *made.shape[2:])[-3:]
        layers.append(
            LayerCost(
                name=name,
                kind=layer.kind if layer else _part(name),
                stage=layer.stage if layer else 0,
                level=layer.level if layer else 0,
                size=(depth, height, width),
                parameters=weights + beside[name],
                live_parameters=kept + beside[name],
                multiply_adds=weights * voxels,
                live_multiply_adds=kept * voxels,
            )
        )
    counts = {name: math.prod(layer.shape[:2]) for name, layer in sparse.items()}
    alive = counts if live is None else {name: live[name] for name in counts}
    deep, high, wide = (int(n) for n in patch)
    return Complexity((deep, high, wide), tuple(layers), sum(counts.values()), sum(alive.values()))


def _part(name: str) -> str:
    """The part of a network that a layer belongs to; those of an embedded 2D network say so."""
    if name.startswith("unet."):
        return f"2D {name.split('.')[1]}"
    first = name.split(".")[0]
    return {
        "heads": "head",
        "down": "3D encoder",
        "squeeze": "3D encoder",
        "up": "3D decoder",
        "back": "2D decoder",
    }.get(first, first)


def _on_meta(network: nn.Module) -> nn.Module:
    """A copy of shapes alone, in eval mode."""
    from e2enet.networks import build_network

    made: Any = network
    with torch.device("meta"):
        return build_network(type(network).__name__, made.arguments).eval()


def _beside(network: nn.Module) -> dict[str, int]:
    """Parameters of each convolution but its kernels, and of what follows up to the next one."""
    counts: dict[str, int] = {}
    current = ""
    for name, module in network.named_modules():
        if isinstance(module, _CONVOLUTIONS):
            current = name
            counts[current] = -module.weight.numel()
        own = sum(p.numel() for p in module.parameters(recurse=False))
        if own:
            counts[current] += own
    return counts
