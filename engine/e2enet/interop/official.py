"""Released E2ENet checkpoints: their names and ours.

The released code (the paper's, arXiv 2312.04727) names the backbone `conv_blocks_context`, the node
of level i and stage s `loc<z>.<k>` with k = s - 1 and z = levels - 1 - i - s, its transposed
convolution `up<z>.<k>` and the heads `seg_outputs`, finest first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from e2enet.events import BadInput
from e2enet.networks import E2ENet

_FIRST = "conv_blocks_context.0.blocks.0.conv.weight"
_LEVEL = re.compile(r"conv_blocks_context\.(\d+)\.")


class DoesNotFitError(BadInput, ValueError):
    """A state dict is not one of a released E2ENet; the message names the first difference."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message, help=help, code="not-official")


def from_state_dict(
    state_dict: Mapping[str, Any], strides: Sequence[Sequence[int]], shift_groups: int
) -> E2ENet:
    """Build the network of a released state dict of any size, with its weights.

    Levels, channels and classes are read from the shapes. The released code multiplies masks into
    its weights, so that a dead connection is a kernel of zeros; `Connections.from_weights(network)`
    finds them.

    Args:
        state_dict: Released name -> tensor or array, of any floating dtype; also a checkpoint that
            holds it under "state_dict", and names behind a wrapper's prefix such as "module.".
        strides: Pooling kernel (D, H, W) between neighbouring levels, finest first. The weights
            have them as well, so that wrong ones are noticed.
        shift_groups: Depth-shift groups, which no weight shows: 5 in the released code, 3 in the
            paper.

    Returns:
        The network in float32 on the CPU, in eval mode, with deep supervision on.

    Raises:
        DoesNotFitError: (a BadInput and a ValueError) A name is missing or surplus or has another
            shape, the first in the network's order; or the channels do not double up to a bound.

    Example:
        >>> checkpoint = torch.load("model.model", weights_only=True)  # doctest: +SKIP
        >>> network = from_state_dict(checkpoint, [(2, 2, 2)] * 5, 5)  # doctest: +SKIP
        >>> connections = Connections.from_weights(network)  # doctest: +SKIP
    """
    tensors = _unwrapped(state_dict)
    levels = 1 + max((int(m[1]) for m in map(_LEVEL.match, tensors) if m), default=-1)
    if levels < 1:
        raise DoesNotFitError(
            f"The state dict has no {_FIRST}.", help="It is not one of a released E2ENet."
        )
    if levels != len(strides) + 1:
        raise DoesNotFitError(
            f"The state dict has {levels} levels, which need {levels - 1} strides, "
            f"not {len(strides)}."
        )
    base, in_channels = _shape(tensors, _FIRST)[:2]
    channels = [base] + [
        _shape(tensors, released_name(f"backbone.{level}.0.conv.weight", levels))[0]
        for level in range(1, levels)
    ]
    with torch.random.fork_rng(devices=[]):  # its own random weights are thrown away
        network = E2ENet(
            in_channels,
            num_classes=_shape(tensors, "seg_outputs.0.weight")[0],
            strides=strides,
            base_channels=base,
            max_channels=_bound(channels),
            shift_groups=shift_groups,
        )
    network.load_state_dict(_renamed(tensors, network))
    return network.eval()


def released_name(name: str, levels: int) -> str:
    """The released name of a parameter of `E2ENet` with so many levels.

    Example:
        >>> released_name("nodes.5_0.1.conv.weight", levels=6)
        'loc0.4.1.blocks.0.conv.weight'
    """
    part, place, *rest = name.replace(".norm.", ".instnorm.").split(".")
    if part == "heads":
        return ".".join(["seg_outputs", place, *rest])
    if part == "backbone":
        block, *rest = rest
        # The released last level is two stacks of one block instead of one stack of two.
        stack = [block, "blocks", "0"] if int(place) == levels - 1 else ["blocks", block]
        return ".".join(["conv_blocks_context", place, *stack, *rest])
    stage, level = map(int, place.split("_"))
    column = f"{levels - 1 - level - stage}.{stage - 1}"
    if part == "ups":
        return ".".join([f"up{column}", *rest])
    block, *rest = rest
    return ".".join([f"loc{column}", block, "blocks", "0", *rest])


def _unwrapped(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Without the checkpoint around it and the prefix before it."""
    inner = state_dict.get("state_dict")
    if isinstance(inner, Mapping):
        state_dict = inner
    prefix = next((name[: -len(_FIRST)] for name in state_dict if name.endswith(_FIRST)), "")
    if prefix and not all(name.startswith(prefix) for name in state_dict):
        other = next(name for name in state_dict if not name.startswith(prefix))
        raise DoesNotFitError(f"The state dict has {other}, which does not begin with {prefix!r}.")
    return {name[len(prefix) :]: value for name, value in state_dict.items()}


def _shape(tensors: Mapping[str, Any], name: str) -> tuple[int, ...]:
    if name not in tensors:
        raise DoesNotFitError(f"The state dict has no {name}.")
    shape = tuple(tensors[name].shape)
    if len(shape) != 5:
        raise DoesNotFitError(f"{name} has shape {shape}; a 3D convolution's has five axes.")
    return shape


def _bound(channels: Sequence[int]) -> int:
    """The max_channels that gives these channels."""
    base = channels[0]
    doubled = [base * 2**level for level in range(len(channels))]
    bound = max(320, doubled[-1]) if list(channels) == doubled else max(channels)
    if list(channels) != [min(wide, bound) for wide in doubled]:
        raise DoesNotFitError(
            f"The levels have {', '.join(map(str, channels))} channels.",
            help="E2ENet doubles them from level to level up to a bound.",
        )
    return bound


def _renamed(tensors: Mapping[str, Any], network: E2ENet) -> dict[str, Tensor]:
    """Our name -> tensor, or a refusal that says what differs first."""
    ours = {}
    expected = {
        released_name(name, network.levels): (name, shape)
        for name, shape in network.lattice.parameters.items()
    }
    for released, (name, shape) in expected.items():
        if released not in tensors:
            raise DoesNotFitError(f"The state dict has no {released}.")
        given = tuple(tensors[released].shape)
        if given != shape:
            raise DoesNotFitError(
                f"{released} has shape {given}; with these strides it would be {shape}."
            )
        tensor = torch.as_tensor(tensors[released])
        if not tensor.is_floating_point():
            raise DoesNotFitError(f"{released} holds {tensor.dtype}, not floating-point weights.")
        ours[name] = tensor.detach()
    surplus = next((name for name in tensors if name not in expected), None)
    if surplus is not None:
        raise DoesNotFitError(f"The state dict has {surplus}, which an E2ENet of its size has not.")
    return ours
