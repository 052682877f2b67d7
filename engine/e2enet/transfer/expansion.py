"""Kernels of two dimensions made three-dimensional.

Messaoudi et al., Medical Image Analysis 2023, section 3.3; inflation is that of Carreira and
Zisserman, Quo Vadis, Action Recognition?, CVPR 2017, section 2.4.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Expansion = Literal["inflate", "centre"]
EXPANSIONS: tuple[Expansion, ...] = ("inflate", "centre")


def expand_kernel(kernel: Tensor, depth: int, how: Expansion = "inflate") -> Tensor:
    """A kernel (O, I, kh, kw) as (O, I, depth, kh, kw).

    Args:
        kernel: Of a 2D convolution.
        depth: Taps along depth.
        how: "inflate" repeats it along depth and divides by the depth, so that a volume of equal
            slices gives what each slice gave; "centre" puts it on the middle tap among zeros, so
            that every slice gives what it gave alone.

    Example:
        >>> import torch
        >>> expand_kernel(torch.ones(1, 1, 1, 1), 3, "centre").flatten().tolist()
        [0.0, 1.0, 0.0]
    """
    if how == "inflate":
        return kernel.unsqueeze(2).repeat(1, 1, depth, 1, 1) / depth
    if how != "centre":
        raise ValueError(f"There is no expansion {how!r}; known are {', '.join(EXPANSIONS)}.")
    wide = kernel.new_zeros(*kernel.shape[:2], depth, *kernel.shape[2:])
    wide[:, :, depth // 2] = kernel
    return wide


def first_kernel(kernel: Tensor, in_channels: int) -> Tensor | None:
    """The kernel (O, I, ...) that sees the image, for another number of channels.

    Summed over its inputs for one channel, repeated and divided where it saw one channel itself;
    None, so that it starts anew, for any other pair of numbers.
    """
    seen = kernel.shape[1]
    if seen == in_channels:
        return kernel
    if in_channels == 1:
        return kernel.sum(1, keepdim=True)
    if seen == 1:
        return kernel.repeat_interleave(in_channels, dim=1) / in_channels
    return None
