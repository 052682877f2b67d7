"""Does the importance say something about the network? Delete what it calls important and see.

In the first convolution of each fused node, one node at a time, the same count of live connections
is deleted by different rules, and the loss of Dice is averaged over nodes and cases (after Samek et
al., IEEE TNNLS 2017, who delete regions of an image). Rules:

    importance-high   the most important where the model finds structures
    importance-low    the least important there
    image-high        the most important over the whole image
    centred-high      as importance-high, without the constant part of each map
    gradient-high     the largest first-order effect on the labels
    l1-high           the largest kernel L1, whatever the image
    random            drawn evenly; mean over several seeds

The importance of a connection is what it adds to A_d of `e2enet.explain.importance`, averaged over
a set of voxels V:

    I(o, c) = ‖θ[o,c]‖₁ · mean_{v in V} |x_c(v)|,  so that  Σ_{o, c in d} M[o,c] · I(o, c) is the
    mean of A_d(v) over V.

V is where the model gives a label (on a coarser grid each voxel counts by its share of such
voxels), because Dice is about them; nine tenths of an image are background, and "image-high", with
all voxels in V, follows that instead. "centred" has |x_c(v) - mean x_c| in place of |x_c(v)|: the
instance norm after the convolution takes constants away, and A_d does not know that. The gradient
form belongs to G_d:

    J(o, c) = | Σ_v ∂y/∂(θ[o,c] ∗ x_c)(v) · (θ[o,c] ∗ x_c)(v) | = | Σ_taps θ[o,c] · ∂y/∂θ[o,c] |

with y the sum of y_k over all labels. One node at a time, because a network of so few connections
has bottlenecks: with all nodes at once a label is lost altogether at 1 %, by any rule but random,
and the order of the rules is chance.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2enet.data.images.naming import image_stem, is_image_name
from e2enet.data.images.orientation import to_canonical
from e2enet.data.images.volume import Volume, check_same_grid, read_label
from e2enet.dsff import Connections
from e2enet.evaluation.metrics.overlap import Counts, mean
from e2enet.events import BadInput, Reporter
from e2enet.explain.importance import first_layers, inputs_of
from e2enet.explain.nodes import Node, nodes_of
from e2enet.explain.volumes import Explainer
from e2enet.inference.case.inputs import InputCase, find_cases
from e2enet.inference.case.loading import OpenCase, open_case
from e2enet.networks import SparseLayer
from e2enet.networks.segmentation import Fusion

SEEDS = 3
FRACTIONS = (0.05, 0.1, 0.2)
RULES = (
    "importance-high",
    "importance-low",
    "image-high",
    "centred-high",
    "gradient-high",
    "l1-high",
    "random",
)
Scores = dict[str, Tensor]  # layer name -> score of each connection, shaped as the mask


@dataclass(frozen=True)
class Faithfulness:
    """Loss of Dice by deletion.

    Attributes:
        cases: Names of the cases.
        intact: Mean Dice of each case with all connections.
        losses: (rule, fraction, node) -> loss of each case (intact minus deleted; random: mean of
            the seeds). The fraction is of the live connections of the node's first convolution.
        seeds: Draws of the random rule.
    """

    cases: list[str]
    intact: list[float]
    losses: dict[tuple[str, float, Node], list[float]]
    seeds: int

    @property
    def fractions(self) -> list[float]:
        """Shares of the live connections that were deleted, ascending."""
        return sorted({fraction for _, fraction, _ in self.losses})

    @property
    def nodes(self) -> list[Node]:
        """Nodes whose connections were deleted."""
        return sorted({node for _, _, node in self.losses})

    def by_case(self, rule: str, fraction: float) -> list[float]:
        """Mean loss of Dice over the nodes, for each case."""
        columns = [self.losses[rule, fraction, node] for node in self.nodes]
        return [mean(one) for one in zip(*columns, strict=True)]

    def mean(self, rule: str, fraction: float) -> float:
        """Mean loss of Dice over nodes and cases."""
        return mean(self.by_case(rule, fraction))

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
                    "mean_loss": round(self.mean(rule, fraction), 4),
                    "by_case": [round(v, 4) for v in self.by_case(rule, fraction)],
                    "by_node": [
                        {
                            "stage": node.stage,
                            "level": node.level,
                            "mean_loss": round(mean(self.losses[rule, fraction, node]), 4),
                        }
                        for node in self.nodes
                    ],
                }
                for rule in RULES
                for fraction in self.fractions
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
        fractions: Shares of the live connections of each node's first convolution to delete.
        seeds: Draws of the random rule.
        reporter: Receives progress as stage "faithfulness".

    Raises:
        BadInput: A case without a reference, or one that the model cannot take.
    """
    reporter = reporter or Reporter()
    pairs = _pairs(Path(images), Path(references), explainer, count)
    intact: list[float] = []
    losses: dict[tuple[str, float, Node], list[float]] = {}
    nodes = first_layers(explainer.network, list(nodes_of(explainer.bundle)))
    recorder, explainer.reporter = explainer.reporter, Reporter()
    done, total = 0, len(pairs) * len(nodes)
    try:
        for files, reference in pairs:
            reporter.progress("faithfulness", done, total)
            case = open_case(files, explainer.bundle)
            truth = _truth(case, reference, files.paths[0].name)
            whole, scores = _scores(explainer, case, truth, list(nodes.values()))
            intact.append(whole)
            for node, layer in nodes.items():
                for rule, fraction in itertools.product(RULES, fractions):
                    lost = []
                    for seed in range(seeds if rule == "random" else 1):
                        ranks = _ranks(explainer.connections, scores, rule, layer.name, seed)
                        with deleted(explainer.connections, {layer.name: ranks}, fraction):
                            lost.append(whole - _dice(explainer, case, truth))
                    losses.setdefault((rule, fraction, node), []).append(mean(lost))
                done += 1
                reporter.progress("faithfulness", done, total)
    finally:
        explainer.reporter = recorder
    return Faithfulness([files.name for files, _ in pairs], intact, losses, seeds)


