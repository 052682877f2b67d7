"""The loss of regions and of partly labelled cases against loops over voxels."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from e2enet.data.datasets.raw import Dataset
from e2enet.data.datasets.targets import Targets
from e2enet.training.loop.loss import dice_ce, hard_counts, supervised_loss
from e2enet.training.loop.objective import Objective
from hypothesis import given, settings
from hypothesis import strategies as st

SHAPE = (3, 4, 2)
SMOOTH = 1e-5


def dataset(labels, **more) -> Dataset:
    return Dataset(Path("made"), "made", ("MRI",), labels, ".nii.gz", (), **more)


CLASSES = Targets.of(
    dataset(
        {"background": 0, "a": 1, "b": 2, "c": 3}, ignore=4,
        missing={"x": ("b",), "y": ("a", "c")},
    )
)  # fmt: skip
REGIONS = Targets.of(
    dataset(
        {"background": 0, "whole": 1, "core": 2}, regions={"whole": (1, 2, 3), "core": (2, 3)},
        ignore=4, missing={"x": ("core",)},
    )
)  # fmt: skip


def drawn(targets: Targets, seed: int, samples: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, targets.member.shape[1], *SHAPE, generator=generator)
    numbers = torch.randint(0, len(targets.member), (samples, *SHAPE), generator=generator)
    return logits, numbers


def slow(targets: Targets, logits: torch.Tensor, target: torch.Tensor, batch_dice: bool) -> float:
    """Voxel by voxel, in double precision."""
    outputs = range(logits.shape[1])
    foreground = outputs if targets.regions else outputs[1:]
    score = logits.double()
    p = score.sigmoid() if targets.regions else score.softmax(1)
    entropy, judged = 0.0, 0
    sums = torch.zeros(len(logits), len(outputs), 2, dtype=torch.float64)  # overlap, sizes
    for b in range(len(logits)):
        for at in torch.cartesian_prod(*map(torch.arange, SHAPE)).tolist():
            number = int(target[(b, *at)])
            member, known = targets.member[number], targets.known[number]
            here = [float(p[(b, k, *at)]) for k in outputs]
            if targets.regions:
                for k in outputs:
                    if known[k]:
                        entropy -= math.log(here[k] if member[k] else 1 - here[k])
                        judged += 1
            elif known.any():
                entropy -= math.log(sum(here[k] for k in outputs if member[k] or not known[k]))
                judged += 1
            for k in outputs:
                if known[k]:
                    sums[b, k, 0] += here[k] * member[k]
                    sums[b, k, 1] += here[k] + member[k]
    if batch_dice:
        sums = sums.sum(0, keepdim=True)
    dice = (2 * sums[..., 0] + SMOOTH) / (sums[..., 1] + SMOOTH)
    return 1 - float(dice[:, list(foreground)].mean()) + entropy / max(1, judged)


@pytest.mark.parametrize("targets", [CLASSES, REGIONS], ids=["classes", "regions"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), batch_dice=st.booleans())
def test_equals_the_definition(targets, seed, batch_dice):
    logits, target = drawn(targets, seed)
    found = float(Objective(targets).loss(logits, target, batch_dice=batch_dice))
    assert found == pytest.approx(slow(targets, logits, target, batch_dice), abs=1e-5)


def test_where_nothing_is_missing_it_is_the_usual_loss():
    """On the numbers of cases that have all, and those to ignore."""
    logits, target = drawn(CLASSES, 5)
    target = target % 5
    objective = Objective(CLASSES)
    torch.testing.assert_close(objective.loss(logits, target), dice_ce(logits, target))
    assert torch.equal(objective.counts(logits, target), hard_counts(logits, target))
    plain = Targets.of(dataset({"background": 0, "a": 1, "b": 2, "c": 3}, ignore=4))
    assert torch.equal(Objective(plain).loss(logits, target), dice_ce(logits, target))


def test_regions_equal_monai():
    from monai import losses

    plain = Targets.of(
        dataset({"background": 0, "whole": 1, "core": 2}, regions={"whole": (1, 2), "core": (2,)})
    )
    logits, _ = drawn(plain, 2)
    target = torch.randint(0, 3, (2, *SHAPE), generator=torch.Generator().manual_seed(1))
    truth = torch.stack([target > 0, target > 1], 1).float()
    soft = losses.DiceLoss(sigmoid=True, smooth_nr=SMOOTH, smooth_dr=SMOOTH)(logits, truth)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
    torch.testing.assert_close(Objective(plain).loss(logits, target), soft + entropy)


def test_nothing_is_learned_of_what_nobody_drew():
    logits, _ = drawn(REGIONS, 1)
    logits.requires_grad_()
    target = torch.full((2, *SHAPE), REGIONS.step)  # case x: the whole is known, the core is not
    Objective(REGIONS).loss(logits, target).backward()
    assert logits.grad is not None
    assert logits.grad[:, 0].abs().min() > 0
    assert not logits.grad[:, 1].any()


def test_a_missing_class_may_have_any_share_of_the_background():
    """Only the sum of both is held against the rest."""
    place = CLASSES.places["x"]
    target = torch.full((1, *SHAPE), CLASSES.step * place)
    logits = torch.zeros(1, 4, *SHAPE)
    losses = []
    for share in (0.1, 0.5, 0.9):
        p = torch.tensor([0.6 * share, 0.3, 0.6 * (1 - share), 0.1])
        logits[:] = p.log().view(1, 4, 1, 1, 1)
        losses.append(float(Objective(CLASSES).loss(logits, target)))
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-6)
    more = torch.tensor([0.6, 0.1, 0.2, 0.1]).log().view(1, 4, 1, 1, 1).expand(1, 4, *SHAPE)
    assert float(Objective(CLASSES).loss(more, target)) < losses[0]


@pytest.mark.parametrize("targets", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_counts(targets):
    logits, target = drawn(targets, 3)
    first = 0 if targets.regions else 1
    counts = torch.zeros(logits.shape[1] - first, 3, dtype=torch.int64)
    for b in range(2):
        for at in torch.cartesian_prod(*map(torch.arange, SHAPE)).tolist():
            number = int(target[(b, *at)])
            here = logits[(b, slice(None), *at)]
            for k in range(first, logits.shape[1]):
                predicted = bool(here[k] > 0 if targets.regions else here.argmax() == k)
                member = bool(targets.member[number, k])
                if targets.known[number, k]:
                    counts[k - first, 0] += predicted and member
                    counts[k - first, 1] += predicted and not member
                    counts[k - first, 2] += member and not predicted
    assert torch.equal(Objective(targets).counts(logits, target), counts)


@pytest.mark.parametrize("targets", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_a_batch_of_nothing_but_ignored_voxels_is_no_nan(targets):
    logits, _ = drawn(targets, 4)
    logits.requires_grad_()
    loss = Objective(targets).loss(logits, torch.full((2, *SHAPE), 4))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert not logits.grad.any()


def test_heads_use_the_loss_they_are_given():
    logits, target = drawn(REGIONS, 6)
    objective = Objective(REGIONS)
    found = supervised_loss([logits], target, (1.0,), loss=objective.loss)
    torch.testing.assert_close(found, objective.loss(logits, target))
