"""Tensors that kernels read and write by address."""

from __future__ import annotations

import threading

import numpy as np
import torch
from torch import Tensor

from e2enet.runtime.kernels.memory import aligned
from e2enet.runtime.kernels.vectors import SLACK


class _Pool:
    """Memory that no tensor uses, kept for the next one of its size.

    The system clears every page that it hands out, and a step of training asks for a hundred large
    maps: keeping them saves a fifth of its time. Lent and idle memory together are never more than
    what was lent at most: before more is taken, idle memory of other sizes goes back.
    """

    def __init__(self) -> None:
        self.lent = self.idle = self.most = 0  # floats
        self._idle: dict[int, list[np.ndarray]] = {}  # by size, that given back last at the end
        self.places: set[int] = set()  # addresses of lent memory
        self._lock = threading.RLock()  # a tensor may be collected while another is made

    def take(self, size: int) -> np.ndarray:
        """So many floats; what is in them is whatever was there before."""
        with self._lock:
            memory = self._pop(size) if size in self._idle else None
            self.lent += size
            self.most = max(self.most, self.lent)
            while memory is None and self._idle and self.lent + self.idle > self.most:
                self._pop(next(iter(self._idle)))  # of the size not given back for longest
        memory = aligned(size) if memory is None else memory
        self.places.add(memory.ctypes.data)
        return memory.view(_Lent)

    def give(self, memory: np.ndarray) -> None:
        """Take memory back."""
        with self._lock:
            self.places.discard(memory.ctypes.data)
            self.lent -= memory.size
            self.idle += memory.size
            self._idle[memory.size] = [*self._idle.pop(memory.size, []), memory]

    def clear(self) -> None:
        """Give idle memory back to the system."""
        with self._lock:
            self._idle.clear()
            self.idle, self.most = 0, self.lent

    def _pop(self, size: int) -> np.ndarray:
        memory = self._idle[size].pop()
        if not self._idle[size]:
            del self._idle[size]
        self.idle -= size
        return memory


_POOL = _Pool()


class _Lent(np.ndarray):
    """Memory on loan: it goes back when the last tensor over it is gone."""

    def __del__(self) -> None:
        if type(self.base) is np.ndarray:
            _POOL.give(self.base)


def planar(*shape: int) -> Tensor:
    """An uninitialised tensor that kernels may read past its end.

    It is no view: autograd adds gradients up in the place of one that nobody else holds, and for it
    the base of a view does.
    """
    return torch.from_numpy(_POOL.take(int(np.prod(shape)) + SLACK)).resize_(shape)


def readable(x: Tensor) -> Tensor:
    """The tensor itself if kernels may read it, else a copy."""
    rest = x.untyped_storage().nbytes() // 4 - x.storage_offset() - x.numel()
    if x.dtype == torch.float32 and x.is_contiguous() and rest >= SLACK:
        return x
    return planar(*x.shape).copy_(x)


def lent(x: Tensor) -> bool:
    """Whether `planar` made it: as a gradient it then serves nobody but who gets it."""
    return x.data_ptr() in _POOL.places


def addresses(sample: Tensor) -> np.ndarray:
    """Where each map of a sample (C, D, H, W), contiguous, begins."""
    step = 4 * sample[0].numel()
    return sample.data_ptr() + step * np.arange(len(sample), dtype=np.int64)


def forget_idle() -> None:
    """Give memory that no tensor uses back to the system."""
    _POOL.clear()
