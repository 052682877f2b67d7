"""Omnia-Net: any 2D classification network as the encoder of a U-Net.

Messaoudi et al., Cross-dimensional transfer learning in medical image segmentation with deep
learning, Medical Image Analysis 2023, section 3.1. A volume is a batch of slices here, and a single
image is a volume of one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2enet.networks.decoder import STEM_WIDTH, WIDTHS, Decoder, conv_block
from e2enet.networks.encoders import STEPS, Encoder
from e2enet.networks.segmentation import Fusion, SegmentationNetwork, as_slices, as_volumes

IN_PLANE = 2**STEPS


class SliceUNet(nn.Module):
    """Omnia-Net up to its head: encoder, decoder and, unless left out, the stem of the last skip.

    Args:
        in_channels: Channels of an image.
        encoder: Name of the encoder.
        stem: Whether there is a stem, and with it a skip at full resolution.
        stem_feeds_encoder: The stem's maps, not the image, enter the encoder, as released; its
            first kernel then has no pre-trained counterpart.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        encoder: str,
        stem: bool = True,
        stem_feeds_encoder: bool = False,
    ) -> None:
        super().__init__()
        self.stem_feeds_encoder = stem_feeds_encoder
        self.stem = conv_block(in_channels, STEM_WIDTH, 2, nn.ReLU) if stem else None
        self.encoder = Encoder(
            encoder, in_channels=STEM_WIDTH if stem_feeds_encoder else in_channels
        )
        self.decoder = Decoder(
            self.encoder.channels,
            stem=STEM_WIDTH if stem else 0,
            strides=[(2, 2)] * STEPS,
            transposed=False,
            act=nn.ReLU,
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 16, H, W); H and W multiples of 32."""
        stem = self.stem(images) if self.stem is not None else None
        maps = self.encoder(stem if self.stem_feeds_encoder else images)
        return self.decoder(maps, stem)  # type: ignore[no-any-return]


class OmniaNet(SegmentationNetwork):
    """Omnia-Net, slice by slice.

    Args:
        in_channels: Channels of the image.
        num_classes: Classes, background included.
        encoder: One of `e2enet.networks.encoders.ENCODERS`.
        input_slices: 1, or an odd number: each slice is seen with its neighbours as channels,
            the border repeated. Windows should then be deeper than one slice.
        stem_feeds_encoder: As released, see `SliceUNet`.
        deep_supervision: Return a list of one head.

    Example:
        >>> network = OmniaNet(1, 3, encoder="resnet10", deep_supervision=False).eval()
        >>> tuple(network(torch.zeros(1, 1, 2, 32, 64)).shape)
        (1, 3, 2, 32, 64)
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        encoder: str = "efficientnet-b0",
        input_slices: int = 1,
        stem_feeds_encoder: bool = False,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__(in_channels, num_classes, (1, IN_PLANE, IN_PLANE), deep_supervision)
        if input_slices < 1 or input_slices % 2 == 0:
            raise ValueError(f"input_slices is {input_slices}; it must be an odd number.")
        self.input_slices = int(input_slices)
        self.arguments = {
            "in_channels": self.in_channels,
            "num_classes": self.num_classes,
            "encoder": encoder,
            "input_slices": self.input_slices,
            "stem_feeds_encoder": bool(stem_feeds_encoder),
        }
        self.unet = SliceUNet(
            self.in_channels * self.input_slices,
            encoder=encoder,
            stem_feeds_encoder=stem_feeds_encoder,
        )
        self.heads = nn.ModuleList([nn.Conv2d(WIDTHS[-1], self.num_classes, 3, padding=1)])

    @property
    def encoder(self) -> Encoder:
        """The part that weights of a classification network belong to."""
        return self.unet.encoder

    def fusions(self) -> list[Fusion]:
        """Of the encoder's maps, at level 0 of the stem's, slice by slice."""
        return self.unet.decoder.fusions("unet.decoder")

    def logits(self, image: Tensor) -> Tensor:
        """(B, in_channels, D, H, W) -> (B, num_classes, D, H, W)."""
        slices = as_slices(self._with_neighbours(image))
        return as_volumes(self.heads[0](self.unet(slices)), len(image))

    def _with_neighbours(self, image: Tensor) -> Tensor:
        """(B, C, D, H, W) -> (B, input_slices * C, D, H, W), the slices before come first."""
        if self.input_slices == 1:
            return image
        reach, depth = self.input_slices // 2, image.shape[2]
        wide = F.pad(image, (0, 0, 0, 0, reach, reach), mode="replicate")
        return torch.cat([wide[:, :, k : k + depth] for k in range(self.input_slices)], dim=1)
