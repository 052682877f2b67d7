"""Augmentation: geometry that is exact, labels that follow, and one result a sample."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import torch
from e2enet.data.patches import augmentation
from e2enet.data.patches.augmentation import (
    Augmentation,
    both_ways,
    resample,
    single_thread,
    swap_labels,
)
from e2enet.data.patches.sampling import crop
from e2enet.data.planning.plan import ChannelPlan, Plan
from e2enet.events import BadInput

PATCH = (24, 32, 28)


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "spacing": (1.0, 1.0, 1.0),
        "transpose": (0, 1, 2),
        "patch": PATCH,
        "strides": ((2, 2, 2),),
        "batch_size": 2,
        "channels": (ChannelPlan("MRI"),),
        "mirror_axes": (0, 1, 2),
    }
    return Plan(**{**values, **changes})


def ellipsoid() -> tuple[np.ndarray, np.ndarray]:
    """A smooth image and the label that a threshold of it gives."""
    z, y, x = np.indices((30, 34, 26)).astype(np.float32)
    distance = ((z - 14) / 5) ** 2 + ((y - 18) / 8) ** 2 + ((x - 13) / 4) ** 2
    return np.exp(-distance)[None].astype(np.float32), (distance < 1).astype(np.uint8)


def test_the_identity_changes_nothing_also_over_the_border() -> None:
    image, label = ellipsoid()
    start = (-3, 4, -2)
    x, y = resample(image, label, start=start, patch=PATCH, matrix=np.eye(3))
    np.testing.assert_allclose(x.numpy(), crop(image, start, PATCH), atol=2e-5)
    np.testing.assert_array_equal(y.numpy(), crop(label, start, PATCH))


def test_a_quarter_turn_is_exact() -> None:
    random = np.random.default_rng(0)
    image = random.normal(size=(2, 9, 9, 9)).astype(np.float32)
    label = random.integers(0, 4, (9, 9, 9)).astype(np.uint8)
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    x, y = resample(image, label, start=(0, 0, 0), patch=(9, 9, 9), matrix=turn)
    # Patch offset (d, h, w) reads case offset (d, -w, h).
    np.testing.assert_allclose(x.numpy(), np.flip(image.transpose(0, 1, 3, 2), 3), atol=1e-5)
    np.testing.assert_array_equal(y.numpy(), np.flip(label.transpose(0, 2, 1), 2))


def test_image_and_label_follow_any_map() -> None:
    image, label = ellipsoid()
    random = np.random.default_rng(1)
    augment = Augmentation(plan())
    start = np.array((3, 1, -1))
    offsets = np.moveaxis(np.indices(PATCH), 0, -1) - (np.array(PATCH) - 1) / 2
    for _ in range(12):
        matrix = augment.matrix(random)
        if matrix is None:
            continue
        x, y = resample(image, label, start=start, patch=PATCH, matrix=matrix)
        read = offsets @ matrix.T + start + (np.array(PATCH) - 1) / 2
        distance = (((read - (14, 18, 13)) / (5, 8, 4)) ** 2).sum(-1)
        inside = ((read >= 0) & (read <= np.array(label.shape) - 1)).all(-1)
        expected = np.where(inside, np.exp(-distance), 0)
        assert np.abs(x[0].numpy() - expected)[inside].max() < 0.06
        assert y.numpy()[inside & (distance < 0.7)].all()
        assert not y.numpy()[distance > 1.4].any()
        assert int(y.sum()) == pytest.approx(int((distance < 1).sum()), rel=0.15)


def test_a_case_keeps_its_shape_in_mm_when_it_is_turned() -> None:
    random = np.random.default_rng(2)
    spacing = np.array([2.0, 1.0, 0.7])
    augment = Augmentation(plan(spacing=tuple(spacing)))
    scales = []
    for _ in range(200):
        matrix = augment.matrix(random)
        if matrix is not None:
            rigid = matrix * spacing[:, None] / spacing[None, :]
            factor = np.linalg.det(rigid) ** (1 / 3)
            np.testing.assert_allclose(rigid.T @ rigid, factor**2 * np.eye(3), atol=1e-9)
            scales.append(factor)
    assert min(scales) >= 0.7 - 1e-9
    assert max(scales) <= 1.4 + 1e-9
    assert 50 < len(scales) < 95  # of 200: 1 - 0.8²


def test_a_flat_patch_is_only_turned_and_scaled_in_the_plane() -> None:
    random = np.random.default_rng(3)
    augment = Augmentation(plan(spacing=(5.0, 1.0, 1.0), patch=(10, 32, 28)))
    matrices = [m for m in (augment.matrix(random) for _ in range(60)) if m is not None]
    assert matrices
    for matrix in matrices:
        np.testing.assert_allclose(matrix[0], (1, 0, 0))
        np.testing.assert_allclose(matrix[:, 0], (1, 0, 0))


def test_a_sample_is_the_same_on_any_number_of_threads() -> None:
    image, label = ellipsoid()
    image = np.concatenate([image, image + 1])
    augment = Augmentation(plan())

    def samples() -> list[torch.Tensor]:
        parts: list[torch.Tensor] = []
        for seed in range(25):
            parts += augment(
                image, label, start=(0, 0, 0), patch=PATCH, rng=np.random.default_rng(seed)
            )
        return parts

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        several = samples()
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        torch.rand(3), np.random.random(3)  # no global random state is used
        for a, b in zip(several, samples(), strict=True):
            assert torch.equal(a, b)
            assert type(b) is torch.Tensor
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", augmentation.PROBABILITIES)
def test_every_intensity_change_happens_and_stays_finite(name: str) -> None:
    image, _ = ellipsoid()
    augment = Augmentation(plan())
    x = torch.from_numpy(image)
    changed = 0
    for seed in range(8):
        y = augment.change(name, x.clone(), np.random.default_rng(seed))
        assert y.shape == x.shape
        assert torch.isfinite(y).all()
        changed += not torch.equal(y, x)
    # These two hit a channel half of the time.
    assert changed >= (2 if name in ("blur", "low_resolution") else 8)


def test_the_recipe_is_that_of_nnunet_v2() -> None:
    """Ranges and probabilities of `nnUNetTrainer.get_training_transforms`, as published."""
    assert augmentation.PROBABILITIES == {
        "noise": 0.1,
        "blur": 0.2,
        "brightness": 0.15,
        "contrast": 0.15,
        "low_resolution": 0.25,
        "inverted_gamma": 0.1,
        "gamma": 0.3,
    }
    names = "NOISE_VARIANCE BLUR BRIGHTNESS CONTRAST LOW_RESOLUTION GAMMA SCALE"
    ranges = [getattr(augmentation, name) for name in names.split()]
    assert ranges == [
        (0, 0.1), (0.5, 1), (0.75, 1.25), (0.75, 1.25), (0.5, 1), (0.7, 1.5), (0.7, 1.4)
    ]  # fmt: skip
    assert (augmentation.P_ROTATION, augmentation.P_SCALE) == (0.2, 0.2)
    assert (augmentation.P_MIRROR, augmentation.P_CHANNEL) == (0.5, 0.5)
    assert plan().robustness == 0  # nothing beyond nnU-Net unless a plan asks for it


def test_probabilities_and_ranges_are_those_that_happen() -> None:
    augment = Augmentation(plan())
    drawn: list[str] = []
    augment.change = lambda name, x, rng: drawn.append(name) or x  # type: ignore
    n = 4000
    for seed in range(n):
        augment.intensities(torch.zeros(1, 2, 2, 2), np.random.default_rng(seed))
    for name, probability in augmentation.PROBABILITIES.items():
        assert drawn.count(name) / n == pytest.approx(probability, abs=0.025), name

    random = np.random.default_rng(5)
    turns, scales = [], []
    for _ in range(4000):
        matrix = augment.matrix(random)
        if matrix is None:
            continue
        factor = np.linalg.det(matrix) ** (1 / 3)
        if abs(factor - 1) > 1e-9:
            scales.append(factor)
        if np.abs(matrix / factor - np.eye(3)).max() > 1e-9:
            turns.append(np.degrees(np.arcsin((matrix / factor)[0, 2])))  # the middle angle
    assert len(turns) / 4000 == pytest.approx(0.2, abs=0.025)
    assert len(scales) / 4000 == pytest.approx(0.2, abs=0.025)
    assert 28 < max(turns) <= 30
    assert -30 <= min(turns) < -28
    assert np.percentile(scales, (0, 25, 50, 75, 100)) == pytest.approx(
        (0.7, 0.875, 1.05, 1.225, 1.4), abs=0.04
    )


def test_factors_lie_on_either_side_of_one_equally_often() -> None:
    random = np.random.default_rng(0)
    drawn = np.array([augmentation.either_side((0.7, 1.5), random) for _ in range(2000)])
    assert (drawn < 1).mean() == pytest.approx(0.5, abs=0.04)
    assert 0.7 <= drawn.min() < 0.72
    assert 1.48 < drawn.max() <= 1.5


@pytest.mark.parametrize(
    ("patch", "in_plane"), [((10, 32, 28), True), ((11, 32, 28), False), ((20, 192, 160), True)]
)
def test_the_rule_for_in_plane_augmentation_looks_at_the_patch(
    patch: tuple[int, int, int], in_plane: bool
) -> None:
    assert Augmentation(plan(patch=patch)).in_plane is in_plane


def test_a_flat_patch_is_turned_all_round_and_keeps_its_slices() -> None:
    random = np.random.default_rng(8)
    augment = Augmentation(plan(patch=(4, 32, 28)))
    matrices = [m for m in (augment.matrix(random) for _ in range(800)) if m is not None]
    angles = [np.degrees(np.arctan2(m[2, 1], m[1, 1])) for m in matrices]
    assert min(angles) < -170
    assert max(angles) > 170
    slices = torch.arange(6.0).reshape(1, 6, 1, 1).expand(1, 6, 9, 9).contiguous()
    for seed in range(6):
        y = augment.change("low_resolution", slices, np.random.default_rng(seed))
        torch.testing.assert_close(y, slices)  # slices are not mixed


@pytest.mark.parametrize("name", ["brightness", "contrast", "gamma", "inverted_gamma"])
def test_a_bright_channel_does_not_crush_another(name: str) -> None:
    random = torch.Generator().manual_seed(0)
    first = torch.randn(1, 12, 12, 12, generator=random)
    bright = 1000 + 50 * torch.randn(1, 12, 12, 12, generator=random)
    augment = Augmentation(plan(channels=(ChannelPlan("T1"), ChannelPlan("T2"))))
    for seed in range(10):
        both = augment.change(name, torch.cat([first, bright]), np.random.default_rng(seed))
        alone = augment.change(name, first, np.random.default_rng(seed))
        torch.testing.assert_close(both[:1], alone)
        assert 0.6 < float(both[0].std()) < 1.4


def test_low_resolution_leaves_out_detail_and_keeps_the_rest() -> None:
    flat = torch.full((1, 8, 8, 8), 3.0)
    torch.testing.assert_close(augmentation.low_resolution(flat, (0.5, 0.5, 0.5)), flat)
    ramp = torch.arange(16.0).expand(1, 16, 16, 16).contiguous()
    coarse = augmentation.low_resolution(ramp, (0.5, 0.5, 0.5))
    assert float((coarse - ramp)[..., 2:-2].abs().max()) <= 0.51
    board = (torch.arange(16) % 2).float().expand(1, 16, 16, 16).contiguous()
    assert float(augmentation.low_resolution(board, (1, 1, 0.5)).std()) < 0.01


def test_gamma_of_a_constant_patch_is_finite() -> None:
    augment = Augmentation(plan())
    for seed in range(40):
        x = augment.intensities(torch.zeros(1, 6, 6, 6), np.random.default_rng(seed))
        assert torch.isfinite(x).all()


def test_mirroring_swaps_left_and_right_labels() -> None:
    augment = Augmentation(plan(mirror_axes=(0, 2), left_right_axis=2, left_right_pairs=((1, 2),)))
    label = torch.zeros(2, 3, 4, dtype=torch.uint8)
    label[0, 0, 0], label[1, 1, 3], label[0, 2, 1] = 1, 2, 3
    image = label[None].float()
    swapped = 0
    for seed in range(40):
        x, y = augment.mirror(image, label, np.random.default_rng(seed))
        # An image voxel of 1 is on the left side of the untouched image.
        d, h, w = (x[0] == 1).nonzero()[0].tolist()
        assert h == 0
        assert y[d, h, w] == (2 if w == 3 else 1)
        assert (y == 3).sum() == 1
        swapped += w == 3
    assert 8 < swapped < 32


def test_axes_that_the_plan_does_not_name_are_never_flipped() -> None:
    augment = Augmentation(plan(mirror_axes=()))
    image, label = torch.rand(1, 4, 4, 4), torch.ones(4, 4, 4)
    for seed in range(8):
        assert torch.equal(augment.mirror(image, label, np.random.default_rng(seed))[0], image)


def test_swapping_twice_is_nothing() -> None:
    label = torch.arange(5)
    partners = both_ways([(1, 2), (3, 4)])
    assert swap_labels(label, partners).tolist() == [0, 2, 1, 4, 3]
    assert torch.equal(swap_labels(swap_labels(label, partners), partners), label)


def test_the_number_of_threads_comes_back_also_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), single_thread():
        _ = 1 / (torch.get_num_threads() - 1)
    assert torch.get_num_threads() == before


def test_without_monai_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **more: Any) -> Any:
        if name.startswith("monai"):
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(BadInput, match="MONAI, which is not installed"):
        augmentation.Augmentation(plan())


@pytest.mark.parametrize("name", list(augmentation.PROBABILITIES))
def test_a_slice_is_changed_as_a_slice_of_many_equal_ones_is(name: str) -> None:
    """What a slice becomes must not depend on the zeros beyond its depth."""
    patch = (1, 32, 28)
    changes = Augmentation(plan(patch=patch, strides=((1, 2, 2),), mirror_axes=(1, 2)))
    flat = torch.from_numpy(np.random.default_rng(1).normal(5, 1, (1, *patch)).astype(np.float32))
    found = changes.change(name, flat, np.random.default_rng(3))
    assert found.shape == flat.shape
    if name != "noise":
        middle = changes.change(name, flat.expand(1, 25, 32, 28), np.random.default_rng(3))
        torch.testing.assert_close(found[0, 0], middle[0, 12], atol=2e-3, rtol=2e-3)


def test_a_slice_is_turned_in_its_plane() -> None:
    random = np.random.default_rng(0)
    image = random.normal(size=(1, 1, 9, 9)).astype(np.float32)
    label = random.integers(0, 3, (1, 9, 9)).astype(np.uint8)
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float)
    x, y = resample(image, label, start=(0, 0, 0), patch=(1, 9, 9), matrix=turn)
    d, h, w = np.indices((1, 9, 9)).reshape(3, -1)
    source = (d, 4 - (w - 4), 4 + (h - 4))
    np.testing.assert_allclose(x[0].numpy().ravel(), image[0][source], atol=1e-5)
    np.testing.assert_array_equal(y.numpy().ravel(), label[source])


@pytest.mark.parametrize("tracked", [False, True])
def test_the_switch_of_monai_is_as_it_was(tracked: bool) -> None:
    from monai.data import get_track_meta, set_track_meta

    before = get_track_meta()
    try:
        set_track_meta(tracked)
        augment = Augmentation(plan())
        for name in augmentation.PROBABILITIES:
            x = augment.change(name, torch.rand(2, *PATCH), np.random.default_rng(0))
            assert type(x) is torch.Tensor, name
        assert get_track_meta() is tracked
    finally:
        set_track_meta(before)
