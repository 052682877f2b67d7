"""Classification networks as encoders, in two and in three dimensions under the same names.

MONAI defines EfficientNet B0 … B8 and the ResNets in both, so that one class serves both sides of
a transfer. Maps are tapped where the resolution halves; the first tap lies right behind the first
convolution (32 maps for EfficientNet-B0), as in Messaoudi et al., Medical Image Analysis 2023,
section 3.1. The layers of classification behind the last map are left out.

Two things differ from classification: no block is dropped at random (stochastic depth would make
a resumed training another one), and running statistics follow with momentum 0.1, because a
segmentation trains for thousands of steps, not for a million.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from e2enet.events import BadInput

STEPS = 5  # halvings, hence taps
_MOMENTUM = 0.1
_RESNETS: dict[str, tuple[str, list[int]]] = {
    "resnet10": ("basic", [1, 1, 1, 1]),
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
    "resnet101": ("bottleneck", [3, 4, 23, 3]),
    "resnet152": ("bottleneck", [3, 8, 36, 3]),
}
# Blocks of EfficientNet's seven stages between the taps: two of the stages keep the resolution.
_EFFICIENTNET_STAGES = ((0, 2), (2, 3), (3, 5), (5, 7))
_CLASSIFICATION = (
    "_conv_head",
    "_conv_head_padding",
    "_bn1",
    "_avg_pooling",
    "_dropout",
    "_fc",
)

ENCODERS = (*(f"efficientnet-b{number}" for number in range(9)), *_RESNETS)


def check_encoder(name: str) -> None:
    """Raise BadInput, with the nearest names, unless there is an encoder of this name."""
    if name in ENCODERS:
        return
    near = difflib.get_close_matches(name.lower(), ENCODERS, n=3, cutoff=0.5)
    raise BadInput(
        f"There is no encoder {name!r}.",
        help=f"Did you mean {', '.join(near)}?" if near else f"Known are {', '.join(ENCODERS)}.",
        code="unknown-encoder",
    )


class Encoder(nn.Module):
    """Five maps of an image, each at half the resolution of the one before.

    Args:
        name: One of `ENCODERS`.
        in_channels: Channels of the input.
        dimensions: 2 or 3.
        depth_strides: Of the five halvings in three dimensions, 1 or 2 each; 1 keeps the depth.

    Attributes:
        channels: Maps of each tap; (32, 24, 40, 112, 320) for EfficientNet-B0.

    Raises:
        BadInput: There is no such encoder, or MONAI is not installed.
    """

    def __init__(
        self,
        name: str,
        *,
        in_channels: int,
        dimensions: int = 2,
        depth_strides: Sequence[int] = (2,) * STEPS,
    ) -> None:
        super().__init__()
        check_encoder(name)
        if dimensions not in (2, 3):
            raise ValueError(f"An encoder has 2 or 3 dimensions, not {dimensions}.")
        if len(depth_strides) != STEPS or any(step not in (1, 2) for step in depth_strides):
            raise ValueError(f"depth_strides are five ones or twos, not {list(depth_strides)}.")
        self.name = name
        self.in_channels = in_channels
        self.dimensions = dimensions
        steps = [(step, 2, 2)[3 - dimensions :] for step in depth_strides]
        build = _resnet if name in _RESNETS else _efficientnet
        self.body = build(name, in_channels, dimensions, steps)
        for module in self.body.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = _MOMENTUM
        self.channels = tuple(_channels_of(self.body))

    @property
    def first_kernel(self) -> str:
        """Name of the first convolution's weight, the one that sees the channels of the image."""
        return "body.conv1.weight" if self.name in _RESNETS else "body._conv_stem.weight"

    def stages(self) -> list[Callable[[Tensor], Tensor]]:
        """The five parts between the taps, to be run one after the other."""
        return _stages(self.body)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, *size) -> five maps (B, channels[i], *size / 2^(i+1)), finest first."""
        maps = []
        for stage in self.stages():
            x = stage(x)
            maps.append(x)
        return maps


def _nets() -> Any:
    try:
        from monai.networks import nets
    except ImportError as error:
        raise BadInput(
            "This network takes its encoder from MONAI, which is not installed.",
            help="pip install 'e2enet[train]'",
            code="needs-monai",
        ) from error
    return nets


def _resnet(name: str, in_channels: int, dimensions: int, steps: Sequence[Any]) -> Any:
    block, layers = _RESNETS[name]
    # Not ResNetFeatures: its ResNet-18 and -34 have shortcuts without weights, and no gradient
    # flows through them; with these arguments names and shapes are torchvision's.
    body = _nets().ResNet(
        block, layers, [64, 128, 256, 512], spatial_dims=dimensions, n_input_channels=in_channels,
        conv1_t_stride=2, shortcut_type="B", bias_downsample=False, feed_forward=False,
    )  # fmt: skip
    del body.avgpool
    body.conv1.stride, body.maxpool.stride = steps[0], steps[1]
    for layer, step in zip((body.layer2, body.layer3, body.layer4), steps[2:], strict=True):
        strided = layer[0].conv1 if block == "basic" else layer[0].conv2
        strided.stride = layer[0].downsample[0].stride = step
    return body


def _efficientnet(name: str, in_channels: int, dimensions: int, steps: Sequence[Any]) -> Any:
    body = _nets().EfficientNetBNFeatures(
        name, pretrained=False, spatial_dims=dimensions, in_channels=in_channels
    )
    for unused in _CLASSIFICATION:
        delattr(body, unused)
    remaining = iter(steps)
    _same_padding(body, "_conv_stem", next(remaining))
    for stack in body._blocks:
        for block in stack:
            block.drop_connect_rate = 0.0
            strided = max(block._depthwise_conv.stride) > 1
            keep = (1,) * dimensions
            _same_padding(block, "_depthwise_conv", next(remaining) if strided else keep)
    return body


def _same_padding(parent: nn.Module, name: str, stride: tuple[int, ...]) -> None:
    """Set the stride, and the padding that divides an even size by it.

    MONAI's own padding belongs to the image size of the classification network; for the sizes
    that occur here, which divide, this is what TensorFlow pads.
    """
    conv: Any = getattr(parent, name)
    conv.stride = stride
    pads: list[int] = []
    for kernel, step in zip(reversed(conv.kernel_size), reversed(stride), strict=True):
        total = kernel - step
        pads += [total // 2, total - total // 2]
    padding = {2: nn.ConstantPad2d, 3: nn.ConstantPad3d}[len(stride)]
    setattr(parent, f"{name}_padding", padding(tuple(pads), 0.0))  # type: ignore[arg-type]


def _stages(body: Any) -> list[Callable[[Tensor], Tensor]]:
    if hasattr(body, "conv1"):
        return [
            lambda x: body.act(body.bn1(body.conv1(x))),
            lambda x: body.layer1(body.maxpool(x)),
            body.layer2,
            body.layer3,
            body.layer4,
        ]
    stacks = list(body._blocks)

    def run(first: int, last: int) -> Callable[[Tensor], Tensor]:
        def stage(x: Tensor) -> Tensor:
            for stack in stacks[first:last]:
                x = stack(x)
            return x

        return stage

    def stem(x: Tensor) -> Tensor:
        return body._swish(body._bn0(body._conv_stem(body._conv_stem_padding(x))))  # type: ignore[no-any-return]

    return [stem, *(run(*limits) for limits in _EFFICIENTNET_STAGES)]


def _channels_of(body: Any) -> list[int]:
    if hasattr(body, "conv1"):
        last = [layer[-1] for layer in (body.layer1, body.layer2, body.layer3, body.layer4)]
        norms = [body.bn1, *(getattr(block, "bn3", block.bn2) for block in last)]
        return [norm.num_features for norm in norms]
    ends = [body._blocks[last - 1][-1]._bn2 for _, last in _EFFICIENTNET_STAGES]
    return [body._bn0.num_features, *(norm.num_features for norm in ends)]
