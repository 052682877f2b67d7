"""Cases in parallel processes, with progress."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from e2enet.events import Reporter

Item = TypeVar("Item")
Result = TypeVar("Result")
_PENDING: Any = object()


def default_workers() -> int:
    """One process a core, at most eight: each holds a case or two in memory."""
    with contextlib.suppress(AttributeError):
        return min(8, len(os.sched_getaffinity(0)))
    return min(8, os.cpu_count() or 1)


def map_cases(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None,
    reporter: Reporter,
    stage: str,
) -> list[Result]:
    """Results of a function for every item, in order.

    Processes are started anew ("spawn", the only way that works on every system and beside
    running threads), without importing the main program, so that a script needs no
    `if __name__ == "__main__"`. If they die (out of memory, most likely), the rest is done in
    this process, with a warning.

    Args:
        function: importable by name; items and results are pickled.
        items: its arguments.
        workers: number of processes; 0 means in this process; None `default_workers()`.
        reporter: gets progress(stage, done, total).
        stage: what the work is called.

    Raises:
        The first exception of the function; work that has not begun is dropped.
    """
    workers = default_workers() if workers is None else workers
    results: list[Any] = [_PENDING] * len(items)
    done = 0
    reporter.progress(stage, done, len(items))
    if workers > 0 and len(items) > 1:
        try:
            for index, result in _in_processes(function, items, min(workers, len(items))):
                results[index] = result
                done += 1
                reporter.progress(stage, done, len(items))
        except BrokenProcessPool:
            reporter.warning(
                "worker-died",
                f"A worker process ended unexpectedly during {stage}, perhaps for want of memory; "
                "going on with a single process.",
            )
    for index, item in enumerate(items):
        if results[index] is _PENDING:
            results[index] = function(item)
            done += 1
            reporter.progress(stage, done, len(items))
    return results


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[int, Result]]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        with _without_main():
            futures = {pool.submit(function, item): index for index, item in enumerate(items)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main program while processes start: a child would import it again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _start_worker() -> None:
    # Ctrl-C reaches the whole group; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)  # A killed parent must not leave orphans waiting for work.

    threading.Thread(target=follow, daemon=True).start()
    with contextlib.suppress(ImportError):
        import SimpleITK as sitk

        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
