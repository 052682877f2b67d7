"""The weights of a network as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn


def arrays_of(network: nn.Module) -> dict[str, np.ndarray]:
    """Parameter name -> float32 array on the CPU, which may share its memory."""
    return {
        name: parameter.detach().float().cpu().numpy()
        for name, parameter in network.named_parameters()
    }
