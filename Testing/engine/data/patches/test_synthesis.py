"""Synthesis: labels follow the map, tissues get one Gaussian each, nothing repeats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from e2enet.data.datasets.tissues import Tissues
from e2enet.data.patches import synthesis
from e2enet.data.patches.synthesis import Synthesis
from e2enet.data.planning.plan import ChannelPlan, Plan

SHAPE = (24, 28, 26)
TISSUES = Tissues(
    tissue={0: 0, 3: 1, 42: 1, 500: 2},
    structure={0: 0, 3: 1, 42: 2, 500: 0},
    labels={"background": 0, "left part": 1, "right part": 2},
)
PLAN = Plan(
    (1.0, 1.0, 1.0), (0, 1, 2), SHAPE, ((2, 2, 2),), 2, (ChannelPlan("MRI"),),
    mirror_axes=(2,), left_right_axis=2, left_right_pairs=((1, 2),),
)  # fmt: skip


def head() -> np.ndarray:
    """A left half, a right half, and a shell round both: (1, D, H, W)."""
    z, y, x = np.indices(SHAPE)
    distance = ((z - 12) / 10) ** 2 + ((y - 14) / 12) ** 2 + ((x - 13) / 11) ** 2
    values = np.where(x < 13, 42, 3)
    values[distance > 0.6] = 500
    values[distance > 1] = 0
    return values[None].astype(np.int16)


def sample(seed: int, plan: Plan = PLAN) -> tuple[torch.Tensor, torch.Tensor]:
    made = Synthesis(plan, TISSUES)
    rng = np.random.default_rng(seed)
    return made(head(), head()[0], start=(0, 0, 0), patch=SHAPE, rng=rng)


def test_images_are_standardised_and_differ_and_repeat() -> None:
    means = []
    for seed in range(12):
        x, y = sample(seed)
        assert x.shape == (1, *SHAPE)
        assert x.dtype == torch.float32
        assert y.shape == SHAPE
        assert set(y.unique().tolist()) <= {0, 1, 2}
        assert float(x.mean()) == pytest.approx(0, abs=1e-4)
        assert float(x.std()) == pytest.approx(1, abs=1e-3)
        again = sample(seed)
        assert torch.equal(x, again[0])
        assert torch.equal(y, again[1])
        means.append(float(x[0][y == 1].mean()))
    assert min(means) < -0.2  # dark in some
    assert max(means) > 0.5  # … and bright in others: no contrast is the rule


def test_structures_keep_most_of_their_volume_and_stay_in_one_piece() -> None:
    whole = int(np.isin(head(), (3, 42)).sum())
    for seed in range(12):
        _, y = sample(seed)
        assert 0.4 * whole < int((y > 0).sum()) < 1.9 * whole


def test_without_randomness_of_place_the_labels_are_those_of_the_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SCALE", "ROTATION", "SHEAR", "DISPLACEMENT_MM"):
        monkeypatch.setattr(synthesis, name, 0.0)
    plan = replace(PLAN, mirror_axes=())
    _, y = sample(0, plan)
    table = TISSUES.table(TISSUES.structure)
    np.testing.assert_array_equal(y.numpy(), table[head()[0]])
    made = Synthesis(plan, TISSUES)
    moved = made.deform(head(), (3, -2, 5), (8, 9, 10), np.random.default_rng(0)).numpy()
    np.testing.assert_array_equal(moved[:, 2:], head()[0, 3:11, 0:7, 5:15])
    assert not moved[:, :2].any()  # beyond the map


def test_tissues_share_a_gaussian_and_background_may_be_black() -> None:
    made = Synthesis(PLAN, TISSUES)
    values = torch.from_numpy(head()[0]).long()
    structure = made.structure[values]
    black = stripped = 0
    for seed in range(40):
        x = made.paint(values, structure, np.random.default_rng(seed))
        assert float(x.min()) >= 0
        left, right = x[values == 3], x[values == 42]
        spread = float(left.std()) + 1
        assert abs(float(left.mean() - right.mean())) < 0.2 * spread
        black += not x[values == 0].any()
        stripped += not x[values == 500].any()
    assert 10 < black < 36
    assert 3 < stripped < 24


def test_a_flip_swaps_sides_and_nothing_else() -> None:
    flipped = 0
    for seed in range(16):
        _, y = sample(seed)
        columns = torch.arange(SHAPE[2]).float().expand(SHAPE)
        # The right part lies at small x: in the flipped map the swapped labels do so again.
        assert float(columns[y == 2].mean()) < float(columns[y == 1].mean())
        _, plain = sample(seed, replace(PLAN, mirror_axes=()))
        flipped += not torch.equal(y, plain)
    assert 3 < flipped < 14


def test_resolution_is_coarse_everywhere_or_along_one_axis() -> None:
    made = Synthesis(PLAN, TISSUES)
    line = torch.eye(26)
    one, every = 0, 0
    for seed in range(30):
        matrices = made.resolution((26, 26, 26), np.random.default_rng(seed))
        for matrix in matrices.values():
            torch.testing.assert_close(matrix.sum(dim=1), torch.ones(26), rtol=1e-4, atol=1e-4)
        coarse = [float((matrix @ line).max()) < 0.6 for matrix in matrices.values()]
        one += sum(coarse) == 1
        every += sum(coarse) == 3
    assert one >= 5
    assert every >= 3
