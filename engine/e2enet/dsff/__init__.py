"""Dynamic sparse feature fusion: which connections live, how they evolve, what they cost."""

from e2enet.dsff.complexity import Complexity, complexity
from e2enet.dsff.connections import Connections, planned_live
from e2enet.dsff.evolution import Evolution, default_period

__all__ = [
    "Complexity",
    "Connections",
    "Evolution",
    "complexity",
    "default_period",
    "planned_live",
]
