"""Training on a CPU over live connections only.

`SparseTraining` runs a network by the kernels of the runtime, forward and backward. Dead
connections are then not computed, and maps are never concatenated, shifted or copied into another
layout. Their gradients are not computed either: that of a dead kernel is zero here, where the
masked network has one that nobody uses but the clipping of the gradient's norm.

For the backward pass one map a block is kept: the norm and the activation are undone, upward maps
are made anew, and the places of maxima are found again. So are the first block's maps, which an
image alone makes quickly. A gradient is written over what is read for the last time: the map that a
block kept, the gradient that came to it, what was made anew. A graph serves one backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from e2enet.dsff import Connections
from e2enet.networks import E2ENet
from e2enet.networks.e2enet import Block, UpConv
from e2enet.networks.lattice import Triple
from e2enet.runtime.kernels.workers import Workers
from e2enet.runtime.training.blocks import SparseBlock
from e2enet.runtime.training.pooling import max_pool
from e2enet.runtime.training.tensors import forget_idle
from e2enet.runtime.training.transposed import SparseUp


class SparseTraining:
    """Runs a network with sparse kernels, on the CPU and in float32; the network stays as it is.

    Blocks with a stride, a small part of the work, are run by PyTorch. The masks may change between
    steps.

    Args:
        network: On the CPU; its parameters are used and get the gradients.
        connections: Its masks; dead weights must be zero (`Connections.apply`).
    """

    def __init__(self, network: E2ENet, connections: Connections) -> None:
        forget_idle()  # another network has maps of other sizes
        self.network = network
        self._workers = workers = Workers(torch.get_num_threads())
        self._blocks: dict[Block, SparseBlock] = {}
        self._ups: dict[UpConv, SparseUp] = {}
        for name, module in network.named_modules():
            if isinstance(module, UpConv):
                self._ups[module] = SparseUp(module, name, connections, workers)
            elif isinstance(module, Block) and max(module.depth_stride, *module.conv.stride) == 1:
                self._blocks[module] = SparseBlock(module, f"{name}.conv", connections, workers)

    def __call__(self, image: Tensor) -> list[Tensor] | Tensor:
        """What the network answers to an image (B, C, D, H, W)."""
        return self.network(image, self)  # type: ignore[no-any-return]

    def block(self, block: Block, maps: list[Tensor]) -> Tensor:
        """What a block makes of maps (B, C_j, D, H, W); the list is emptied."""
        return self._blocks.get(block, block)(maps)  # type: ignore[operator]

    def up(self, up: UpConv, x: Tensor) -> Tensor:
        """What a transposed convolution makes of x (B, C, D, H, W)."""
        return self._ups[up](x)

    def pool(self, x: Tensor, stride: Triple) -> Tensor:
        """The largest of each box of x (B, C, D, H, W)."""
        return max_pool(x, stride, self._workers)
