"""Threads: the same result with any number of them, no more of them than a process may use."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from e2enet.networks import Lattice
from e2enet.runtime.plans.sparse import SparsePlan

ASK = "from e2enet.runtime.kernels.workers import default_threads; print(default_threads())"


def test_the_result_does_not_depend_on_them() -> None:
    """In an image that is large enough to be shared, to the last digit for one number of them.

    Another number may cut maps into other parts, and their sums are then rounded otherwise.
    """
    lattice = Lattice(1, 3, [(2, 2, 2)] * 2, base_channels=6)
    random = np.random.default_rng(5)
    weights = {}
    for name, shape in lattice.parameters.items():
        weights[name] = random.normal(size=shape).astype(np.float32)
        if len(shape) > 2:  # half of the connections are dead
            weights[name][random.random(shape[:2]) < 0.5] = 0
    image = random.normal(size=(1, 1, 40, 84, 100)).astype(np.float32)
    one = SparsePlan(lattice, weights, 1)(image)
    assert np.isfinite(one).all()
    assert one.std() > 0
    for threads in (2, 3, 8, 32):
        found, again = (SparsePlan(lattice, weights, threads)(image) for _ in range(2))
        assert np.array_equal(found, again)
        np.testing.assert_allclose(found, one, rtol=0, atol=1e-5 * np.abs(one).max())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no process")
def test_a_pinned_process_takes_its_own_core() -> None:
    """Several processes, each on its cores, do not start more threads than there are cores."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    core = min(os.sched_getaffinity(0))
    program = f"import os; os.sched_setaffinity(0, [{core}]); {ASK}"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"


def test_who_starts_several_says_how_many() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "3"
