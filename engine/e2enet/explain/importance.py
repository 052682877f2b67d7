"""Fusion importance: how much of what enters a fused node comes from which side, voxel by voxel.

For a node and a direction d (forward, upward, downward), with x_c the node's input map c after
depth-shift, θ the kernels of the node's first convolution and M its mask:

    A_d(v) = Σ_{c in d} ( Σ_o M[o,c] · ‖θ[o,c]‖₁ ) · |x_c(v)|                       ("importance")

Evidence of: how much signal the node takes in at v from d. Σ_v A_d(v) is the largest sum of
absolute contributions that d can make to the node's convolution (reached where no terms cancel),
so directions of one node are in one unit and can be compared.

Not evidence of: the decision. What cancels, what the instance norm takes away again (the constant
part of a map) and what later nodes ignore all count. Nodes are not comparable with each other,
because each norm rescales. Nor does it say where information came from in the image: a map already
sums up its surroundings, and the deeper the node, the wider. Depth-shift has been applied: two
thirds of the maps show the neighbouring slice. Read it where the structures are: averaged over the
whole image it tells less of the segmentation than the kernels' size does, and where the structures
are, more (`e2enet.explain.faithfulness`, on the model hippocampus-mr).

For a label k, with z_k its logit and V_k the voxels of the window whose largest logit is z_k (of a
region, whose z_k is positive):

    y_k = Σ_{u in V_k} z_k(u),      G_d(v) = Σ_{c in d} | ∂y_k/∂x_c(v) · x_c(v) |       ("label")

This is gradient times input (Shrikumar et al., arXiv 1605.01713; of the family of Grad-CAM,
Selvaraju et al., ICCV 2017). The gradient reaches x_c through live kernels alone, because a dead
one is zero: no further restriction is needed.

Evidence of: to first order, which inputs of the node the label's score hangs on. Maps that the
rest of the network ignores or the norm removes fall out.

Not evidence of: what would happen without them (the network is not linear, and saturated evidence
has a small gradient), nor of their sign (absolute values are summed), nor of a cause in the
patient. A label that the model does not give in a window gets 0 there.

Both live on the node's grid. They are interpolated linearly to the window, where a voxel of a
level counts as the box of the full-resolution voxels that it stands for; G_d is shared out among
them, so that its sums, all in the unit of the score, can be compared from node to node.

In the decoder of a U-Net no connection is dead (M = 1) and nothing is shifted. Its forward flow is
the skip from the encoder, so G_forward of its nodes says to first order on which of the encoder's
scales a label hangs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2enet.dsff import Connections
from e2enet.explain.nodes import DIRECTIONS, Node
from e2enet.networks import E2ENet, SparseLayer
from e2enet.networks.segmentation import Fusion, SegmentationNetwork, as_volumes


@dataclass(frozen=True)
class MapKey:
    """What one map shows: a node, a direction, and a class or None for the importance."""

    node: Node
    direction: str
    label: int | None = None


def first_layers(
    network: E2ENet | SegmentationNetwork, nodes: Sequence[Node]
) -> dict[Node, SparseLayer | Fusion]:
    """The first convolution of each node."""
    found: dict[Node, SparseLayer | Fusion] = {
        Node(layer.stage, layer.level): layer for layer in network.fusions()
    }
    return {node: found[node] for node in nodes}


@contextmanager
def inputs_of(layers: Sequence[SparseLayer | Fusion]) -> Iterator[dict[str, Tensor]]:
    """Collect what enters layers: name -> (B, C, D, H, W), shifted and concatenated.

    A network of slices gives (B * D, C, H, W).

    The maps are the tensors of the network itself: it writes a concatenation once and does not
    touch it again, so they stay valid, and they are part of the graph where there is one.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            found[name] = args[0]

        return hook

    handles = [layer.module.register_forward_pre_hook(keep(layer.name)) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


class FusionMaps(nn.Module):
    """A network that answers with importance maps instead of logits.

    Args:
        network: In eval mode; its parameters no longer take gradients.
        connections: Its live connections.
        nodes: Which nodes to look at.
        classes: Outputs of the network for the label form; none for the importance alone.
        regions: Whether outputs are regions, which do not compete.

    Attributes:
        keys: What each map shows, in the order of `forward`'s channels.
    """

    def __init__(
        self,
        network: E2ENet | SegmentationNetwork,
        connections: Connections,
        nodes: Sequence[Node],
        classes: Sequence[int] = (),
        *,
        regions: bool = False,
    ) -> None:
        super().__init__()
        self.regions = regions
        self.network = network.requires_grad_(False)
        self.classes = tuple(classes)
        self.layers = first_layers(network, nodes)
        self._weights = {}
        for number, (node, layer) in enumerate(self.layers.items()):
            # The network may be on a GPU already, the masks are not.
            mass = layer.weight.detach().cpu().flatten(2).abs().sum(2)
            if layer.name in connections.masks:
                mass = mass * connections.masks[layer.name].cpu()
            mass = mass.sum(0)
            # A buffer moves to another device with the module.
            self.register_buffer(f"mass_{number}", mass, persistent=False)
            self._weights[node] = f"mass_{number}"
        self.keys = [
            MapKey(node, direction, label)
            for label in (None, *self.classes)
            for node in self.layers
            for direction in DIRECTIONS
            if direction in self.layers[node].flows
        ]

    def forward(self, windows: Tensor) -> Tensor:
        """(B, C, D, H, W) -> (B, len(keys), D, H, W) float32, none negative."""
        if not self.classes:
            with torch.no_grad(), inputs_of(list(self.layers.values())) as inputs:
                self.network(windows)
                with torch.autocast(windows.device.type, enabled=False):
                    return self._resized(self._importance(inputs, len(windows)), windows.shape[2:])
        # Single precision: the gradient of a sum over many voxels leaves the range of half.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(windows.device.type, enabled=False),
            inputs_of(list(self.layers.values())) as inputs,
        ):
            # A clone made here may be part of a graph, which a tensor of inference mode may not.
            logits = self.network(windows.clone().requires_grad_())
            logits = logits[0] if isinstance(logits, (list, tuple)) else logits
            size = windows.shape[2:]
            of_labels = self._of_labels(inputs, logits)
            shared = [one * (one[0, 0].numel() / math.prod(size)) for one in of_labels]
            return self._resized([*self._importance(inputs, len(windows)), *shared], size)

    def _importance(self, inputs: dict[str, Tensor], batch: int) -> list[Tensor]:
        maps = []
        for node, layer in self.layers.items():
            x, mass = (
                _volumes(inputs[layer.name].detach(), batch),
                getattr(self, self._weights[node]),
            )
            for start, stop in self._ranges(layer):
                maps.append(_weighted(x[:, start:stop].float().abs(), mass[start:stop]))
        return maps

    def _of_labels(self, inputs: dict[str, Tensor], logits: Tensor) -> list[Tensor]:
        maps = []
        winner = logits.detach().argmax(1)
        layers = list(self.layers.values())
        wanted = [inputs[layer.name] for layer in layers]
        for number, label in enumerate(self.classes):
            own = logits[:, label]
            score = own[own > 0 if self.regions else winner == label].sum()
            last = number + 1 == len(self.classes)
            gradients = torch.autograd.grad(score, wanted, retain_graph=not last)
            for layer, x, gradient in zip(layers, wanted, gradients, strict=True):
                product = _volumes((gradient * x.detach()).abs_(), len(logits))
                maps += [product[:, a:b].sum(1, keepdim=True) for a, b in self._ranges(layer)]
        return maps

    @staticmethod
    def _ranges(layer: SparseLayer | Fusion) -> list[tuple[int, int]]:
        return [layer.flows[d] for d in DIRECTIONS if d in layer.flows]

    @staticmethod
    def _resized(maps: list[Tensor], size: Sequence[int]) -> Tensor:
        return torch.cat([to_grid(one.float(), size) for one in maps], 1)


def to_grid(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate maps (B, K, d, h, w) linearly to (B, K, *size); the grids cover one box."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="trilinear", align_corners=False)


def _volumes(x: Tensor, batch: int) -> Tensor:
    """(B, C, D, H, W) as it is, (B * D, C, H, W) as such."""
    return x if x.ndim == 5 else as_volumes(x, batch)


def _weighted(x: Tensor, mass: Tensor) -> Tensor:
    """(B, C, D, H, W) and (C,) -> (B, 1, D, H, W)."""
    return torch.einsum("bcdhw,c->bdhw", x, mass.to(x.dtype)).unsqueeze(1)
