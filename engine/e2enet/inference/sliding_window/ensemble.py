"""The mean probabilities of several networks, streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from e2enet.inference.sliding_window.arrays import to_array
from e2enet.inference.sliding_window.predictor import Predictor
from e2enet.runtime import ExecutionPlan


class MeanPredictor:
    """Runs several predictors side by side and averages what they say of a slice.

    Each holds one slab of logits, however long the image is, so the memory is that of one predictor
    times their number, less what their budgets send to disk.

    Args:
        members: at least one, with the same patch, classes and device.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        self.members = list(members)

    @property
    def plan(self) -> ExecutionPlan:
        """What runs the first one; after running out of memory others may run otherwise."""
        return self.members[0].plan

    def count(self, shape: Sequence[int]) -> int:
        """Number of windows of all over an image of shape (D, H, W)."""
        return sum(member.count(shape) for member in self.members)

    def stream(
        self, image: np.ndarray, *, on_windows: Callable[[int], None] | None = None
    ) -> Iterator[np.ndarray]:
        """Mean class probabilities, (n, K, H, W) for the next n slices; as `Predictor.stream`."""
        streams = [member.stream(image, on_windows=on_windows) for member in self.members]
        for blocks in zip(*streams, strict=True):
            # A block is its predictor's own memory, used again for the next one.
            total = np.array(to_array(blocks[0]))
            for block in blocks[1:]:
                total += to_array(block)
            yield total / len(blocks)
