"""The sliding window, streamed: class probabilities slice by slice, in bounded memory.

Windows run in the order of depth. A slice that no later window touches is finished: it is divided
by its weights, handed on and forgotten. So only one slab, as deep as a window, of the summed logits
exists at any time, and the result does not depend on where slabs end.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from e2enet.bundle.weights import StoredNetwork
from e2enet.events import BadInput, Reporter
from e2enet.inference.device import device_name, is_out_of_memory, release_memory
from e2enet.inference.sliding_window.arrays import (
    beside,
    flipped,
    softmax,
    to_array,
)
from e2enet.inference.sliding_window.spill import DEFAULT_BUDGET, zeros
from e2enet.inference.sliding_window.windows import AxisWindows, cut_window
from e2enet.runtime import ExecutionPlan, Precision, Runtime, execution_plan

if TYPE_CHECKING:
    import torch
    from torch import nn

_GPU_VOXELS = 2_000_000  # of the windows of one forward pass
_GPU_WINDOWS = 8
_BLOCK_BYTES = 32 * 2**20  # of the finished slices that are handed on together


class Predictor:
    """Runs a network over images of any size.

    Args:
        network: Maps (B, C, *patch) to logits (B, K, *patch), or to a list with these first; or the
            stored network of a bundle.
        patch: Window (D, H, W), a size that the network takes.
        classes: K, background included.
        device: Where to compute; a module is moved there.
        mirror_axes: Axes (0 = D, 1 = H, 2 = W) to mirror for test-time augmentation; all their
            combinations are averaged. Empty for none.
        left_right_axis, left_right_pairs: Mirroring this axis swaps these classes.
        overlap: Least overlap of neighbouring windows.
        batch: Windows in one forward pass; chosen from the device by default.
        budget: Bytes of summed logits that may lie in memory; more goes to a temporary file.
        finish: What becomes of finished slices of averaged logits (n, K, H, W); by default
            probabilities.
        runtime: "sparse" runs the execution plan of the network, "reference" the network itself.
        precision: What to compute in; None for float16 on CUDA and float32 elsewhere. What
            overflows in 16 bit is computed in float32.
        reporter: Receives warnings when memory runs out and the work goes on differently.

    Example:
        >>> import torch
        >>> predictor = Predictor(torch.nn.Conv3d(1, 2, 1), patch=(4, 8, 8), classes=2)
        >>> blocks = list(predictor.stream(np.zeros((1, 10, 12, 7), np.float32)))
        >>> np.concatenate(blocks).shape
        (10, 2, 12, 7)
    """

    def __init__(
        self,
        network: nn.Module | StoredNetwork,
        *,
        patch: Sequence[int],
        classes: int,
        device: torch.device | str = "cpu",
        mirror_axes: Sequence[int] = (),
        left_right_axis: int | None = None,
        left_right_pairs: Sequence[tuple[int, int]] = (),
        overlap: float = 0.5,
        batch: int | None = None,
        budget: int = DEFAULT_BUDGET,
        finish: Callable[[Any], Any] | None = None,
        runtime: Runtime = "sparse",
        precision: Precision | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self.patch = tuple(int(n) for n in patch)
        self.classes = classes
        self.device = str(device)
        self.overlap = overlap
        self.budget = budget
        self.finish: Callable[[Any], Any] = finish or softmax
        self.reporter = reporter or Reporter()
        self.network = network if isinstance(network, StoredNetwork) else network.eval()
        self.runtime = runtime
        if batch is None:
            fitting = _GPU_VOXELS // int(np.prod(self.patch))
            batch = 1 if self.device == "cpu" else max(1, min(_GPU_WINDOWS, fitting))
        self.batch = batch
        cuda = self.device.startswith("cuda")
        self._precision: Precision = precision or ("float16" if cuda else "float32")
        self._chosen = precision is not None
        self._flips = [
            axes
            for count in range(len(mirror_axes) + 1)
            for axes in itertools.combinations(sorted(mirror_axes), count)
        ]
        self._left_right_axis = left_right_axis
        swapped = list(range(classes))
        for left, right in left_right_pairs:
            swapped[left], swapped[right] = right, left
        self._swapped = swapped
        try:
            self._plan = self._planned()
        except (RuntimeError, MemoryError) as error:
            self._to_cpu_or_raise(error)

    def axes(self, shape: Sequence[int]) -> list[AxisWindows]:
        """The windows along D, H and W over an image of shape (D, H, W)."""
        return [
            AxisWindows.over(size, patch, self.overlap)
            for size, patch in zip(shape, self.patch, strict=True)
        ]

    def count(self, shape: Sequence[int]) -> int:
        """Number of windows over an image of shape (D, H, W)."""
        return int(np.prod([len(axis.starts) for axis in self.axes(shape)]))

    def stream(
        self, image: np.ndarray, *, on_windows: Callable[[int], None] | None = None
    ) -> Iterator[Any]:
        """Class probabilities of an image, finished slices first.

        Args:
            image: (C, D, H, W) float32.
            on_windows: Called with the number of windows done since the last call.

        Yields:
            (n, K, H, W) float32 for the next n slices, together (D, K, H, W): arrays on a CPU, else
            tensors on the device. A block is only good until the next one.
        """
        depth, height, width = self.axes(image.shape[1:])
        frame = (depth.patch, self.classes, height.padded, width.padded)
        slab: Any = self._allocate(frame)
        for at, start in enumerate(depth.starts):
            last = at + 1 == len(depth.starts)
            end = depth.padded if last else depth.starts[at + 1]
            corners = [(start, *hw) for hw in itertools.product(height.starts, width.starts)]
            # Never across a yield: the mode would hold for whoever takes the block.
            with self._without_gradients():
                slab = self._add(slab, image, corners, (depth, height, width), on_windows)
            yield from self._finish(slab, start, end, (depth, height, width))
            if not last:
                with self._without_gradients():
                    _advance(slab, end - start)

    def _add(
        self,
        slab: Any,
        image: np.ndarray,
        corners: list[tuple[int, int, int]],
        axes: Sequence[AxisWindows],
        on_windows: Callable[[int], None] | None,
    ) -> Any:
        """Add the logits of all windows of one depth to the slab; it may move to the CPU."""
        done = 0
        while done < len(corners):
            chosen = corners[done : done + self.batch]
            firsts = [
                [start - axis.lead for start, axis in zip(corner, axes, strict=True)]
                for corner in chosen
            ]
            try:
                windows = np.stack([cut_window(image, first, self.patch) for first in firsts])
                sent: Any = windows if self.device == "cpu" else self._sent(windows)
                logits = self._logits(sent)
                if isinstance(slab, np.ndarray):
                    logits = to_array(logits)
                for number, axis in enumerate(axes):
                    shape = [-1 if k == number else 1 for k in range(3)]
                    logits *= beside(axis.profile.reshape(shape), logits)
            except (RuntimeError, MemoryError) as error:
                self._lighten(error)
                if self.device == "cpu":
                    slab = to_array(slab)
                continue
            for (_, h, w), one in zip(chosen, logits, strict=True):
                target = slab[:, :, h : h + self.patch[1], w : w + self.patch[2]]
                target += one.swapaxes(0, 1)
            done += len(chosen)
            if on_windows:
                on_windows(len(chosen))
        return slab

    def _logits(self, windows: Any) -> Any:
        """(B, C, *patch) -> (B, K, *patch) float32, averaged over mirrored versions."""
        total: Any = None
        for axes in self._flips:
            dims = [2 + axis for axis in axes]
            logits = self._forward(flipped(windows, dims) if dims else windows)
            if dims:
                logits = flipped(logits, dims)
            if self._left_right_axis in axes:
                logits = logits[:, self._swapped]
            if total is None:
                total = logits
            else:
                total += logits
        if len(self._flips) > 1:
            total /= len(self._flips)
        return total

    def _forward(self, windows: Any) -> Any:
        logits = self._plan(windows)
        if self._precision != "float32" and not _finite(logits):
            self._precision = "float32"
            self._plan = self._planned()
            self.reporter.warning(
                "half-precision", "Half precision overflowed; the work goes on in single precision."
            )
            return self._forward(windows)
        return logits

    def _finish(
        self, slab: Any, start: int, end: int, axes: Sequence[AxisWindows]
    ) -> Iterator[Any]:
        """Probabilities of the padded slices start … end, those of the padding left out."""
        depth, height, width = axes
        rows = slice(height.lead, height.lead + height.size)
        columns = slice(width.lead, width.lead + width.size)
        weights = beside(np.outer(height.total[rows], width.total[columns]), slab)
        low, high = max(start, depth.lead), min(end, depth.lead + depth.size)
        step = max(1, _BLOCK_BYTES // (4 * self.classes * height.size * width.size))
        for first in range(low, high, step):
            stop = min(first + step, high)
            along = beside(depth.total[first:stop].reshape(-1, 1, 1, 1), slab)
            block = slab[first - start : stop - start, :, rows, columns]
            block = block / weights
            block /= along
            yield self.finish(block)

    def _allocate(self, shape: tuple[int, ...]) -> Any:
        """Zeros for the slab: on the GPU where it leaves room there, else in memory or on disk."""
        if self.device.startswith("cuda"):
            import torch

            free, _ = torch.cuda.mem_get_info(self.device)
            if 4 * int(np.prod(shape)) < 0.4 * free:
                try:
                    return torch.zeros(shape, device=self.device)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
        return zeros(shape, np.float32, budget=self.budget)

    def _sent(self, windows: np.ndarray) -> torch.Tensor:
        import torch

        return torch.from_numpy(windows).to(self.device)

    def _without_gradients(self) -> AbstractContextManager[Any]:
        if self.device == "cpu":
            return nullcontext()
        import torch

        return torch.inference_mode()

    def _planned(self) -> ExecutionPlan:
        plan = execution_plan(self.network, self.device, self._precision, runtime=self.runtime)
        if plan.fallback:
            self.reporter.warning(
                "slow-runtime",
                f"The sparse kernels do not run here ({plan.fallback}); PyTorch computes instead, "
                "slower.",
            )
        return plan

    @property
    def plan(self) -> ExecutionPlan:
        """What computes now; it may become another one when memory runs out."""
        return self._plan

    def _lighten(self, error: RuntimeError | MemoryError) -> None:
        """After running out of memory: fewer windows at a time, then the CPU."""
        if not is_out_of_memory(error):
            raise error
        release_memory(self.device)
        if self.batch > 1:
            self.batch //= 2
            self.reporter.warning(
                "out-of-memory-smaller",
                f"{device_name(self.device)} ran out of memory; going on with {self.batch} "
                f"window{'s' if self.batch > 1 else ''} at a time.",
            )
            return
        self._to_cpu_or_raise(error)

    def _to_cpu_or_raise(self, error: RuntimeError | MemoryError) -> None:
        if not is_out_of_memory(error):
            raise error
        if self.device == "cpu":
            raise BadInput(
                "There is not enough memory for this model.",
                help="Close other programs, or use a smaller model.",
                code="out-of-memory",
            ) from error
        self.reporter.warning(
            "out-of-memory-cpu",
            f"{device_name(self.device)} ran out of memory; going on with the CPU (slower).",
        )
        used, self.device = self.device, "cpu"
        if not self._chosen:
            self._precision = "float32"
        if not isinstance(self.network, StoredNetwork):
            self.network.to(self.device)
        self._plan = self._planned()
        release_memory(used)


def _finite(logits: Any) -> bool:
    whole = np.isfinite(logits) if isinstance(logits, np.ndarray) else logits.isfinite()
    return bool(whole.all())


def _advance(slab: Any, by: int) -> None:
    """Move the slab's slices forward in place and clear those that follow."""
    kept = slab.shape[0] - by
    for index in range(kept):
        slab[index] = slab[index + by]
    slab[kept:] = 0
