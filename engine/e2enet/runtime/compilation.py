"""The first run after an installation: other processes compile kernels while the image is read.

Numba compiles one kernel at a time in a process, and holds Python's lock meanwhile. What a process
has compiled lies in the cache folder, where the others find it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from e2enet.folders import cache_folder

PARTS = ("convolution", "pointwise")  # rooms of kernels that take about as long as each other
_children: list[subprocess.Popen[bytes]] = []


def begin() -> None:
    """Start compiling where nothing has been compiled yet; for programs, not for libraries."""
    folder = cache_folder() / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # nothing would be kept
        return
    compiled = any(folder.rglob("*.nbi"))
    if compiled or _children or (os.cpu_count() or 1) < 2 or not os.access(folder, os.W_OK):
        return
    nothing: Any = subprocess.DEVNULL
    for part in PARTS:
        program = f"from e2enet.runtime.compilation import compile_part; compile_part({part!r})"
        command = [sys.executable, "-c", program]
        try:
            child = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
        except OSError:  # then this process compiles
            return
        _children.append(child)


def wait() -> None:
    """Until what `begin` started has ended; whatever failed is compiled by who needs it."""
    for child in _children:
        child.wait()
    _children.clear()


def compile_part(part: str) -> None:
    """Compile the kernels of a part for a network's forward in float32.

    Raises:
        ValueError: There is no such part.
    """
    import numpy as np

    from e2enet.networks.lattice import Lattice
    from e2enet.runtime.kernels import convolution, pointwise
    from e2enet.runtime.plans.sparse import SparsePlan

    def nothing(*_: Any) -> None:
        """Stands for the kernels of the other part: only the types of arguments matter here."""

    rooms: dict[str, Any] = {"convolution": convolution, "pointwise": pointwise}
    kernels = {"convolution": ("convolve",), "pointwise": ("expand", "pool")}
    if part not in rooms:
        raise ValueError(f"no such part: {part}")
    for room in rooms.keys() - {part}:
        for name in kernels[room]:
            setattr(rooms[room], name, nothing)
    lattice = Lattice(1, 2, [(2, 2, 2)] * 3, base_channels=3)
    weights = {name: np.ones(shape, np.float32) for name, shape in lattice.parameters.items()}
    SparsePlan(lattice, weights, 1)(np.zeros((1, 1, 16, 16, 16), np.float32))
