"""Robustness: each change does what a scanner would, and leaves what it must not touch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from e2enet.data.patches import robustness
from e2enet.data.patches.augmentation import Augmentation
from e2enet.data.patches.robustness import Robustness, acquisition, along, gaussian, smooth_field
from e2enet.data.planning.plan import ChannelPlan, Plan
from torch import Tensor

SHAPE = (24, 30, 20)


def case(channels: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """A random image whose first rows are no part of the case, a label in its middle, inside."""
    random = torch.Generator().manual_seed(1)
    x = torch.randn(channels, *SHAPE, generator=random)
    x[:, :, :4] = 0
    y = torch.zeros(SHAPE, dtype=torch.uint8)
    y[9:14, 12:18, 8:12] = 1
    return x, y, (x != 0).any(dim=0)


def changed(name: str, seed: int, channels: int = 1) -> tuple[Tensor, Tensor]:
    x, y, inside = case(channels)
    effect = Robustness((1.0, 1.0, 1.0), 1.0).effects[name]
    return effect(x, y, inside, np.random.default_rng(seed))


@pytest.mark.parametrize("name", robustness.PROBABILITIES)
def test_each_effect_changes_the_image_and_stays_finite(name: str) -> None:
    before, label, _ = case(2)
    different = 0
    for seed in range(6):
        x, y = changed(name, seed, channels=2)
        assert x.shape == before.shape
        assert x.dtype == torch.float32
        assert torch.isfinite(x).all()
        assert y.dtype == label.dtype
        different += not torch.equal(x, before)
        if name != "field_of_view":
            assert torch.equal(y, label)
    assert different >= 5


@pytest.mark.parametrize("name", robustness.PROBABILITIES)
def test_an_effect_on_one_level_is_a_function_of_the_random_state(name: str) -> None:
    for one, other in zip(changed(name, 3), changed(name, 3), strict=True):
        assert torch.equal(one, other)


def test_as_often_as_the_table_says() -> None:
    x, y, _ = case()
    for level in (1.0, 0.5):
        robust = Robustness((1.0, 1.0, 1.0), level)
        drawn: list[str] = []

        def note(name: str, drawn: list[str] = drawn) -> Any:
            return lambda x, y, inside, rng: drawn.append(name) or (x, y)

        robust.effects = {name: note(name) for name in robust.effects}
        for seed in range(1500):
            robust(x, y, np.random.default_rng(seed))
        for name, probability in robustness.PROBABILITIES.items():
            assert drawn.count(name) / 1500 == pytest.approx(level * probability, abs=0.045)


def test_padding_stays_zero_and_statistics_stay_about_what_they_were() -> None:
    x, y, inside = case()
    robust = Robustness((1.0, 1.0, 1.0), 1.0)
    for seed in range(60):
        after, _ = robust(x, y, np.random.default_rng(seed))
        assert not after[:, ~inside].any()
        shown = after[0][inside & (after[0] != 0)]
        assert abs(float(shown.mean() - x[0, inside].mean())) < 0.5
        assert 0.6 < float(shown.std() / x[0, inside].std()) < 1.6


def test_a_contrast_map_keeps_the_order_of_intensities() -> None:
    x, _, inside = case()
    order = torch.argsort(x[0][inside])
    slopes = []
    for seed in range(20):
        values = changed("contrast", seed)[0][0][inside][order]
        assert (values.diff() >= 0).all()
        third = len(values) // 3
        slopes.append(float((values[third] - values[0]) / (values[-1] - values[-third])))
    assert max(slopes) > 1.5  # dark tissues pulled apart
    assert min(slopes) < 0.7  # … or bright ones


def test_a_bias_field_multiplies_smoothly() -> None:
    flat = torch.ones(1, *SHAPE)
    flat[:, :2] = 0.5  # the darkest tissue stays where it is
    inside = torch.ones(SHAPE, dtype=torch.bool)
    robust = Robustness((1.0, 1.0, 1.0), 1.0)
    ratio = []
    for seed in range(30):
        x, _ = robust.bias(flat, torch.zeros(SHAPE), inside, np.random.default_rng(seed))
        torch.testing.assert_close(x[:, :2], flat[:, :2])
        factor = (x[0, 2:] - 0.5) / 0.5
        assert float(factor.min()) > 0
        ratio.append(float(factor.log().std()))
        assert float(factor.log().diff(dim=1).abs().max()) < 0.35
    assert 0.02 < np.mean(ratio) < 0.3


def test_stripping_spares_the_labels_and_darkens_one_side() -> None:
    before, label, inside = case()
    floor = float(torch.quantile(before[0][inside][::7], 0.005))
    lost = 0
    for seed in range(20):
        x, _ = changed("strip", seed)
        gone = x[0] != before[0]
        assert not (gone & (label > 0)).any()
        assert torch.allclose(x[0][gone], torch.tensor(floor), atol=1e-5)
        lost += bool(gone.any())
    assert lost > 10


def test_outliers_are_balls_beside_the_labels() -> None:
    before, label, inside = case()
    bright = 0
    for seed in range(20):
        x, _ = changed("outliers", seed)
        touched = x[0] != before[0]
        assert touched.any()
        assert not (touched & ((label > 0) | ~inside)).any()
        bright += float(x.max()) > 4
    assert 5 < bright < 20  # bright ones and dark ones


def test_a_smaller_field_of_view_takes_image_and_label_alike() -> None:
    _, label, inside = case()
    for seed in range(30):
        x, y = changed("field_of_view", seed)
        gone = (x[0] == 0) & inside
        assert torch.equal(y, torch.where(gone, torch.zeros_like(label), label))
        assert gone.sum() <= robustness.CUT * inside.sum()
        for axis in range(3):  # a slab
            others = [k for k in range(3) if k != axis]
            if gone.any() and gone.any(dim=others).sum() < inside.any(dim=others).sum():
                assert torch.equal(gone, inside & gone.any(dim=others).reshape(
                    [-1 if k == axis else 1 for k in range(3)]))  # fmt: skip


def test_noise_is_white_and_as_strong_as_it_says() -> None:
    before, _, inside = case()
    for seed in range(10):
        difference = (changed("noise", seed)[0] - before)[0][inside] / before[0][inside].std()
        low, high = robustness.NOISE_STD
        assert low * 0.95 < float(difference.std()) < high * 1.05
        assert abs(float(difference.mean())) < 0.02


def test_blur_is_the_gaussian_it_says() -> None:
    n, sigma = 41, 1.7
    line = torch.zeros(1, 1, 1, n)
    line[..., 20] = 1
    after = along(line, {2: gaussian(n, sigma)})[0, 0, 0].double()
    at = torch.arange(n).double() - 20
    assert float(after.sum()) == pytest.approx(1, abs=1e-5)
    assert float((after * at**2).sum()) == pytest.approx(sigma**2, rel=1e-3)


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize(("distance", "width"), [(4.0, 4.0), (4.0, 2.0), (3.3, 3.3), (6.0, 3.1)])
def test_slices_are_means_over_their_thickness(
    distance: float, width: float, nearest: bool
) -> None:
    """Against a slow integral of a finely sampled line."""
    n, offset = 30, 0.4
    values = np.random.default_rng(2).normal(size=n)
    centres = [(k + offset - 0.5) * distance for k in range(n)]
    centres = [c for c in centres if -0.5 < c < n - 0.5]
    fine = np.linspace(-0.5, n - 0.5, 60001)
    line = values[np.clip(np.round(fine), 0, n - 1).astype(int)]
    means = [line[np.abs(fine - c) <= width / 2].mean() for c in centres]
    wanted = []
    for i in range(n):
        if nearest:
            wanted.append(
                means[int(np.argmin([abs(i - c) - 1e-9 * k for k, c in enumerate(centres)]))]
            )
        else:
            wanted.append(np.interp(i, centres, means))
    matrix = acquisition(n, distance=distance, width=width, offset=offset, nearest=nearest)
    np.testing.assert_allclose(matrix.numpy() @ values, wanted, atol=2e-3)
    np.testing.assert_allclose(matrix.sum(dim=1), 1, atol=1e-5)


def test_a_line_too_short_for_two_slices_is_left_alone() -> None:
    matrix = acquisition(4, distance=6.0, width=6.0, offset=0.5, nearest=False)
    assert torch.equal(matrix, torch.eye(4))


def test_matrices_act_along_their_own_axis() -> None:
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    matrices = {axis: torch.randn(n, n) for axis, n in enumerate((4, 5, 6))}
    wanted = torch.einsum("cdhw,ad,bh,ew->cabe", x, matrices[0], matrices[1], matrices[2])
    torch.testing.assert_close(along(x, matrices), wanted, rtol=1e-4, atol=1e-4)


def test_slices_that_are_already_thick_are_not_made_thicker() -> None:
    x, y, inside = case()
    robust = Robustness((5.0, 1.0, 1.0), 1.0)
    for seed in range(12):  # depth is never chosen: a slice would be mixed with another
        depth = torch.arange(SHAPE[0]).float().reshape(1, -1, 1, 1).expand(1, *SHAPE).contiguous()
        after, _ = robust.slices(depth, y, inside, np.random.default_rng(seed))
        torch.testing.assert_close(after, depth, rtol=1e-4, atol=1e-4)
    coarse, _ = Robustness((5.0, 5.0, 5.0), 1.0).slices(x, y, inside, np.random.default_rng(0))
    assert torch.equal(coarse, x)


def test_a_smooth_field_goes_through_its_knots() -> None:
    field = smooth_field((13, 7, 4), np.random.default_rng(0), knots=4)
    values = np.random.default_rng(0).standard_normal((1, 1, 4, 4, 4), dtype=np.float32)[0, 0]
    np.testing.assert_allclose(field[::4, ::2, :], values, atol=1e-5)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("value", [0.0, 2.5])
def test_patches_without_tissue_or_label_are_taken_as_they_are(value: float, label: int) -> None:
    x = torch.full((1, 8, 9, 10), value)
    y = torch.full((8, 9, 10), label, dtype=torch.uint8)
    robust = Robustness((1.0, 1.0, 1.0), 1.0)
    for seed in range(60):
        after, _ = robust(x, y, np.random.default_rng(seed))
        assert torch.isfinite(after).all()


def test_the_plan_switches_it_on() -> None:
    x, y, _ = case()
    plans = {
        level: Plan(
            (1.0, 1.0, 1.0), (0, 1, 2), SHAPE, ((2, 2, 2),), 2, (ChannelPlan("MRI"),),
            robustness=level,
        )
        for level in (0.0, 1.0)
    }  # fmt: skip
    assert Augmentation(plans[0.0]).robustness is None
    images = {
        level: [
            Augmentation(one)(
                x.numpy(), y.numpy(), start=(0, 0, 0), patch=SHAPE, rng=np.random.default_rng(seed)
            )[0]
            for seed in range(12)
        ]
        for level, one in plans.items()
    }
    same = [torch.equal(a, b) for a, b in zip(images[0.0], images[1.0], strict=True)]
    assert sum(same) < 4
