"""Dice + cross-entropy under deep supervision, for classes of which every voxel has one.

`e2enet.training.loop.objective` has the loss of regions and of partly labelled cases. Own code
instead of MONAI's DiceCELoss, so that a trainer runs without MONAI and the softmax is computed once
for both terms. Reference: METHOD of E2ENet, nnU-Net's DC_and_CE_loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTH = 1e-5


def dice_ce(logits: Tensor, target: Tensor, *, batch_dice: bool = False) -> Tensor:
    """1 - mean Dice over samples and foreground classes, plus cross-entropy.

    Args:
        logits: (B, classes, D, H, W).
        target: (B, D, H, W) class numbers, int64; voxels with the number `classes` are ignored.
        batch_dice: one Dice of each class over the voxels of the whole batch, as nnU-Net has it
            for its low-resolution and 2D configurations; small structures that a sample lacks then
            weigh less.
    """
    ignored = target == logits.shape[1]
    log_p = F.log_softmax(logits.float(), dim=1)
    p = log_p.exp()[:, 1:]
    if ignored.any():
        # Not the mean of the function itself: where everything is ignored that is 0 / 0.
        summed = F.nll_loss(log_p, target, ignore_index=logits.shape[1], reduction="sum")
        cross_entropy = summed / (~ignored).sum().clamp(min=1)
        p = p * ~ignored[:, None]
    else:
        cross_entropy = F.nll_loss(log_p, target)
    classes = torch.arange(1, logits.shape[1], device=target.device).view(1, -1, 1, 1, 1)
    truth = (target[:, None] == classes).to(p.dtype)
    axes = (0, 2, 3, 4) if batch_dice else (2, 3, 4)
    overlap = (p * truth).sum(axes)
    sizes = p.sum(axes) + truth.sum(axes)
    dice = (2 * overlap + SMOOTH) / (sizes + SMOOTH)
    return 1 - dice.mean() + cross_entropy


def supervised_loss(
    outputs: Sequence[Tensor],
    target: Tensor,
    weights: Sequence[float],
    *,
    batch_dice: bool = False,
    loss: Callable[..., Tensor] = dice_ce,
) -> Tensor:
    """Weighted sum of the loss of each head against the target reduced to its size.

    Args:
        outputs: logits (B, classes, D_h, H_h, W_h), finest first.
        target: (B, D, H, W) class numbers at full resolution.
        weights: one a head.
        batch_dice: as in `dice_ce`.
        loss: of one head, called as `dice_ce`.
    """
    total = outputs[0].new_zeros((), dtype=torch.float32)
    for logits, weight in zip(outputs, weights, strict=True):
        small = downsample(target, logits.shape[2:])
        total = total + weight * loss(logits, small, batch_dice=batch_dice)
    return total


def downsample(target: Tensor, size: Sequence[int]) -> Tensor:
    """(B, D, H, W) labels to a size that divides theirs: the first voxel of each cell."""
    steps = [n // k for n, k in zip(target.shape[1:], size, strict=True)]
    return target[:, :: steps[0], :: steps[1], :: steps[2]]


@torch.no_grad()
def hard_counts(logits: Tensor, target: Tensor) -> Tensor:
    """True positives, false positives, false negatives of each foreground class: (classes-1, 3).

    Voxels with the number `classes` are ignored, as in the loss.
    """
    prediction = torch.where(target == logits.shape[1], 0, logits.argmax(dim=1))
    counts = []
    for value in range(1, logits.shape[1]):
        p, t = prediction == value, target == value
        both = (p & t).sum()
        counts.append(torch.stack([both, p.sum() - both, t.sum() - both]))
    return torch.stack(counts)
