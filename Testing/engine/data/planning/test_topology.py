"""Poolings."""

from __future__ import annotations

from e2enet.data.planning.topology import divisor_of, padded, strides_for
from hypothesis import given, settings
from hypothesis import strategies as st


def test_known_patches() -> None:
    assert strides_for((40, 56, 40), (1, 1, 1)) == ((2, 2, 2),) * 3
    assert strides_for((128, 128, 128), (1, 1, 1)) == ((2, 2, 2),) * 5
    # Thick slices are left alone until the others have caught up.
    assert strides_for((20, 256, 256), (6.0, 1.0, 1.0))[:3] == ((1, 2, 2), (1, 2, 2), (2, 2, 2))


def test_levels_are_obeyed_as_far_as_possible() -> None:
    assert len(strides_for((40, 56, 40), (1, 1, 1), levels=2)) == 1
    assert len(strides_for((40, 56, 40), (1, 1, 1), levels=5)) == 4
    assert len(strides_for((4, 4, 4), (1, 1, 1), levels=9)) == 2
    assert strides_for((3, 3, 3), (1, 1, 1)) == ()


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(*[st.integers(2, 300)] * 3),
    st.tuples(*[st.floats(0.3, 10)] * 3),
    st.one_of(st.none(), st.integers(2, 7)),
)
def test_poolings_fit_the_patch(patch: tuple, spacing: tuple, levels: int | None) -> None:
    strides = strides_for(patch, spacing, levels=levels)
    assert len(strides) <= (levels or 6) - 1
    assert all(set(step) <= {1, 2} and max(step) == 2 for step in strides)
    divisor = divisor_of(strides)
    fitting = padded(patch, divisor)
    for n, d, p in zip(patch, divisor, fitting, strict=True):
        assert p % d == 0
        assert n <= p < n + d
    assert max(fitting[k] // divisor[k] for k in range(3)) >= 1