@contextmanager
def deleted(
    connections: Connections, scores: Mapping[str, Tensor], fraction: float
) -> Iterator[int]:
    """For a while, take the highest-scoring live connections out of layers.

    Args:
        connections: The network's; its masks stay as they are.
        scores: Layer name -> score of each connection, for the layers to take from.
        fraction: Of the live connections of each layer; `round(fraction * live)` go.

    Yields:
        How many were taken out.
    """
    before, count = {}, 0
    with torch.no_grad():
        for name, values in scores.items():
            mask, weight = connections.masks[name], connections.layers[name].weight
            before[name] = weight.detach().clone()
            live = mask.flatten().nonzero().squeeze(1)
            gone = round(fraction * live.numel())
            order = torch.sort(values.to(mask.device).flatten()[live], descending=True, stable=True)
            chosen = live[order.indices[:gone]]
            weight[chosen // mask.shape[1], chosen % mask.shape[1]] = 0
            count += gone
    try:
        yield count
    finally:
        with torch.no_grad():
            for name, kept in before.items():
                connections.layers[name].weight.copy_(kept)


def connection_importance(connections: Connections, means: Mapping[str, Tensor]) -> Scores:
    """I(o, c) of every connection of some fusion convolutions.

    Args:
        connections: The network's.
        means: Layer name -> mean of |x_c(v)| over some voxels, (C_in,).
    """
    return {name: connections.kernel_l1(name) * mean[None] for name, mean in means.items()}


def _found(logits: Tensor, regions: bool) -> Tensor:
    """Where an output is what a voxel is given: (B, K, D, H, W) bool, without the background."""
    if regions:
        return logits > 0
    winner = logits.argmax(1, keepdim=True)
    classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1, 1)
    return (winner == classes) & (classes > 0)


