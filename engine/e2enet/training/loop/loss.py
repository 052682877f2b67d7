"""Dice + cross-entropy under deep supervision, for classes of which every voxel has one.

`e2enet.training.loop.objective` has the loss of regions and of partly labelled cases. Own code
instead of MONAI's DiceCELoss, so that a trainer runs without MONAI and the softmax is computed once
for both terms. Reference: METHOD of E2ENet, nnU-Net's DC_and_CE_loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SMOOTH = 1e-5


def dice_ce(logits: Tensor, target: Tensor, *, batch_dice: bool = False) -> Tensor:
    """1 - mean Dice over samples and foreground classes, plus cross-entropy.

    Its first derivatives are those of the formula; there are no second ones.

    Args:
        logits: (B, classes, D, H, W).
        target: (B, D, H, W) class numbers, int64; voxels with the number `classes` are ignored.
        batch_dice: one Dice of each class over the voxels of the whole batch, as nnU-Net has it
            for its low-resolution and 2D configurations; small structures that a sample lacks then
            weigh less.
    """
    loss: Tensor = _DiceCE.apply(logits, target, batch_dice)  # type: ignore[no-untyped-call]
    return loss


class _DiceCE(torch.autograd.Function):
    """Keeps the probabilities alone, where autograd would keep four arrays of their size.

    With p_k the probability of class k in a voxel of class y among n, and the derivative of the
    Dice's part by p_k written as a_k + b_k [k = y], that by the logit of k is
    p_k (a_k + 1 / n - sum_j a_j p_j - b_y p_y) + [k = y] (b_y p_y - 1 / n).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, batch_dice: bool) -> Tensor:
        batch, classes = logits.shape[:2]
        known = target < classes
        complete = bool(known.all())
        # Ignored voxels count as background whose probabilities are all 0.
        target = target if complete else torch.where(known, target, 0)
        p = F.log_softmax(logits.float(), dim=1)
        own = p.gather(1, target[:, None])[:, 0]
        n = known.sum().clamp(min=1)
        cross_entropy = -(own if complete else own * known).sum() / n
        own = own.exp()
        p.exp_()
        if not complete:
            own *= known
            p *= known[:, None]
        samples = torch.arange(batch, device=target.device) * classes
        bins = (target + samples.view(-1, 1, 1, 1)).ravel()
        sizes = torch.bincount(bins, minlength=batch * classes).view(batch, classes)
        sizes = sizes + p.sum((2, 3, 4))
        # Class by class: bincount's weighted sums have no fixed order on a GPU.
        parts = [torch.where(target == value, own, 0).sum((1, 2, 3)) for value in range(classes)]
        overlap = torch.stack(parts, 1)
        if batch_dice:
            overlap, sizes = overlap.sum(0, keepdim=True), sizes.sum(0, keepdim=True)
        overlap, sizes = 2 * overlap[:, 1:] + SMOOTH, sizes[:, 1:] + SMOOTH
        dice = overlap / sizes
        by_p, by_own = F.pad(dice / sizes, (1, 0)), F.pad(-2 / sizes, (1, 0))
        ctx.save_for_backward(p, own, target, known, n, by_p / dice.numel(), by_own / dice.numel())
        ctx.dtype, ctx.complete = logits.dtype, complete
        return 1 - dice.mean() + cross_entropy

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        p, own, target, known, n, by_p, by_own = ctx.saved_tensors
        batch, classes = p.shape[:2]
        by_p, by_own = (a.expand(batch, -1) * grad for a in (by_p, by_own))
        voxel = grad / n
        own = own * by_own.gather(1, target.reshape(batch, -1)).view_as(own)
        rest = voxel - own - torch.einsum("bk,bkdhw->bdhw", by_p, p)
        out = p * rest[:, None]
        out.addcmul_(p, by_p.view(batch, classes, 1, 1, 1))
        own -= voxel if ctx.complete else voxel * known
        out.scatter_add_(1, target[:, None], own[:, None])
        return out.to(ctx.dtype), None, None


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
