"""E2ENet on a pre-trained backbone: a 2D classification network sees the slices, DSFF fuses.

Where E2ENet (arXiv 2312.04727) and cross-dimensional transfer (Messaoudi et al., Medical Image
Analysis 2023) meet. A k x k kernel of the encoder acts as a (1, k, k) kernel, so that its weights
are taken over as they are; the third dimension enters by the depth-shift of the fused nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from e2enet.networks.e2enet import Block, E2ENet, Layers
from e2enet.networks.encoders import STEPS, Encoder
from e2enet.networks.lattice import Node, NodeId
from e2enet.networks.normalisation import InstanceNormLeakyReLU
from e2enet.networks.segmentation import as_slices, as_volumes

_TAPS = -1  # the place of the encoder's maps among those of the stages


class EncoderE2ENet(E2ENet):
    """E2ENet of six levels whose levels 1 … 5 are the maps of a 2D encoder.

    Level 0, at full resolution, is a stem of its own. Each map of the encoder is brought to the
    width of its level by a 1 x 1 x 1 convolution with instance norm and leaky ReLU. Where a stride
    halves the depth, the encoder's maps are max-pooled along depth before they are used.

    Args:
        in_channels, num_classes, base_channels, max_channels, shift_groups: As `E2ENet`.
        strides: Five (sd, 2, 2).
        encoder: One of `e2enet.networks.encoders.ENCODERS`.
        deep_supervision: Return the logits of all heads, not only the finest.

    Example:
        >>> import torch
        >>> network = EncoderE2ENet(1, 2, [(1, 2, 2)] * 5, "resnet10", base_channels=4).eval()
        >>> [tuple(y.shape) for y in network(torch.zeros(1, 1, 2, 64, 64))][0]
        (1, 2, 2, 64, 64)
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        strides: Sequence[Sequence[int]],
        encoder: str = "efficientnet-b0",
        base_channels: int = 48,
        max_channels: int = 320,
        shift_groups: int = 3,
        deep_supervision: bool = True,
    ) -> None:
        steps = [tuple(int(n) for n in stride) for stride in strides]
        if len(steps) != STEPS or any(step[1:] != (2, 2) for step in steps):
            raise ValueError(f"An encoder has five strides of (sd, 2, 2), not {steps}.")
        super().__init__(
            in_channels, num_classes, strides, base_channels, max_channels, shift_groups,
            deep_supervision,
        )  # fmt: skip
        self.arguments = {**self.arguments, "encoder": encoder}
        stem = self.lattice.backbone[0].blocks
        self.backbone = nn.ModuleList()
        self.stem = nn.ModuleList(
            Block(layer.in_channels, layer.out_channels, shift_groups=shift_groups)
            for layer in stem
        )
        self.encoder = Encoder(encoder, in_channels=in_channels)
        self.laterals = nn.ModuleList()
        for seen, wide in zip(self.encoder.channels, self.channels[1:], strict=True):
            conv = nn.Conv3d(seen, wide, 1, bias=False)
            nn.init.kaiming_normal_(conv.weight, a=0.01)
            self.laterals.append(nn.Sequential(conv, InstanceNormLeakyReLU(wide)))

    def maps_of(self, node: Node, maps: dict[NodeId | None, Tensor], by: Layers) -> Tensor:
        """The maps (B, C, D, H, W) of a node; those of stage 0 come from the stem and encoder."""
        if node.stage:
            return super().maps_of(node, maps, by)
        if node.level == 0:
            x = maps.pop(None)
            for level, tap in enumerate(self._taps(x), start=1):
                maps[_TAPS, level] = tap
            for block in cast(list[Block], self.stem):
                x = by.block(block, [x])
            return x
        return self.laterals[node.level - 1](maps.pop((_TAPS, node.level)))  # type: ignore[no-any-return]

    def _taps(self, image: Tensor) -> list[Tensor]:
        batch, taps = len(image), []
        x = as_slices(image)
        for stage, (deep, _, _) in zip(self.encoder.stages(), self.strides, strict=True):
            x = stage(x)
            volume = as_volumes(x, batch)
            if deep > 1:
                volume = F.max_pool3d(volume, (deep, 1, 1))
                x = as_slices(volume)
            taps.append(volume)
        return taps
