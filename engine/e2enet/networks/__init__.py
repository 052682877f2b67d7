"""The networks, and the registry by which a bundle names one."""

from __future__ import annotations

from typing import Any

from torch import nn

from e2enet.networks.e2enet import FLOWS, E2ENet, SparseLayer

NETWORKS: dict[str, type[nn.Module]] = {"E2ENet": E2ENet}


def build_network(kind: str, arguments: dict[str, Any]) -> nn.Module:
    """The network a bundle describes.

    Raises:
        ValueError: There is no such kind, or the arguments do not fit it.
    """
    if kind not in NETWORKS:
        raise ValueError(f"There is no network {kind!r}; known are {', '.join(sorted(NETWORKS))}.")
    try:
        return NETWORKS[kind](**arguments)
    except TypeError as error:
        raise ValueError(f"The arguments of network {kind} do not fit: {error}.") from error


__all__ = ["FLOWS", "NETWORKS", "E2ENet", "SparseLayer", "build_network"]
