"""The networks, and the registry by which a bundle names one.

The graph of a network (`e2enet.networks.lattice`) needs nothing but Python. What is made of
PyTorch's modules is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from e2enet.networks.lattice import FLOWS, Lattice, Layer

if TYPE_CHECKING:
    from torch import nn

    from e2enet.networks.e2enet import E2ENet, SparseLayer

# Name of the class -> module it lies in.
NETWORKS = {
    "E2ENet": "e2enet.networks.e2enet",
    "EncoderE2ENet": "e2enet.networks.encoder_e2enet",
    "OmniaNet": "e2enet.networks.omnia",
    "DSNet": "e2enet.networks.dsnet",
    "DXNet": "e2enet.networks.dxnet",
}

# Name of a network that is a lattice -> what makes its graph of the network's arguments.
LATTICES = {"E2ENet": Lattice}


def build_network(kind: str, arguments: dict[str, Any]) -> nn.Module:
    """The network a bundle describes.

    Raises:
        ValueError: There is no such kind, or the arguments do not fit it.
    """
    if kind not in NETWORKS:
        raise ValueError(f"There is no network {kind!r}; known are {', '.join(sorted(NETWORKS))}.")
    network: type[nn.Module] = getattr(import_module(NETWORKS[kind]), kind)
    return _built(kind, network, arguments)  # type: ignore[no-any-return]


def build_lattice(kind: str, arguments: dict[str, Any]) -> Lattice:
    """The graph of the network a bundle describes.

    Raises:
        ValueError: There is no such kind, it is no lattice, or the arguments do not fit it.
    """
    if kind not in LATTICES:
        raise ValueError(f"There is no lattice {kind!r}; known are {', '.join(sorted(LATTICES))}.")
    return _built(kind, LATTICES[kind], arguments)  # type: ignore[no-any-return]


def _built(kind: str, make: Any, arguments: dict[str, Any]) -> Any:
    try:
        return make(**arguments)
    except TypeError as error:
        raise ValueError(f"The arguments of network {kind} do not fit: {error}.") from error


def __getattr__(name: str) -> Any:
    # Lazily: the graph is enough to count, to explain the fusion flow and to segment on a CPU.
    if name in ("E2ENet", "SparseLayer"):
        return getattr(import_module("e2enet.networks.e2enet"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "FLOWS",
    "LATTICES",
    "NETWORKS",
    "E2ENet",
    "Lattice",
    "Layer",
    "SparseLayer",
    "build_lattice",
    "build_network",
]
