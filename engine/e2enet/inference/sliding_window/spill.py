"""Large arrays that go to disk when they would take too much memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from math import prod

import numpy as np

from e2enet.events import BadInput

DEFAULT_BUDGET = 1536 * 2**20  # bytes; with the prepared image it stays below 4 GB


def zeros(
    shape: Sequence[int], dtype: np.typing.DTypeLike, *, budget: int = DEFAULT_BUDGET
) -> np.ndarray:
    """An array of zeros, in memory if it fits the budget, else in a file without a name.

    Args:
        shape, dtype: Of the array.
        budget: Bytes that may lie in memory.

    Raises:
        BadInput: The temporary folder has no space.
    """
    count = prod(shape) * np.dtype(dtype).itemsize
    if count <= budget:
        return np.zeros(shape, dtype)
    try:
        # Deleted by the system when the last use of it ends, however the process ends.
        with tempfile.TemporaryFile(prefix="e2enet-") as file:
            if hasattr(os, "posix_fallocate"):
                # A full disk has to be noticed here: later it would kill the process.
                os.posix_fallocate(file.fileno(), 0, count)
            return np.memmap(file, dtype, "w+", shape=tuple(shape))
    except OSError as error:
        raise BadInput(
            f"{count / 1e9:.1f} GB of temporary space are needed in {tempfile.gettempdir()}.",
            help="Free some space, or set TMPDIR to a folder on a larger disk.",
            code="disk-full",
        ) from error
