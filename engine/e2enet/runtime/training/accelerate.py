"""Training on a CPU over live connections only.

`accelerate` makes the blocks of a network compute with the kernels of the runtime, forward and
backward. Dead connections then take no time, and maps are never concatenated, shifted or copied
into another layout. Their gradients are not computed either: that of a dead kernel is zero here,
where the masked network has one that nobody uses but the clipping of the gradient's norm.
"""

from __future__ import annotations

import torch

from e2enet.dsff import Connections
from e2enet.networks import E2ENet
from e2enet.networks.e2enet import Block, UpConv
from e2enet.runtime.kernels.workers import Workers
from e2enet.runtime.training.blocks import SparseBlock
from e2enet.runtime.training.tensors import forget_idle
from e2enet.runtime.training.transposed import SparseUp


def accelerate(network: E2ENet, connections: Connections) -> None:
    """Let the network compute with sparse kernels from now on, on the CPU and in float32.

    Blocks with a stride, a small part of the work, stay as they are. The masks may change between
    steps.

    Args:
        network: On the CPU.
        connections: Its masks; dead weights must be zero (`Connections.apply`).
    """
    forget_idle()  # another network has maps of other sizes
    workers = Workers(torch.get_num_threads())
    for name, module in network.named_modules():
        if isinstance(module, UpConv):
            up = SparseUp(module, name, connections, workers)
            module.forward = up  # type: ignore[method-assign, assignment]
        if not isinstance(module, Block) or module.depth_stride > 1 or max(module.conv.stride) > 1:
            continue
        block = SparseBlock(module, f"{name}.conv", connections, workers)
        module.forward = block  # type: ignore[method-assign, assignment]
