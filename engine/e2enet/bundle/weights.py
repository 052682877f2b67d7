"""The weights of a bundle: dense layers whole, sparse layers with their live kernels only.

For a sparse layer NAME the file holds `NAME.weight.live` (live kernels one after the other) and
`NAME.weight.mask` (one bit a connection) instead of `NAME.weight`. They are read into arrays;
PyTorch is imported when a module is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from e2enet.bundle.description import damaged_model
from e2enet.extras import need_torch
from e2enet.networks import LATTICES, Lattice, build_lattice, build_network

if TYPE_CHECKING:
    from torch import nn

    from e2enet.dsff import Connections

_LIVE, _MASK = ".weight.live", ".weight.mask"

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class StoredNetwork:
    """A trained network as a bundle holds it.

    Attributes:
        kind, arguments: Of the network, as model.json has them.
        lattice: Its graph; None for a network that is none.
        arrays: Parameter name -> array; dead kernels are zeros.
        masks: Name of a sparse layer -> live connections over the first two axes of its weight.
    """

    kind: str
    arguments: dict[str, Any]
    lattice: Lattice | None
    arrays: Arrays
    masks: Arrays

    @property
    def live_by_layer(self) -> dict[str, int]:
        """Number of live connections of each sparse layer."""
        return {name: int(mask.sum()) for name, mask in self.masks.items()}

    @property
    def density(self) -> float:
        """Live connections of all connections."""
        total = sum(mask.size for mask in self.masks.values())
        return sum(self.live_by_layer.values()) / total if total else 1.0

    def module(self) -> nn.Module:
        """The network as a module of PyTorch, in eval mode on the CPU.

        Raises:
            BadInput: PyTorch is not installed.
        """
        network = fresh_network(self.kind, self.arguments)
        import torch

        network.load_state_dict({name: torch.from_numpy(a) for name, a in self.arrays.items()})
        return network.eval()


def fresh_network(kind: str, arguments: dict[str, Any]) -> nn.Module:
    """A network with weights that will be replaced; the random state stays as it was.

    Raises:
        BadInput: PyTorch is not installed.
    """
    need_torch(f"The network {kind} as a module")
    import torch

    with torch.random.fork_rng(devices=[]):
        return build_network(kind, arguments)


def save_weights(path: Path, network: nn.Module, connections: Connections) -> None:
    """Write the weights of a network; dead kernels are left out."""
    arrays = {name: t.detach().cpu().numpy() for name, t in network.state_dict().items()}
    for name, masked in connections.state_dict().items():
        weight, mask = arrays.pop(f"{name}.weight"), masked.cpu().numpy()
        arrays[name + _LIVE] = weight[mask]
        arrays[name + _MASK] = np.packbits(mask, axis=None)
    # Not ascontiguousarray, which makes a vector of the single number that a batch norm counts.
    save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)


def load_weights(path: Path, kind: str, arguments: dict[str, Any]) -> StoredNetwork:
    """Read weights and compare them with the network that they are for.

    Raises:
        BadInput: The file is damaged or belongs to another network; names what differs first.
        ValueError: No such network can be built.
    """
    lattice = build_lattice(kind, arguments) if kind in LATTICES else None
    if lattice is not None:
        sparse: Shapes = {name: layer.shape for name, layer in lattice.sparse_layers.items()}
        expected: Shapes = lattice.parameters
    else:
        sparse, expected = _shapes(fresh_network(kind, arguments))
    arrays = _read(path)
    masks = _expand(arrays, sparse, path)
    for name in [*expected, *arrays]:
        if name not in arrays or name not in expected:
            raise damaged_model(path, f"and the network differ first in {name}")
        if arrays[name].shape != expected[name]:
            raise damaged_model(
                path,
                f"holds {name} of shape {arrays[name].shape} where the network has "
                f"{expected[name]}",
            )
    return StoredNetwork(kind, arguments, lattice, arrays, masks)


def _shapes(network: nn.Module) -> tuple[Shapes, Shapes]:
    """Of the sparse layers and of everything in the state dict."""
    layers: Any = getattr(network, "sparse_layers", dict)()
    state = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    return {name: layer.shape for name, layer in layers.items()}, state


def _read(path: Path) -> Arrays:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise damaged_model(path, "is missing") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise damaged_model(path, f"cannot be read: {error}") from error


def _expand(arrays: Arrays, sparse: Shapes, path: Path) -> Arrays:
    """Put whole weights in the place of live kernels, and return the masks."""
    masks = {}
    for name, shape in sparse.items():
        live, bits = arrays.pop(name + _LIVE, None), arrays.pop(name + _MASK, None)
        if live is None or bits is None:
            raise damaged_model(path, f"lacks the kernels or the mask of {name}")
        count = shape[0] * shape[1]
        if bits.dtype != np.uint8 or bits.size != -(-count // 8):
            raise damaged_model(path, f"holds a mask of {name} that does not fit the layer")
        mask = np.unpackbits(bits, count=count).astype(bool).reshape(shape[:2])
        if live.shape != (int(mask.sum()), *shape[2:]):
            raise damaged_model(path, f"holds kernels of {name} that do not fit its mask")
        full = np.zeros(shape, np.float32)
        full[mask] = live
        arrays[f"{name}.weight"] = full
        masks[name] = mask
    return masks
