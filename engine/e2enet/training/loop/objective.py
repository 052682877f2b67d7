"""What a training minimises, and how its online Dice counts, by what its labels are.

Classes of which every voxel has one: softmax, Dice + cross-entropy (`loss`). Where a case lacks
labels, the classes that nobody drew there are merged with the background, and the Dice leaves them
out (Shi et al., "Marginal loss and exclusion loss for partially supervised multi-organ
segmentation", Medical Image Analysis 2021). Regions that may overlap: a sigmoid each, Dice + binary
cross-entropy (nnU-Net's DC_and_BCE_loss), over the regions that a case has.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from e2enet.data.datasets.targets import Targets
from e2enet.training.loop.loss import SMOOTH, dice_ce, hard_counts


class Objective:
    """Loss and counts of one head.

    Args:
        targets: what the numbers of the label maps mean; None where they are the classes
            themselves, and the number of classes is to be ignored.
    """

    def __init__(self, targets: Targets | None = None) -> None:
        self.regions = targets is not None and targets.regions
        self.plain = targets is None or not (targets.regions or targets.partial)
        if targets is not None:
            self.member = torch.from_numpy(targets.member)
            self.known = torch.from_numpy(targets.known)

    def loss(self, logits: Tensor, target: Tensor, *, batch_dice: bool = False) -> Tensor:
        """1 - mean Dice, plus cross-entropy, over what is known.

        Args:
            logits: (B, outputs, D, H, W).
            target: (B, D, H, W) numbers, int64.
            batch_dice: as `e2enet.training.loop.loss.dice_ce`.
        """
        if self.plain:
            return dice_ce(logits, target, batch_dice=batch_dice)
        member, known = self._looked_up(target)
        score = logits.float()
        if self.regions:
            entropy = _masked_mean(
                F.binary_cross_entropy_with_logits(score, member.to(score.dtype), reduction="none"),
                known,
            )
            return entropy + _soft_dice_loss(score.sigmoid(), member, known, batch_dice)
        log_p = F.log_softmax(score, dim=1)
        # The probability of all classes that the voxel may have.
        log_q = log_p.masked_fill(known & ~member, -torch.inf).logsumexp(1)
        entropy = _masked_mean(-log_q, known.any(1))  # nothing is known of an ignored voxel
        foreground = log_p[:, 1:].exp()
        return entropy + _soft_dice_loss(foreground, member[:, 1:], known[:, 1:], batch_dice)

    @torch.no_grad()
    def counts(self, logits: Tensor, target: Tensor) -> Tensor:
        """True positives, false positives, false negatives of each structure: (structures, 3).

        What is not known counts in none.
        """
        if self.plain:
            return hard_counts(logits, target)
        member, known = self._looked_up(target)
        if self.regions:
            predicted = logits > 0
        else:
            classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1, 1)
            predicted = (logits.argmax(1, keepdim=True) == classes)[:, 1:]
            member, known = member[:, 1:], known[:, 1:]
        predicted = predicted & known
        axes = (0, 2, 3, 4)
        both = (predicted & member).sum(axes)
        return torch.stack([both, predicted.sum(axes) - both, member.sum(axes) - both], dim=1)

    def _looked_up(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Of each voxel, which outputs' structures it belongs to, and of which that is known."""
        if self.member.device != target.device:
            self.member, self.known = self.member.to(target.device), self.known.to(target.device)
        return self.member[target].movedim(-1, 1), self.known[target].movedim(-1, 1)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """0 where the mask is empty."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def _soft_dice_loss(p: Tensor, member: Tensor, known: Tensor, batch_dice: bool) -> Tensor:
    axes = (0, 2, 3, 4) if batch_dice else (2, 3, 4)
    truth, p = member.to(p.dtype), p * known
    overlap = (p * truth).sum(axes)
    sizes = p.sum(axes) + truth.sum(axes)
    return 1 - ((2 * overlap + SMOOTH) / (sizes + SMOOTH)).mean()
