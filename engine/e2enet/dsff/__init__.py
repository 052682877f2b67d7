"""Dynamic sparse feature fusion: which connections live, how they evolve, what they cost."""

from e2enet.dsff.connections import Connections
from e2enet.dsff.evolution import Evolution, default_period

__all__ = ["Connections", "Evolution", "default_period"]
