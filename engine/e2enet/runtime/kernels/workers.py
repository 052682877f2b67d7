"""Threads that share the work of a kernel, which runs without Python's lock."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

# (first, last) of a portion, number of the thread, number of the portion
Work = Callable[[tuple[int, int], int, int], Any]

_PORTIONS_A_THREAD = 4

# Handing work to a thread takes as long as a tenth of these.
LEAST_BLOCKS = 8  # of a convolution
LEAST_COLUMNS = 256  # vectors of kernels to transform
LEAST_VOXELS = 1 << 17  # to pass once


def default_threads() -> int:
    """One a physical core that this process may use; OMP_NUM_THREADS and PyTorch have a say."""
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "get_num_threads"):
        return int(torch.get_num_threads())
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if asked.isdigit() and int(asked):
        return int(asked)
    try:
        cores = os.sched_getaffinity(0)
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
    siblings = set()
    for core in cores:
        topology = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        siblings.add(topology.read_text() if topology.is_file() else core)
    return len(siblings)


class Workers:
    """A few threads, the calling one among them.

    Args:
        threads: How many; at least 1.
    """

    def __init__(self, threads: int) -> None:
        self.threads = max(1, threads)
        self._pool = ThreadPoolExecutor(max(1, self.threads - 1), "e2enet-kernel")

    @property
    def portions(self) -> int:
        """Most portions that work is cut into."""
        return _PORTIONS_A_THREAD * self.threads

    def share(self, count: int, work: Work, *, least: int = 1) -> None:
        """Do the work for all of a count, in portions of `least` or more.

        Who is free takes the next portion, because cores are not equally fast while others use
        them too. What is added up must be added up by portion, so that the sum is always the same
        with so many threads.
        """
        portions = min(max(count // least, min(count, 1)), self.portions)
        borders = [count * n // portions for n in range(portions + 1)] if portions else []
        waiting = enumerate(itertools.pairwise(borders))
        taking = threading.Lock()  # an iterator is not for several threads

        def worker(thread: int) -> None:
            while True:
                with taking:
                    number, portion = next(waiting, (0, None))
                if portion is None:
                    return
                work(portion, thread, number)

        others = [
            self._pool.submit(worker, thread) for thread in range(1, min(self.threads, portions))
        ]
        try:
            worker(0)
        finally:  # nobody may still write when the caller lets go of the memory
            wait(others)
        for other in others:
            other.result()
