"""Upward maps go on part by part: everything that is asked for is there, and made once."""

from __future__ import annotations

import numpy as np
from e2enet.runtime.kernels.layers import point_layer
from e2enet.runtime.kernels.memory import Arena, Maps
from e2enet.runtime.plans.slabs import Slabs, Upward
from hypothesis import given
from hypothesis import strategies as st


@given(
    below=st.integers(1, 20),
    box=st.integers(1, 4),
    slices=st.integers(1, 12),
    looks=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    back=st.booleans(),
)
def test_what_a_part_reads_is_there(
    below: int, box: int, slices: int, looks: tuple[int, int], back: bool
) -> None:
    depth = below * box
    slabs = Slabs(depth, min(depth, -(-slices // box) * box), box, max(looks))
    parts = slabs.parts(looks, back=back)
    assert sorted(n for part in parts for n in range(*part)) == list(range(depth))
    assert parts == sorted(parts, reverse=back)
    layer = point_layer(np.ones((1, 1, box, 1, 1)), (box, 1, 1), np.ones(1, bool))
    maps = Maps.make(Arena(), np.arange(1), (below, 1, 1))
    upward = Upward(layer, maps, parts, looks)
    there: set[int] = set()
    made_in_all = []
    for part in parts:
        made, kept = upward.go_on(part)
        assert made[0] % box == made[1] % box == 0
        assert made[0] == kept[1] or made[1] == kept[0]
        assert set(range(*kept)) <= there
        there = {*range(*made), *range(*kept)}
        assert len(there) <= upward.room
        assert there <= set(range(depth))
        wanted = range(max(0, part[0] - looks[0]), min(depth, part[1] + looks[1]))
        assert there >= set(wanted)
        made_in_all += range(*made)
    assert sorted(made_in_all) == list(range(depth))
