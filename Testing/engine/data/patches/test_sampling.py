"""Where patches come from, and that the same number always gives the same one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from e2enet.data.patches.sampling import (
    VALIDATION,
    BatchKeys,
    PatchSampler,
    crop,
    patch_loader,
    random_state,
)
from e2enet.data.preprocessing.store import PreprocessedCase
from e2enet.events import BadInput
from hypothesis import given, settings
from hypothesis import strategies as st


def make_case(
    folder: Path, name: str, shape: tuple[int, int, int], labels: tuple[int, ...] = (1, 2)
) -> PreprocessedCase:
    """A case on disk whose image tells where each voxel lies: value = index + 1."""
    image = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(1, *shape)
    label = np.zeros(shape, np.uint8)
    points = []
    for value in labels:
        where = tuple(np.array(shape) * value // 4)
        label[where] = value
        points.append((value, *where))
    np.save(folder / f"{name}.npy", image)
    np.save(folder / f"{name}_label.npy", label)
    np.save(folder / f"{name}_points.npy", np.array(points, np.int32).reshape(-1, 4))
    return PreprocessedCase(name, folder, shape, 1, dict.fromkeys(labels, 1), (1.0, 1.0, 1.0))


def sampler(cases: list[PreprocessedCase], **more: object) -> PatchSampler:
    values = {"patch": (8, 8, 8), "batch_size": 3, "seed": 5, **more}
    return PatchSampler(cases=tuple(cases), **values)  # type: ignore[arg-type]


@settings(deadline=None)
@given(
    start=st.tuples(*[st.integers(-9, 12)] * 3),
    size=st.tuples(*[st.integers(1, 12)] * 3),
)
def test_crop_is_cutting_out_of_a_padded_array(
    start: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    array = np.arange(1, 2 * 5 * 6 * 7 + 1).reshape(2, 5, 6, 7)
    padded = np.pad(array, ((0, 0), (24, 24), (24, 24), (24, 24)))
    box = tuple(slice(s + 24, s + 24 + n) for s, n in zip(start, size, strict=True))
    np.testing.assert_array_equal(crop(array, start, size), padded[(slice(None), *box)])


def test_the_same_key_gives_the_same_patch_whatever_was_drawn_before(tmp_path: Path) -> None:
    cases = [make_case(tmp_path, f"c{i}", (16, 20, 12)) for i in range(4)]
    one, other = sampler(cases), sampler(cases)
    for key in [(0, 3, 0), (7, 0, 2), (2, 2, 1)]:
        one[key]
    for key in [(0, 0, 0), (7, 0, 2)]:
        for a, b in zip(one[key], other[key], strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(one[0, 0, 0][0], one[1, 0, 0][0])
    assert not torch.equal(one[0, 0, 0][0], sampler(cases, seed=6)[0, 0, 0][0])


def test_random_state_depends_on_every_part_of_the_key() -> None:
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    draws = {random_state(3, key).integers(2**60) for key in keys}
    draws |= {random_state(4, (0, 0, 0)).integers(2**60)}
    draws |= {random_state(3, (0, 0, 0), stream=VALIDATION).integers(2**60)}
    assert len(draws) == 6


@pytest.mark.parametrize(
    ("batch", "forced"),
    [(2, [False, True]), (3, [False, False, True]), (6, [False] * 4 + [True] * 2)],
)
def test_the_last_third_of_a_batch_is_forced_onto_foreground(
    tmp_path: Path, batch: int, forced: list[bool]
) -> None:
    one = sampler([make_case(tmp_path, "c", (64, 64, 64))], batch_size=batch)
    assert [one.is_forced(0, sample) for sample in range(batch)] == forced
    for iteration in range(20):
        assert one[0, iteration, batch - 1][1].any()


def test_every_third_batch_of_one_is_forced(tmp_path: Path) -> None:
    one = sampler([make_case(tmp_path, "c", (16, 16, 16))], batch_size=1)
    assert [one.is_forced(iteration, 0) for iteration in range(6)] == [False, False, True] * 2


def test_forced_patches_show_every_label_in_turn_and_centre_it(tmp_path: Path) -> None:
    one = sampler([make_case(tmp_path, "c", (64, 64, 64))])
    seen = {int(one[0, i, 2][1].max()) for i in range(30)}
    assert seen == {1, 2}
    assert one[0, 0, 2][1][4, 4, 4] > 0


def test_free_patches_cover_the_case_and_stay_inside(tmp_path: Path) -> None:
    case = make_case(tmp_path, "c", (10, 8, 40))
    one = sampler([case])
    starts = np.array(
        [one.locate(case, np.random.default_rng(i), forced=False) for i in range(300)]
    )
    assert set(starts[:, 0]) == {0, 1, 2}
    assert set(starts[:, 1]) == {0}
    assert starts[:, 2].min() == 0
    assert starts[:, 2].max() == 32


def test_a_patch_larger_than_the_case_holds_all_of_it_and_zeros(tmp_path: Path) -> None:
    case = make_case(tmp_path, "c", (5, 6, 7))
    for sample in range(3):
        image, label = sampler([case], batch_size=3)[0, 0, sample]
        assert image.shape == (1, 8, 8, 8)
        assert label.shape == (8, 8, 8)
        assert image.dtype == torch.float32
        if sample < 2:
            assert int((image > 0).sum()) == 5 * 6 * 7


def test_a_case_without_foreground_still_gives_a_patch(tmp_path: Path) -> None:
    image, label = sampler([make_case(tmp_path, "c", (9, 9, 9), labels=())])[0, 0, 2]
    assert image.shape == (1, 8, 8, 8)
    assert not label.any()


def test_validation_patches_are_the_same_every_epoch_and_visit_every_case(tmp_path: Path) -> None:
    cases = [make_case(tmp_path, f"c{i}", (12 + i, 12, 12)) for i in range(5)]
    one = sampler(cases, stream=VALIDATION)
    assert torch.equal(one[0, 1, 1][0], one[9, 1, 1][0])
    visited = [one.cases[(i * 3 + s) % 5].name for i in range(2) for s in range(3)]
    assert set(visited) == {case.name for case in cases}


def test_batch_keys_go_on_in_the_middle_of_an_epoch() -> None:
    def keys(first: int) -> list[list[tuple[int, int, int]]]:
        return list(BatchKeys(first=first, total=7, per_epoch=3, samples=range(2)))

    assert keys(0)[4:] == keys(4)
    assert keys(4)[0] == [(1, 1, 0), (1, 1, 1)]
    assert len(BatchKeys(first=4, total=7, per_epoch=3, samples=range(2))) == 3


class Refusing(PatchSampler):
    def __getitem__(self, key: Any) -> Any:
        raise BadInput("a.npy is damaged.", help="Delete it.", code="damaged-cache")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_worker_refuses_stays_one_sentence(workers: int) -> None:
    """PyTorch would make one text of sentence, code and traceback."""
    keys = BatchKeys(first=0, total=2, per_epoch=2, samples=[0])
    sampler = Refusing((), (8, 8, 8), batch_size=1, seed=0)
    with pytest.raises(BadInput) as caught:
        next(iter(patch_loader(sampler, keys, workers=workers, pin_memory=False)))
    error = caught.value
    assert (error.message, error.help, error.code) == (
        "a.npy is damaged.", "Delete it.", "damaged-cache",
    )  # fmt: skip
