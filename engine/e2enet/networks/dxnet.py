"""DX-Net, dimensionally expanded: a 2D encoder's kernels, made three-dimensional, in a 3D U-Net.

Messaoudi et al., Medical Image Analysis 2023, section 3.3. The expansion itself is in
`e2enet.transfer`; here is the network that takes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch  # noqa: F401 - the example
from torch import Tensor, nn

from e2enet.networks.decoder import STEM_WIDTH, WIDTHS, Decoder, conv_block
from e2enet.networks.encoders import STEPS, Encoder
from e2enet.networks.segmentation import Fusion, SegmentationNetwork


class DXNet(SegmentationNetwork):
    """DX-Net: encoder in three dimensions, decoder of transposed convolutions with SiLU.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        strides: Five (sd, 2, 2), one a step; sd of 1 keeps the depth where slices are thick.
        encoder: One of `e2enet.networks.encoders.ENCODERS`.
        stem_feeds_encoder: The stem's maps, not the image, enter the encoder, as released.
        deep_supervision: Return a list of one head.

    Example:
        >>> steps = [(1, 2, 2)] * 3 + [(2, 2, 2)] * 2
        >>> network = DXNet(1, 2, steps, "resnet10", deep_supervision=False).eval()
        >>> tuple(network(torch.zeros(1, 1, 4, 32, 32)).shape)
        (1, 2, 4, 32, 32)
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        strides: Sequence[Sequence[int]] = ((2, 2, 2),) * STEPS,
        encoder: str = "efficientnet-b0",
        stem_feeds_encoder: bool = False,
        deep_supervision: bool = True,
    ) -> None:
        steps = [tuple(int(n) for n in stride) for stride in strides]
        if len(steps) != STEPS or any(step not in ((1, 2, 2), (2, 2, 2)) for step in steps):
            raise ValueError(f"DXNet has five strides of (1, 2, 2) or (2, 2, 2), not {steps}.")
        depth = math.prod(step[0] for step in steps)
        super().__init__(in_channels, num_classes, (depth, 2**STEPS, 2**STEPS), deep_supervision)
        self.stem_feeds_encoder = stem_feeds_encoder
        self.arguments = {
            "in_channels": self.in_channels,
            "num_classes": self.num_classes,
            "strides": [list(step) for step in steps],
            "encoder": encoder,
            "stem_feeds_encoder": bool(stem_feeds_encoder),
        }
        self.stem = conv_block(self.in_channels, STEM_WIDTH, 3, nn.SiLU)
        self.encoder = Encoder(
            encoder,
            in_channels=STEM_WIDTH if stem_feeds_encoder else self.in_channels,
            dimensions=3,
            depth_strides=[step[0] for step in steps],
        )
        self.decoder = Decoder(
            self.encoder.channels, stem=STEM_WIDTH, strides=steps, transposed=True, act=nn.SiLU
        )
        self.heads = nn.ModuleList([nn.Conv3d(WIDTHS[-1], self.num_classes, 3, padding=1)])

    def fusions(self) -> list[Fusion]:
        """Of the encoder's maps, at level 0 of the stem's."""
        return self.decoder.fusions("decoder")

    def logits(self, image: Tensor) -> Tensor:
        """(B, in_channels, D, H, W) -> (B, num_classes, D, H, W)."""
        stem = self.stem(image)
        maps = self.encoder(stem if self.stem_feeds_encoder else image)
        return self.heads[0](self.decoder(maps, stem))  # type: ignore[no-any-return]
