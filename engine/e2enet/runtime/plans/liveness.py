"""Which maps of a network somebody reads, found from the finest head back."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from e2enet.networks import E2ENet


def needed_maps(network: E2ENet) -> dict[str, np.ndarray]:
    """The output maps of each block and upward layer that the finest logits depend on.

    Args:
        network: Kernels that are all zeros are dead connections.

    Returns:
        "backbone.LEVEL.BLOCK", "nodes.STAGE_LEVEL.BLOCK" and "ups.STAGE_LEVEL" -> (output maps,)
        bool.
    """
    maps = {
        (stage, level): np.zeros(network.channels[level], bool)
        for stage in range(network.levels)
        for level in range(network.levels - stage)
    }
    needed: dict[str, np.ndarray] = {}

    def read_by(name: str, blocks: Any, reads: np.ndarray) -> np.ndarray:
        """What blocks that follow each other read if `reads` is read of the last one."""
        for index in reversed(range(len(blocks))):
            needed[f"{name}.{index}"] = reads
            reads = connected(blocks[index].conv)[reads].any(axis=0)
        return reads

    maps[network.levels - 1, 0][:] = connected(network.heads[0]).any(axis=0)
    for stage, level in reversed(network.lattice()):
        key = f"{stage}_{level}"
        reads = read_by(f"nodes.{key}", network.node(stage, level), maps[stage, level])
        widths = network.flow_widths(level).values()
        forward, upward, *downward = np.split(reads, np.cumsum([*widths])[:-1])
        needed[f"ups.{key}"] = upward
        maps[stage - 1, level] |= forward
        maps[stage - 1, level + 1] |= connected(network.ups[key])[:, upward].any(axis=1)
        if downward:
            maps[stage - 1, level - 1] |= downward[0]
    for level in reversed(range(network.levels)):
        blocks = cast(Any, network.backbone[level])
        reads = read_by(f"backbone.{level}", blocks, maps[0, level])
        if level:
            maps[0, level - 1] |= reads
    return needed


def connected(module: Any) -> np.ndarray:
    """Which kernels of a layer are not all zeros, over the first two axes of its weight."""
    weight = module.weight.detach()
    return cast(np.ndarray, weight.flatten(2).ne(0).any(2).cpu().numpy())
