"""The loss against its definition, written with loops, and against MONAI's."""

from __future__ import annotations

import pytest
import torch
from e2enet.training.loop.loss import dice_ce, downsample, hard_counts, supervised_loss
from hypothesis import given, settings
from hypothesis import strategies as st


def example(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 4, 6, 2, generator=generator)
    return logits, torch.randint(0, 3, (2, 4, 6, 2), generator=generator)


def slow_dice_ce(logits: torch.Tensor, target: torch.Tensor) -> float:
    p = logits.double().softmax(1)
    dice, entropy, voxels = [], 0.0, 0
    for b in range(len(logits)):
        for c in range(1, logits.shape[1]):
            truth = (target[b] == c).double()
            overlap = float((p[b, c] * truth).sum())
            sizes = float(p[b, c].sum() + truth.sum())
            dice.append((2 * overlap + 1e-5) / (sizes + 1e-5))
        for at in torch.cartesian_prod(*[torch.arange(n) for n in target[b].shape]).tolist():
            entropy -= float(p[b, target[b][tuple(at)], at[0], at[1], at[2]].log())
            voxels += 1
    return 1 - sum(dice) / len(dice) + entropy / voxels


def test_equals_the_definition() -> None:
    logits, target = example()
    assert float(dice_ce(logits, target)) == pytest.approx(slow_dice_ce(logits, target), abs=1e-6)


def test_equals_monai() -> None:
    from monai import losses

    logits, target = example(1)
    other = losses.DiceCELoss(
        include_background=False, softmax=True, to_onehot_y=True, smooth_nr=1e-5, smooth_dr=1e-5
    )
    expected = float(other(logits, target[:, None]))
    assert float(dice_ce(logits, target)) == pytest.approx(expected, abs=1e-5)


def test_batch_dice_equals_the_definition_and_monai() -> None:
    logits, target = example(2)
    from monai import losses

    other = losses.DiceCELoss(
        include_background=False, softmax=True, to_onehot_y=True, batch=True,
        smooth_nr=1e-5, smooth_dr=1e-5,
    )  # fmt: skip
    found = float(dice_ce(logits, target, batch_dice=True))
    assert found == pytest.approx(float(other(logits, target[:, None])), abs=1e-5)
    assert found != pytest.approx(float(dice_ce(logits, target)), abs=1e-4)
    # As if the batch were one sample: samples lie one behind the other.
    joined = logits.transpose(0, 1).flatten(1, 2)[None], target.flatten(0, 1)[None]
    assert found == pytest.approx(slow_dice_ce(*joined), abs=1e-6)


def test_a_perfect_answer_costs_nothing_also_where_a_label_is_missing() -> None:
    target = torch.zeros(1, 4, 4, 4, dtype=torch.long)
    target[0, :2] = 1  # label 2 does not occur
    logits = 60.0 * torch.nn.functional.one_hot(target, 3).permute(0, 4, 1, 2, 3).float()
    assert float(dice_ce(logits, target)) == pytest.approx(0, abs=1e-4)


def test_half_precision_logits_give_a_loss_in_single_precision() -> None:
    logits, target = example()
    loss = dice_ce(logits.half(), target)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(dice_ce(logits, target)), abs=1e-2)


def plain_dice_ce(logits: torch.Tensor, target: torch.Tensor, batch_dice: bool) -> torch.Tensor:
    """The formula in operations that PyTorch differentiates, in double precision."""
    known = target < logits.shape[1]
    truth = torch.nn.functional.one_hot(torch.where(known, target, 0), logits.shape[1])
    truth = truth.movedim(-1, 1).double() * known[:, None]
    log_p = logits.double().log_softmax(1)
    p = log_p.exp() * known[:, None]
    axes = (0, 2, 3, 4) if batch_dice else (2, 3, 4)
    overlap, sizes = (p * truth).sum(axes), (p + truth).sum(axes)
    dice = ((2 * overlap + 1e-5) / (sizes + 1e-5))[..., 1:]
    return 1 - dice.mean() - (log_p * truth).sum() / known.sum().clamp(min=1)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(2, 5),
    st.tuples(*[st.integers(1, 4)] * 3),
    st.booleans(),
    st.sampled_from(["none", "some", "all"]),
)
def test_gradient_is_that_of_the_formula(
    batch: int, classes: int, size: tuple[int, ...], batch_dice: bool, ignored: str
) -> None:
    generator = torch.Generator().manual_seed(batch * classes)
    logits = 3 * torch.randn(batch, classes, *size, generator=generator)
    target = torch.randint(0, classes + (ignored == "some"), (batch, *size), generator=generator)
    target = torch.full_like(target, classes) if ignored == "all" else target
    target = torch.stack([target, target], -1)[..., 0]  # of every other voxel, as a coarse head's
    found, expected = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss, formula = (
        dice_ce(found, target, batch_dice=batch_dice),
        plain_dice_ce(expected, target, batch_dice),
    )
    torch.testing.assert_close(loss.double(), formula, rtol=1e-5, atol=1e-5)
    (3 * loss).backward()
    (3 * formula).backward()
    assert found.grad is not None
    assert expected.grad is not None
    scale = max(float(expected.grad.abs().max()), 1e-6)
    assert float((found.grad - expected.grad).abs().max()) <= 1e-4 * scale


def test_heads_are_weighted_and_compared_with_reduced_targets() -> None:
    fine, target = example()
    coarse = torch.randn(2, 3, 2, 3, 1)
    reduced = target[:, ::2, ::2, ::2]
    assert torch.equal(downsample(target, (2, 3, 1)), reduced)
    expected = 2 / 3 * dice_ce(fine, target) + 1 / 3 * dice_ce(coarse, reduced)
    loss = supervised_loss([fine, coarse], target, (2 / 3, 1 / 3))
    assert float(loss) == pytest.approx(float(expected))


def test_reduced_targets_take_the_nearest_voxel() -> None:
    target = torch.arange(2 * 8 * 4 * 4).view(2, 8, 4, 4)
    expected = torch.nn.functional.interpolate(target[:, None].double(), (4, 1, 4))[:, 0]
    assert torch.equal(downsample(target, (4, 1, 4)), expected.long())


def test_counts() -> None:
    target = torch.tensor([0, 1, 1, 2, 2, 2]).view(1, 1, 1, 6)
    found = torch.tensor([1, 1, 0, 2, 1, 2])
    logits = torch.nn.functional.one_hot(found, 3).float().T.view(1, 3, 1, 1, 6)
    assert hard_counts(logits, target).tolist() == [[1, 2, 1], [2, 0, 1]]


def test_ignored_voxels_have_no_part():
    """As if the batch were cut down to the other voxels; nothing flows back from the ignored."""
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 2, 4, 4, requires_grad=True)
    target = torch.randint(0, 3, (1, 2, 4, 4))
    target[:, :, :, 2:] = 3
    whole = dice_ce(logits, target)
    part = dice_ce(logits[..., :2], target[..., :2])
    torch.testing.assert_close(whole, part)
    whole.backward()
    assert not logits.grad[..., 2:].any()
    assert logits.grad[..., :2].any()
    counts = hard_counts(logits.detach(), target)
    assert torch.equal(counts, hard_counts(logits.detach()[..., :2], target[..., :2]))


def test_a_batch_of_nothing_but_ignored_voxels_is_no_nan():
    logits = torch.randn(1, 3, 2, 2, 2)
    assert torch.isfinite(dice_ce(logits, torch.full((1, 2, 2, 2), 3)))
