"""Dynamic sparse feature fusion: which connections live, how they evolve, what they cost.

Counting needs shapes only; what changes weights is imported, with PyTorch, when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from e2enet.dsff.complexity import Complexity, complexity
from e2enet.dsff.sparsity import planned_live

if TYPE_CHECKING:
    from e2enet.dsff.connections import Connections
    from e2enet.dsff.evolution import Evolution, default_period

_LAZY = {"Connections": "connections", "Evolution": "evolution", "default_period": "evolution"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


__all__ = [
    "Complexity",
    "Connections",
    "Evolution",
    "complexity",
    "default_period",
    "planned_live",
]
