"""The norm of a sample in training, and how it is undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from e2enet.networks.normalisation import InstanceNormLeakyReLU
from e2enet.runtime.kernels import normalisation as normalising

_LEAST_GAIN = 1e-3  # of a norm that can be undone, beside its offset


@dataclass(frozen=True)
class Norm:
    """The instance norm of a sample with the activation behind it.

    Attributes:
        gamma, beta, mean, inverse: (maps,) weight, bias, mean and 1 / standard deviation.
        slope: Of the leaky ReLU.
    """

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    inverse: np.ndarray
    slope: float

    @classmethod
    def of(
        cls,
        norm: InstanceNormLeakyReLU,
        gamma: Tensor,
        beta: Tensor,
        moments: np.ndarray,
    ) -> Norm:
        """From the mean and the mean square (maps, 2) of a sample."""
        mean, square = moments.T
        inverse = 1 / np.sqrt(np.maximum(square - mean * mean, 0) + norm.eps)
        return cls(gamma.detach().numpy(), beta.detach().numpy(), mean, inverse, norm.slope)

    @property
    def affine(self) -> np.ndarray:
        """(maps, 3) scale, shift and slope."""
        scale = self.gamma * self.inverse
        return _columns(scale, self.beta - self.mean * scale, self.slope)

    @property
    def _gains(self) -> np.ndarray:
        return _columns(self.gamma * self.inverse, self.slope)

    def from_activated(self) -> normalising.Undo | None:
        """What `norm_gradients` takes for maps behind the activation, if they tell enough."""
        if (np.abs(self.gamma) < _LEAST_GAIN * (1 + np.abs(self.beta))).any():
            return None
        normal = _columns(1 / self.slope, 1 / self.gamma, -self.beta / self.gamma)
        return normalising.Undo(_columns(np.ones(len(self.gamma)), 0), normal, self._gains)

    def from_convolved(self) -> normalising.Undo:
        """What `norm_gradients` takes for maps before the norm."""
        normal = _columns(1, self.inverse, -self.mean * self.inverse)
        return normalising.Undo(np.ascontiguousarray(self.affine[:, :2]), normal, self._gains)


def _columns(*values: Any) -> np.ndarray:
    """(maps, len(values)) float32 of columns or of numbers."""
    return np.stack(np.broadcast_arrays(*values), axis=1).astype(np.float32)
