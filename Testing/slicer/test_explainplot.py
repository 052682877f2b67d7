"""What a person sees of the flow charts, drawn as Slicer draws them."""

import pytest
from harness import views


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return views.rendered("render_chart.py", tmp_path_factory.mktemp("pictures"))


def test_bars_are_as_high_as_the_shares(found):
    bars = found["final"]
    # Shares of the three nodes, summed: 1.8 forward, 1.0 upward, 0.2 downward.
    assert bars["upward"] / bars["forward"] == pytest.approx(1.0 / 1.8, rel=0.08)
    assert bars["downward"] / bars["forward"] == pytest.approx(0.2 / 1.8, rel=0.2)


def test_bars_name_their_node(found):
    assert found["final"]["tooltips"] == [
        "stage 1, level 0",
        "stage 1, level 1",
        "stage 2, level 0",
    ]


def test_a_line_for_each_direction(found):
    for direction in ("forward", "upward", "downward"):
        assert found["history"][direction] > 300
