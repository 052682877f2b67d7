"""Learning rate and loss weights of the recipe."""

from __future__ import annotations

import pytest
from e2enet.training.loop.schedules import poly_lr, supervision_weights, warm_up


def test_poly_lr() -> None:
    assert poly_lr(0.01, 0, 1000) == 0.01
    assert poly_lr(0.01, 500, 1000) == pytest.approx(0.01 * 0.5**0.9)
    assert poly_lr(0.01, 999, 1000) == pytest.approx(0.01 * 0.001**0.9)
    assert poly_lr(0.01, 1000, 1000) == 0


def test_weights_halve_and_sum_to_one() -> None:
    assert supervision_weights(4) == pytest.approx((8 / 15, 4 / 15, 2 / 15, 1 / 15))
    assert supervision_weights(1) == (1.0,)


def test_warming_up() -> None:
    assert [warm_up(k, 4) for k in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert warm_up(0, 0) == 1
