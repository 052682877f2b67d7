"""Fine-tuning: what a trained network hands over to a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from e2enet.dsff import Connections


@dataclass(frozen=True)
class Transfer:
    """What was taken over.

    Args:
        connections: masks of the new network: the old ones, where the layer fits.
        kept: tensors taken over, by name.
        reinitialised: tensors that stay at their fresh values, by name.
    """

    connections: Connections
    kept: tuple[str, ...]
    reinitialised: tuple[str, ...]


@torch.no_grad()
def transfer(
    source: nn.Module,
    source_connections: Connections,
    target: nn.Module,
    *,
    classes: Mapping[int, int],
    seed: int,
) -> Transfer:
    """Copy every tensor whose name and shape fit, and the masks of the layers that fit.

    Heads (classes, C, 1, 1, 1) are taken over class by class; a new class keeps its fresh weights.
    Without any the heads stay fresh altogether. A sparse layer that
    does not fit keeps its fresh weights and draws as many live connections as the density of the
    source asks for, so that S stays.

    Args:
        source, source_connections: the trained network.
        target: a fresh one; changed in place.
        classes: {output of the target: output of the source that is the same structure}.
        seed: of the draw for layers that do not fit.
    """
    old, new = source.state_dict(), target.state_dict()
    taken_over = {}
    for name, fresh_tensor in new.items():
        if name.startswith("heads."):
            if classes and name in old and old[name].shape[1:] == fresh_tensor.shape[1:]:
                taken_over[name] = fresh_tensor.clone()
                for own, other in classes.items():
                    taken_over[name][own] = old[name][other]
        elif name in old and old[name].shape == fresh_tensor.shape:
            taken_over[name] = old[name]
    kept = list(taken_over)
    target.load_state_dict({**new, **taken_over})
    connections = Connections.random(
        target,  # type: ignore[arg-type]
        max(0.0, 1 - source_connections.density),
        seed=seed,
    )
    taken = set(kept)
    masks = source_connections.state_dict()
    for name in connections.masks:
        if f"{name}.weight" in taken:
            connections.masks[name] = masks[name].clone()
    connections.apply()
    fresh = tuple(name for name in new if name not in taken)
    return Transfer(connections, tuple(kept), fresh)
