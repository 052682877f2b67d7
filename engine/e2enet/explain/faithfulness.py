"""Does the importance say something about the network? Delete what it calls important and see.

Connections are deleted in every sparse layer, the same count of live ones in each, and the loss of
Dice is compared with what the deletion of others costs (Samek et al., IEEE TNNLS 2017, on regions;
here on connections). Rules:

    importance-high   the most important connections of this image
    importance-low    the least important
    random            drawn evenly; mean over several seeds
    l1-high           the largest kernel L1, whatever the image
    gradient-high     the largest first-order effect on this image's labels

The importance of a connection is what it adds to A_d of `e2enet.explain.importance`:

    I(o, c) = ‖θ[o,c]‖₁ · mean_v |x_c(v)|,   so that  Σ_{o, c in d} M[o,c] · I(o, c) = mean_v A_d(v)

with the mean over all voxels of all windows of the image. For upward transposed kernels and second
blocks the same formula is taken with their own input maps. The gradient form belongs to G_d:

    J(o, c) = | Σ_v ∂y/∂(θ[o,c] ∗ x_c)(v) · (θ[o,c] ∗ x_c)(v) | = | Σ_taps θ[o,c] · ∂y/∂θ[o,c] |

with y the sum of y_k over all labels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.images import Volume, check_same_grid, read_label
from ..data.naming import image_stem, is_image_name
from ..data.orientation import to_canonical
from ..dsff import Connections
from ..evaluation.dice import dice, mean
from ..events import BadInput, Reporter
from ..inference.cases import InputCase, find_cases
from ..inference.opening import OpenCase, open_case
from ..networks import SparseLayer
from .importance import inputs_of
from .volumes import Explainer

FRACTIONS = (0.1, 0.2, 0.4)
SEEDS = 3
RULES = ("importance-high", "importance-low", "random", "l1-high", "gradient-high")
Scores = dict[str, Tensor]  # layer name -> score of each connection, shaped as the mask


@dataclass(frozen=True)
class Faithfulness:
    """Loss of Dice by deletion, per case.

    Attributes:
        cases: Names of the cases.
        intact: Mean Dice of each case with all connections.
        fractions: Shares of the live connections of each layer that were deleted.
        losses: rule -> fraction -> loss of each case (intact minus deleted; random: mean of seeds).
        seeds: Draws of the random rule.
    """

    cases: list[str]
    intact: list[float]
    fractions: tuple[float, ...]
    losses: dict[str, dict[float, list[float]]]
    seeds: int

    def mean(self, rule: str, fraction: float) -> float:
        """Mean loss of Dice over the cases."""
        return mean(self.losses[rule][fraction])

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "cases": self.cases,
            "dice_intact": [round(v, 4) for v in self.intact],
            "mean_dice_intact": round(mean(self.intact), 4),
            "random_seeds": self.seeds,
            "rows": [
                {
                    "rule": rule,
                    "fraction": fraction,
                    "mean_loss": round(mean(values), 4),
                    "losses": [round(v, 4) for v in values],
                }
                for rule, by_fraction in self.losses.items()
                for fraction, values in by_fraction.items()
            ],
        }


def faithfulness(
    explainer: Explainer,
    images: str | os.PathLike[str],
    references: str | os.PathLike[str],
    *,
    count: int | None = 10,
    fractions: Sequence[float] = FRACTIONS,
    seeds: int = SEEDS,
    reporter: Reporter | None = None,
) -> Faithfulness:
    """Compare what the deletion of connections costs, by several rules.

    Args:
        explainer: The model.
        images: Folder of images, named as nnU-Net does.
        references: Folder of their label maps, CASE.nii.gz.
        count: Only the first so many cases by name; None for all.
        fractions: Shares of the live connections of each layer to delete.
        seeds: Draws of the random rule.
        reporter: Receives progress as stage "faithfulness".

    Raises:
        BadInput: A case without a reference, or one that the model cannot take.
    """
    reporter = reporter or Reporter()
    pairs = _pairs(Path(images), Path(references), explainer, count)
    intact: list[float] = []
    losses: dict[str, dict[float, list[float]]] = {
        rule: {fraction: [] for fraction in fractions} for rule in RULES
    }
    quiet = Reporter()
    heard, explainer.reporter = explainer.reporter, quiet
    try:
        for number, (files, reference) in enumerate(pairs):
            reporter.progress("faithfulness", number, len(pairs))
            case = open_case(files, explainer.bundle)
            truth = _truth(case, reference, files.paths[0].name)
            whole, scores = _scores(explainer, case, truth)
            intact.append(whole)
            for rule in RULES:
                for fraction in fractions:
                    lost = []
                    for seed in range(seeds if rule == "random" else 1):
                        ranks = _ranks(explainer.connections, scores, rule, seed)
                        with deleted(explainer.connections, ranks, fraction):
                            lost.append(whole - _dice(explainer, case, truth))
                    losses[rule][fraction].append(mean(lost))
    finally:
        explainer.reporter = heard
    reporter.progress("faithfulness", len(pairs), len(pairs))
    names = [files.name for files, _ in pairs]
    return Faithfulness(names, intact, tuple(fractions), losses, seeds)


@contextmanager
def deleted(
    connections: Connections, scores: Mapping[str, Tensor], fraction: float
) -> Iterator[int]:
    """For a while, take the highest-scoring live connections out of every layer.

    Args:
        connections: The network's; its masks stay as they are.
        scores: Layer name -> score of each connection.
        fraction: Of the live connections of each layer; `round(fraction * live)` go.

    Yields:
        How many were taken out.
    """
    before, count = {}, 0
    with torch.no_grad():
        for name, mask in connections.masks.items():
            weight = connections.layers[name].weight
            before[name] = weight.detach().clone()
            live = mask.flatten().nonzero().squeeze(1)
            gone = round(fraction * live.numel())
            values = scores[name].to(mask.device).flatten()[live]
            chosen = live[torch.sort(values, descending=True, stable=True).indices[:gone]]
            weight[chosen // mask.shape[1], chosen % mask.shape[1]] = 0
            count += gone
    try:
        yield count
    finally:
        with torch.no_grad():
            for name, kept in before.items():
                connections.layers[name].weight.copy_(kept)


def connection_importance(connections: Connections, means: Mapping[str, Tensor]) -> Scores:
    """I(o, c) of every connection.

    Args:
        connections: The network's.
        means: Layer name -> mean_v |x_c(v)| of its input maps, (C_in,).
    """
    scores = {}
    for name, layer in connections.layers.items():
        shape = (1, -1) if layer.output_axis == 0 else (-1, 1)
        scores[name] = connections.kernel_l1(name) * means[name].view(shape)
    return scores


class MeanInputs(nn.Module):
    """A network that remembers the mean absolute value of what enters its layers."""

    def __init__(self, network: nn.Module, layers: Sequence[SparseLayer]) -> None:
        super().__init__()
        self.network = network
        self.layers = list(layers)
        self.sums: dict[str, Tensor] = {}
        self.windows = 0

    def forward(self, windows: Tensor) -> Any:
        with inputs_of(self.layers) as inputs:
            logits = self.network(windows)
            for name, x in inputs.items():
                one = x.abs().mean((2, 3, 4), dtype=torch.float32).sum(0)
                self.sums[name] = self.sums.get(name, 0) + one
        self.windows += windows.shape[0]
        return logits

    @property
    def means(self) -> dict[str, Tensor]:
        """Layer name -> mean_v |x_c(v)|, (C_in,)."""
        return {name: total / self.windows for name, total in self.sums.items()}


class WeightGradients(nn.Module):
    """A network that remembers Σ_taps θ · ∂y/∂θ of its layers, signed, summed over windows."""

    def __init__(self, network: nn.Module, layers: Sequence[SparseLayer]) -> None:
        super().__init__()
        self.network = network
        self.layers = list(layers)
        self.sums: dict[str, Tensor] = {}

    def forward(self, windows: Tensor) -> Tensor:
        weights = [layer.weight for layer in self.layers]
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(windows.device.type, enabled=False),
        ):
            for weight in weights:
                weight.requires_grad_()
            logits = self.network(windows.clone())
            logits = logits[0] if isinstance(logits, (list, tuple)) else logits
            best, winner = logits.max(1)
            gradients = torch.autograd.grad(best[winner > 0].sum(), weights)
            for layer, weight, gradient in zip(self.layers, weights, gradients, strict=True):
                product = (weight.detach() * gradient).flatten(2).sum(2)
                self.sums[layer.name] = self.sums.get(layer.name, 0) + product
                weight.requires_grad_(False)
        return logits.detach()


def _scores(
    explainer: Explainer, case: OpenCase, truth: np.ndarray
) -> tuple[float, dict[str, Scores]]:
    """Dice of the intact network, and the scores of all its connections by rule."""
    layers = list(explainer.connections.layers.values())
    watched = MeanInputs(explainer.network, layers)
    whole = _mean_dice(explainer, case, truth, explainer.segment(case, watched))
    gradients = WeightGradients(explainer.network, layers)
    explainer.segment(case, gradients)
    importance = connection_importance(explainer.connections, watched.means)
    return whole, {
        "importance": importance,
        "l1": {name: explainer.connections.kernel_l1(name) for name in importance},
        "gradient": {name: total.abs() for name, total in gradients.sums.items()},
    }


def _ranks(connections: Connections, scores: dict[str, Scores], rule: str, seed: int) -> Scores:
    if rule == "random":
        generator = torch.Generator().manual_seed(seed)
        return {
            name: torch.rand(mask.shape, generator=generator)
            for name, mask in connections.masks.items()
        }
    kind, _, end = rule.rpartition("-")
    sign = 1 if end == "high" else -1
    return {name: sign * one for name, one in scores[kind].items()}


def _dice(explainer: Explainer, case: OpenCase, truth: np.ndarray) -> float:
    return _mean_dice(explainer, case, truth, explainer.segment(case))


def _mean_dice(explainer: Explainer, case: OpenCase, truth: np.ndarray, found: np.ndarray) -> float:
    values = [label.value for label in explainer.labels(case)]
    return mean(dice(found, truth, values).values())


def _truth(case: OpenCase, reference: Path, name: str) -> np.ndarray:
    label = read_label(reference)
    check_same_grid(Volume(label.array, case.grid, name), label)
    return to_canonical(Volume(label.array, case.grid))[0].array


def _pairs(
    images: Path, references: Path, explainer: Explainer, count: int | None
) -> list[tuple[InputCase, Path]]:
    for folder in (images, references):
        if not folder.is_dir():
            raise BadInput(
                f"{folder} is no folder.",
                help="Give a folder of images and one of their label maps, as imagesTs labelsTs.",
                code="missing-file",
            )
    cases = find_cases(images, len(explainer.bundle.channels))[:count]
    labels = {image_stem(p): p for p in sorted(references.iterdir()) if is_image_name(p)}
    missing = [case.name for case in cases if case.name not in labels]
    if missing:
        raise BadInput(
            f"{references} has no label map of {missing[0]}.",
            help="Name it like its image, without the channel.",
            code="missing-reference",
        )
    return [(case, labels[case.name]) for case in cases]
