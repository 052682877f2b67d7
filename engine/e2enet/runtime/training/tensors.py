"""Tensors that kernels read and write by address."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from e2enet.runtime.kernels.memory import aligned
from e2enet.runtime.kernels.vectors import SLACK


class _Lent(np.ndarray):
    """Memory on loan: it goes back when the last tensor over it is gone."""

    def __del__(self) -> None:
        if type(self.base) is np.ndarray:
            _IDLE.setdefault(self.base.size, []).append(self.base)


# Of the size of the key. The system clears every page that it hands out, and a step of training
# asks for a hundred large maps: keeping them saves a fifth of its time.
_IDLE: dict[int, list[np.ndarray]] = {}


def planar(*shape: int) -> Tensor:
    """An uninitialised tensor that kernels may read past its end."""
    size = int(np.prod(shape))
    idle = _IDLE.get(size + SLACK)
    memory = idle.pop() if idle else aligned(size + SLACK)
    return torch.from_numpy(memory.view(_Lent))[:size].view(shape)


def readable(x: Tensor) -> Tensor:
    """The tensor itself if kernels may read it, else a copy."""
    rest = x.untyped_storage().nbytes() // 4 - x.storage_offset() - x.numel()
    if x.dtype == torch.float32 and x.is_contiguous() and rest >= SLACK:
        return x
    return planar(*x.shape).copy_(x)


def addresses(sample: Tensor) -> np.ndarray:
    """Where each map of a sample (C, D, H, W), contiguous, begins."""
    step = 4 * sample[0].numel()
    return sample.data_ptr() + step * np.arange(len(sample), dtype=np.int64)


def forget_idle() -> None:
    """Give memory that no tensor uses back to the system."""
    _IDLE.clear()