class MeanInputs(nn.Module):
    """A network that remembers the mean absolute value of each map that enters its layers.

    Attributes:
        sums: kind -> layer name -> (C_in,), divided by `weights` to give `means`. Kinds are
            "image" (all voxels), "importance" (where a label wins) and "centred" (there, after the
            map's own mean over the window is taken away).
    """

    def __init__(
        self, network: nn.Module, layers: Sequence[SparseLayer | Fusion], regions: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.layers = list(layers)
        self.regions = regions
        self.sums: dict[str, dict[str, Tensor]] = {}
        self.weights: dict[str, dict[str, float]] = {}

    def forward(self, windows: Tensor) -> Any:
        with inputs_of(self.layers) as inputs:
            logits = self.network(windows)
            finest = logits[0] if isinstance(logits, (list, tuple)) else logits
            inside = _found(finest, self.regions).any(1, keepdim=True).float()
            for name, x in inputs.items():
                x = x.float()
                share = F.adaptive_avg_pool3d(inside, (x.shape[2], x.shape[3], x.shape[4]))
                centred = x - x.mean((2, 3, 4), keepdim=True)
                self._add("image", name, x.abs(), torch.ones_like(share))
                self._add("importance", name, x.abs(), share)
                self._add("centred", name, centred.abs(), share)
        return logits

    def _add(self, kind: str, name: str, values: Tensor, share: Tensor) -> None:
        sums, weights = self.sums.setdefault(kind, {}), self.weights.setdefault(kind, {})
        total = torch.einsum("bcdhw,bxdhw->c", values, share).double()
        sums[name] = sums.get(name, torch.zeros_like(total)) + total
        weights[name] = weights.get(name, 0.0) + float(share.sum(dtype=torch.float64))

    def means(self, kind: str) -> dict[str, Tensor]:
        """Layer name -> (C_in,) mean of a kind; over the whole image where no label won."""
        result = {}
        for name, total in self.sums[kind].items():
            weight = self.weights[kind][name]
            if not weight:
                total, weight = self.sums["image"][name], self.weights["image"][name]
            result[name] = (total / weight).float()
        return result


class WeightGradients(nn.Module):
    """A network that remembers Σ_taps θ · ∂y/∂θ of its layers, signed, summed over windows."""

    def __init__(
        self, network: nn.Module, layers: Sequence[SparseLayer | Fusion], regions: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.layers = list(layers)
        self.regions = regions
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
            score = logits[_found(logits, self.regions)].sum()
            gradients = torch.autograd.grad(score, weights)
            for layer, weight, gradient in zip(self.layers, weights, gradients, strict=True):
                product = (weight.detach() * gradient).flatten(2).sum(2)
                self.sums[layer.name] = self.sums.get(layer.name, 0) + product
                weight.requires_grad_(False)
        return logits.detach()


def _scores(
    explainer: Explainer, case: OpenCase, truth: np.ndarray, layers: Sequence[SparseLayer | Fusion]
) -> tuple[float, dict[str, Scores]]:
    """Dice of the intact network, and the scores of the connections of layers by rule."""
    connections = explainer.connections
    regions = explainer.bundle.regions
    watched = MeanInputs(explainer.network, layers, regions)
    whole = _mean_dice(explainer, case, truth, explainer.segment(case, watched))
    gradients = WeightGradients(explainer.network, layers, regions)
    explainer.segment(case, gradients)
    scores = {
        kind: connection_importance(connections, watched.means(kind)) for kind in watched.sums
    }
    scores["l1"] = {layer.name: connections.kernel_l1(layer.name) for layer in layers}
    scores["gradient"] = {name: total.abs() for name, total in gradients.sums.items()}
    return whole, scores


def _ranks(
    connections: Connections, scores: dict[str, Scores], rule: str, name: str, seed: int
) -> Tensor:
    if rule == "random":
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(connections.masks[name].shape, generator=generator)
    kind, _, end = rule.rpartition("-")
    return scores[kind][name] * (1 if end == "high" else -1)


def _dice(explainer: Explainer, case: OpenCase, truth: np.ndarray) -> float:
    return _mean_dice(explainer, case, truth, explainer.segment(case))


def _mean_dice(explainer: Explainer, case: OpenCase, truth: np.ndarray, found: np.ndarray) -> float:
    scores = []
    for label in explainer.labels(case):
        values = label.values or (label.value,)
        scores.append(Counts.of(np.isin(found, values), np.isin(truth, values)).dice)
    return mean(scores)


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
