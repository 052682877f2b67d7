"""Augmentation: geometry that is exact, labels that follow, and one result a sample."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import torch
from e2enet.data.patches import augmentation
from e2enet.data.patches.augmentation import Augmentation, resample, single_thread, swap_labels
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


def test_thick_slices_are_only_turned_and_scaled_in_the_plane() -> None:
    random = np.random.default_rng(3)
    augment = Augmentation(plan(spacing=(5.0, 1.0, 1.0)))
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


class Only:
    """A random state that lets one intensity change happen."""

    def __init__(self, number: int, seed: int) -> None:
        self.chance = np.ones(7)
        self.chance[number] = 0
        self.seed = seed

    def random(self, size: int) -> np.ndarray:
        return self.chance

    def integers(self, *args: Any, size: int, **more: Any) -> np.ndarray:
        return np.full(size, self.seed, dtype=np.uint64)


@pytest.mark.parametrize("number", range(7))
def test_every_intensity_change_happens_and_stays_finite(number: int) -> None:
    image, _ = ellipsoid()
    augment = Augmentation(plan())
    x = torch.from_numpy(image)
    changed = 0
    for seed in range(8):
        y = augment.intensities(x.clone(), Only(number, seed))  # type: ignore[arg-type]
        assert y.shape == x.shape
        assert torch.isfinite(y).all()
        changed += not torch.equal(y, x)
    assert changed >= (2 if number in (1, 4) else 8)  # these two hit a channel half of the time


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
    pairs = [(1, 2), (3, 4)]
    assert swap_labels(label, pairs).tolist() == [0, 2, 1, 4, 3]
    assert torch.equal(swap_labels(swap_labels(label, pairs), pairs), label)


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
