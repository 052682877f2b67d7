"""DS-Net, dimensionally stacked: a 3D encoder, Omnia-Net on what it makes, and a 3D decoder.

Messaoudi et al., Medical Image Analysis 2023, section 3.2. The 3D encoder squeezes the depth to 3
and the channels to 4; (B, 4, 3, H, W) is read as 4·B images of three channels, so that depth takes
the place of red, green and blue and the pre-trained first kernel fits. The released strides along
depth (3, 2, 2, 4) belong to one depth; here they follow from the patch, what remains is averaged,
and the decoder repeats slices up to its skip, so that any depth is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2enet.networks.decoder import WIDTHS as PLANE_WIDTHS
from e2enet.networks.decoder import fusions
from e2enet.networks.encoders import Encoder
from e2enet.networks.omnia import IN_PLANE, SliceUNet
from e2enet.networks.segmentation import Fusion, SegmentationNetwork

WIDTHS = (16, 32, 48, 96)
STACK, COLOURS = 4, 3


def depth_steps(depth: int) -> tuple[int, ...]:
    """Strides along depth of the four steps of the encoder that bring `depth` slices near 3."""
    steps = []
    for remaining in range(len(WIDTHS), 0, -1):
        step = max(1, round((depth / COLOURS) ** (1 / remaining)))
        steps.append(step)
        depth = -(-depth // step)
    return tuple(steps)


def _block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, 3, (stride, 1, 1), padding=1, bias=False),
        nn.InstanceNorm3d(out_channels),
        nn.SiLU(),
    )


class DSNet(SegmentationNetwork):
    """DS-Net for volumes of any depth.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        depth: Slices of the patch it is trained on; sets the strides along depth.
        encoder: One of `e2enet.networks.encoders.ENCODERS`.
        widths: Maps of the 3D encoder's four levels and of the decoder.
        deep_supervision: Return a list of one head.

    Example:
        >>> network = DSNet(1, 2, 10, "resnet10", (4, 4, 8, 8), deep_supervision=False).eval()
        >>> tuple(network(torch.zeros(1, 1, 7, 32, 32)).shape)
        (1, 2, 7, 32, 32)
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        depth: int,
        encoder: str = "efficientnet-b0",
        widths: Sequence[int] = WIDTHS,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__(in_channels, num_classes, (1, IN_PLANE, IN_PLANE), deep_supervision)
        if depth < 1 or len(widths) != len(WIDTHS) or min(widths) < 1:
            raise ValueError(
                f"A depth from 1 up and four widths are needed, not {depth}, {widths}."
            )
        self.arguments = {
            "in_channels": self.in_channels,
            "num_classes": self.num_classes,
            "depth": int(depth),
            "encoder": encoder,
            "widths": [int(width) for width in widths],
        }
        first, *others = widths
        steps = depth_steps(depth)
        self.down = nn.ModuleList([_block(self.in_channels, first)])
        self.down.append(_block(first, others[0], steps[0]))
        for before, after, step in zip(others, others[1:], steps[1:], strict=False):
            self.down.append(nn.Sequential(_block(before, after), _block(after, after, step)))
        self.squeeze = nn.Sequential(_block(others[-1], STACK), _block(STACK, STACK, steps[-1]))
        self.unet = SliceUNet(COLOURS, encoder=encoder, stem=False)
        self.back = nn.Conv2d(PLANE_WIDTHS[-1], COLOURS, 3, padding=1)
        self.up = nn.ModuleList()
        width = STACK
        for skip in reversed(widths):
            self.up.append(_block(width + skip, skip))
            width = skip
        self.heads = nn.ModuleList([nn.Conv3d(first, self.num_classes, 3, padding=1)])

    @property
    def encoder(self) -> Encoder:
        """The part that weights of a classification network belong to."""
        return self.unet.encoder

    def fusions(self) -> list[Fusion]:
        """Of the 3D encoder's maps with what the 2D network made.

        Those inside the 2D network have no place along depth, which it sees as colours.
        """
        first = [(f"up.{k}.0", part[0]) for k, part in enumerate(self.up)]  # type: ignore[index]
        widths = self.arguments["widths"]
        return fusions(first, (STACK, *widths[:0:-1]))

    def squeezed(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, in_channels, D, H, W) -> (B, 4, 3, H, W), and the maps for the skips."""
        skips = []
        x = image
        for part in self.down:
            x = part(x)
            skips.append(x)
        x = self.squeeze(x)
        return F.adaptive_avg_pool3d(x, (COLOURS, *x.shape[3:])), skips

    def logits(self, image: Tensor) -> Tensor:
        """(B, in_channels, D, H, W) -> (B, num_classes, D, H, W)."""
        x, skips = self.squeezed(image)
        x = self.back(self.unet(x.flatten(0, 1))).unflatten(0, (len(image), STACK))
        for part, skip in zip(self.up, reversed(skips), strict=True):
            x = F.interpolate(x, size=skip.shape[2:], mode="nearest")
            x = part(torch.cat([x, skip], dim=1))
        return self.heads[0](x)  # type: ignore[no-any-return]
