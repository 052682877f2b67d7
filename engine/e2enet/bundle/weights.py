"""The weights of a bundle: dense layers whole, sparse layers with their live kernels only.

For a sparse layer NAME the file holds `NAME.weight.live` (live kernels one after the other) and
`NAME.weight.mask` (one bit a connection) instead of `NAME.weight`.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from e2enet.bundle.description import damaged_model
from e2enet.dsff import Connections
from e2enet.networks import E2ENet

_LIVE, _MASK = ".weight.live", ".weight.mask"


def save_weights(path: Path, network: nn.Module, connections: Connections) -> None:
    """Write the weights of a network; dead kernels are left out."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    for name, mask in connections.state_dict().items():
        weight, mask = tensors.pop(f"{name}.weight"), mask.cpu()
        tensors[name + _LIVE] = weight[mask].contiguous()
        tensors[name + _MASK] = torch.from_numpy(np.packbits(mask.numpy(), axis=None))
    save_file(tensors, path)


def load_weights(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """Load weights into a network; returns the masks of its sparse layers.

    Raises:
        BadInput: The file is damaged or belongs to another network; names what differs first.
    """
    tensors = _read(path)
    masks = _expand(tensors, cast(E2ENet, network), path)
    expected = network.state_dict()
    for name in [*expected, *tensors]:
        if name not in tensors or name not in expected:
            raise damaged_model(path, f"and the network differ first in {name}")
        if tensors[name].shape != expected[name].shape:
            raise damaged_model(
                path,
                f"holds {name} of shape {tuple(tensors[name].shape)} where the network has "
                f"{tuple(expected[name].shape)}",
            )
    network.load_state_dict(tensors)
    return masks


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise damaged_model(path, "is missing") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged_model(path, f"cannot be read: {error}") from error


def _expand(tensors: dict[str, Tensor], network: E2ENet, path: Path) -> dict[str, Tensor]:
    """Put whole weights in the place of live kernels, and return the masks."""
    masks = {}
    for name, layer in network.sparse_layers().items():
        weight = layer.weight.detach()
        live, bits = tensors.pop(name + _LIVE, None), tensors.pop(name + _MASK, None)
        if live is None or bits is None:
            raise damaged_model(path, f"lacks the kernels or the mask of {name}")
        count = weight.shape[0] * weight.shape[1]
        if bits.dtype != torch.uint8 or bits.numel() != -(-count // 8):
            raise damaged_model(path, f"holds a mask of {name} that does not fit the layer")
        mask = torch.from_numpy(np.unpackbits(bits.numpy(), count=count).astype(bool))
        mask = mask.view(weight.shape[:2])
        if tuple(live.shape) != (int(mask.sum()), *weight.shape[2:]):
            raise damaged_model(path, f"holds kernels of {name} that do not fit its mask")
        full = torch.zeros_like(weight)
        full[mask] = live.to(full.dtype)
        tensors[f"{name}.weight"] = full
        masks[name] = mask
    return masks
