"""The network itself as an execution plan: the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def network_plan(network: nn.Module, device: str, precision: str) -> Callable[[Tensor], Tensor]:
    """Move a network to a device and run it in eval mode without gradients.

    Args:
        network: Maps (B, C, D, H, W) to logits (B, K, D, H, W), or to a list with these first.
        device: Where to compute.
        precision: Of the arithmetic on a GPU.
    """
    moved: Any = network.to(device).eval()
    kind = torch.device(device).type
    half = kind != "cpu" and precision != "float32"

    def run(image: Tensor) -> Tensor:
        dtype = getattr(torch, precision)
        with torch.inference_mode(), torch.autocast(kind, dtype=dtype, enabled=half):
            logits = moved(image)
        finest = logits[0] if isinstance(logits, (list, tuple)) else logits
        return finest.float()  # type: ignore[no-any-return]

    return run
