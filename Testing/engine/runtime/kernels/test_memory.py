"""The arena never hands out a place twice, and gives the same places again."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from e2enet.runtime.kernels.memory import Arena, Buffer, Maps, aligned, pitch
from hypothesis import given
from hypothesis import strategies as st

# A size to take, or None to give back the buffer whose number it is.
STEPS = st.lists(
    st.one_of(st.integers(0, 500), st.tuples(st.integers(0, 50))), min_size=1, max_size=40
)


def walk(arena: Arena, steps: list) -> list[tuple[int, int]]:
    """Where each step's buffer lies; no two that are held may overlap."""
    held: list[Buffer] = []
    places = []
    for step in steps:
        if isinstance(step, tuple):
            if held:
                arena.give(held.pop(step[0] % len(held)))
            continue
        one = arena.take(step)
        assert one.size >= step
        for other in held:
            if not (one.size and other.size):
                continue
            assert one.first + one.size <= other.first or other.first + other.size <= one.first
        held.append(one)
        places.append((one.first, one.size))
        assert arena.needed >= one.first + one.size
    return places


@given(STEPS)
def test_a_run_that_only_measures_tells_how_large_it_must_be(steps: list) -> None:
    arena = Arena()
    first = walk(arena, steps)
    needed = arena.needed
    arena.allocate()
    assert arena.memory.size >= needed
    memory = arena.memory
    assert walk(arena, steps) == first
    arena.reset()
    assert walk(arena, steps) == first
    assert arena.memory is memory


def test_what_is_given_back_is_one_piece_again() -> None:
    arena = Arena()
    held = [arena.take(100) for _ in range(4)]
    for number in (2, 0, 3, 1):
        arena.give(held[number])
    assert arena.take(448).first == 0
    assert arena.needed == 4 * 112


def test_an_empty_buffer_takes_no_place() -> None:
    arena = Arena()
    first, empty, last = arena.take(16), arena.take(0), arena.take(16)
    for one in (first, last, empty):
        arena.give(one)
    assert arena._gaps == Arena()._gaps


def test_memory_grows_and_never_shrinks() -> None:
    arena = Arena()
    arena.take(1000)
    arena.allocate()
    memory = arena.memory
    arena.take(10)
    arena.allocate()
    assert arena.memory is memory
    arena.take(2000)
    arena.allocate()
    assert arena.memory.size >= 2000


@pytest.mark.skipif(sys.platform != "linux", reason="pages are given back on Linux")
def test_pages_that_are_given_back_are_free_ones() -> None:
    arena = Arena()
    page, floats = 1 << 21, 1 << 22  # bytes; floats in 8 pages
    arena.take(floats)
    arena.allocate()
    gap, held, _ = (arena.take(floats // 4) for _ in range(3))
    arena.memory[:] = 1
    arena.give(gap)
    arena.release(3 * page + 5)
    assert arena.memory.nbytes - 4 * np.count_nonzero(arena.memory) == 3 * page
    assert held.array.all()
    arena.release(100 * page)
    assert held.array.all()
    assert not arena.memory[-page // 4 :].any()


def test_borders() -> None:
    for size in (1, 100):
        assert aligned(size).ctypes.data % 64 == 0
    for size in (0, 1, 100):  # an empty array lies anywhere
        assert aligned(size).size == size
    for voxels in range(0, 5000, 37):
        assert pitch(voxels) >= voxels + 128
        assert pitch(voxels) % 16 == 0


def test_maps_lie_where_their_addresses_say() -> None:
    arena = Arena()
    for _ in range(2):  # measured, then in memory
        kept = np.array([1, 4, 6])
        maps = Maps.make(arena, kept, (3, 5, 7), room=4, region=8, origin=2)
        arena.take(10)
        assert maps.regions == 4
        if not arena.memory.size:
            arena.allocate()
    maps.buffer.array[:] = np.arange(maps.buffer.size)
    for place, address in zip((0, 2), maps.addresses(np.array([1, 6])), strict=True):
        at = (address - maps.buffer.address) // 4
        assert maps.array()[place, 0, 0, 0] == at
    np.testing.assert_array_equal(maps.affines(kept), [[1, 0, 1]] * 3)
