"""The PT score by hand, for the paper's numbers."""

from __future__ import annotations

import pytest
from e2enet.evaluation.pt_score import pt_scores


def test_by_hand():
    """nnU-Net and E2ENet at S = 0.8 on AMOS-CT (Dice %, parameters in M); FLOPs made up."""
    first, second = pt_scores([90.5, 90.3], [30.76, 9.44], [1000, 250])
    assert first == pytest.approx(1 + 9.44 / 30.76 + 0.25)
    assert second == pytest.approx(90.3 / 90.5 + 1 + 1)


def test_weights():
    assert pt_scores([0.5], [3], [4], accuracy_weight=2, cost_weight=0.25) == [2.5]


@pytest.mark.parametrize(
    "given", [([], [], []), ([1], [1, 2], [1]), ([0], [1], [1]), ([1], [0], [1])]
)
def test_what_makes_no_sense(given):
    with pytest.raises(ValueError):
        pt_scores(*given)
