"""E2ENet's forward as the released code computes it: dense convolutions over masked weights.

Every block pads, splits and rolls its maps along depth, joins and crops them, and runs a planar
Conv3d, InstanceNorm3d and LeakyReLU; flows are concatenated before, and all nodes are kept until
the end. Dead kernels are zeros that are multiplied like any other number.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from e2enet.networks import E2ENet
from e2enet.networks.e2enet import Block
from e2enet.networks.lattice import Flow
from torch import Tensor, nn


class MaskedDense(nn.Module):
    """Takes over the weights of an E2ENet, which are zero where a connection is dead.

    Maps (B, C, D, H, W) to the finest logits (B, K, D, H, W).
    """

    def __init__(self, network: E2ENet) -> None:
        super().__init__()
        strides = ((1, 1, 1), *network.strides)
        self.backbone = nn.ModuleList(
            nn.Sequential(_Block(first, stride), _Block(second, (1, 1, 1)))
            for stride, (first, second) in zip(strides, network.backbone, strict=True)
        )
        self.ups, self.nodes = nn.ModuleDict(), nn.ModuleDict()
        self.heads = network.heads
        self.graph = network.lattice
        for node in self.graph.fused:
            key = node.key
            up = network.ups[key]
            kernel = up.weight.shape[2:]
            self.ups[key] = nn.ConvTranspose3d(*up.weight.shape[:2], kernel, kernel, bias=False)
            _copy(up.weight, self.ups[key].weight)
            self.nodes[key] = nn.Sequential(
                *(_Block(block, (1, 1, 1)) for block in network.blocks(*node.id))
            )

    def forward(self, x: Tensor) -> Tensor:
        maps: dict[tuple[int, int], Tensor] = {}
        for level, blocks in enumerate(self.backbone):
            x = blocks(x)
            maps[0, level] = x
        for node in self.graph.fused:
            flows = [self._flow(flow, maps) for flow in node.flows]
            maps[node.id] = self.nodes[node.key](torch.cat(flows, 1))
            if node.head and node.level == 0:
                logits = self.heads[0](maps[node.id])
        return logits

    def _flow(self, flow: Flow, maps: dict[tuple[int, int], Tensor]) -> Tensor:
        x = maps[flow.source]
        if flow.up:
            return self.ups[flow.up.name.removeprefix("ups.")](x)
        return F.max_pool3d(x, flow.stride, flow.stride) if flow.kind == "downward" else x


class _Block(nn.Module):
    def __init__(self, block: Block, stride: tuple[int, int, int]) -> None:
        super().__init__()
        outputs, inputs = block.conv.weight.shape[:2]
        self.groups = block.shift_groups
        self.conv = nn.Conv3d(inputs, outputs, (1, 3, 3), stride, (0, 1, 1))
        self.norm = nn.InstanceNorm3d(outputs, eps=block.norm.eps, affine=True)
        self.nonlin = nn.LeakyReLU(block.norm.slope, inplace=True)
        for ours, theirs in ((block.conv, self.conv), (block.norm, self.norm)):
            _copy(ours.weight, theirs.weight)
            _copy(ours.bias, theirs.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlin(self.norm(self.conv(self._shift(x))))

    def _shift(self, x: Tensor) -> Tensor:
        reach = self.groups // 2
        padded = F.pad(x, (0, 0, 0, 0, reach, reach))
        chunks = torch.chunk(padded, self.groups, dim=1)
        moved = [torch.roll(chunk, index - reach, 2) for index, chunk in enumerate(chunks)]
        return torch.cat(moved, 1).narrow(2, reach, x.shape[2])


def _copy(source: Tensor, target: Tensor) -> None:
    target.data.copy_(source.detach())
