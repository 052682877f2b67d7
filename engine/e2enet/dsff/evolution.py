"""Evolution of the connections while the network trains: prune the weakest, grow at random.

E2ENet, arXiv 2312.04727, section 3.1 and algorithm 1, with two faults of the released code mended:
exactly k connections are pruned also when norms tie, so that the number of live ones never changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from e2enet.dsff.connections import Connections

# layer name, dead connections (flat indices, the just-pruned included), k -> the k that are grown
Draw = Callable[[str, Tensor, int], Tensor]


def default_period(total_iterations: int) -> int:
    """Iterations between evolutions: the paper's 1200, fewer in short runs, which evolve too."""
    return min(1200, max(50, total_iterations // 50))


class Evolution:
    """Applies the masks after every optimiser step and evolves them every `period` steps.

    In each layer `k = ceil(zeta * live)` connections with the smallest kernel L1 are pruned, then k
    are drawn from all dead ones. One that is pruned and drawn again in the same step keeps weight
    and momentum, the others start at zero. zeta falls by a cosine over `total_iterations`.

    Args:
        connections: The masks; changed in place.
        total_iterations: Optimiser steps of the whole training.
        period: Steps between evolutions; 0 never evolves.
        zeta_start, zeta_end: First and last share of live connections that is replaced.
        seed: The draws are the same for the same seed on any device.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        total_iterations: int,
        period: int,
        zeta_start: float = 0.5,
        zeta_end: float = 0.001,
        seed: int = 0,
    ) -> None:
        self.connections = connections
        self.total_iterations = total_iterations
        self.period = period
        self.zeta_start = zeta_start
        self.zeta_end = zeta_end
        self.iteration = 0
        self.history: list[dict[str, Any]] = []
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def zeta(self) -> float:
        """Share of live connections that the next evolution replaces."""
        progress = min(1.0, self.iteration / max(1, self.total_iterations))
        swing = (1 + math.cos(math.pi * progress)) / 2
        return self.zeta_end + (self.zeta_start - self.zeta_end) * swing

    @property
    def due(self) -> bool:
        """Whether this iteration evolves: not at S = 0, and not without time to learn after it."""
        return (
            self.period > 0
            and self.iteration > 0
            and self.iteration % self.period == 0
            and self.total_iterations - self.iteration >= self.period
            and self.connections.live < self.connections.total
        )

    def step(self, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any] | None:
        """Call after every optimiser step; returns the record of an evolution if there was one."""
        self.connections.apply(optimizer)
        self.iteration += 1
        return self.evolve(optimizer) if self.due else None

    def record(self, turnover: float | None = None) -> dict[str, Any]:
        """Add the present shares to the history: at the start, by every evolution, at the end."""
        entry = {
            "iteration": self.iteration,
            "zeta": self.zeta,
            "live": self.connections.live,
            "total": self.connections.total,
            "turnover": turnover,
            "nodes": self.connections.shares(),
        }
        self.history.append(entry)
        return entry

    @torch.no_grad()
    def evolve(
        self, optimizer: torch.optim.Optimizer | None = None, draw: Draw | None = None
    ) -> dict[str, Any]:
        """Prune and grow now.

        Args:
            optimizer: Its momentum, or Adam's moments, restart for connections that are new.
            draw: Chooses what grows; at random from the own generator by default.
        """
        changed = 0
        for name, mask in self.connections.masks.items():
            before = mask.clone()
            self._evolve_layer(name, mask, draw or self._draw)
            changed += int((before & ~mask).sum())
        self.connections.apply(optimizer)
        return self.record(turnover=changed / max(1, self.connections.live))

    def _evolve_layer(self, name: str, mask: Tensor, draw: Draw) -> None:
        flat = mask.view(-1)
        live = flat.nonzero().squeeze(1)
        count = math.ceil(self.zeta * live.numel())
        norms = self.connections.kernel_l1(name).reshape(-1)[live]
        # A stable sort takes exactly k, and on ties the same ones on every device.
        weakest = live[torch.sort(norms, stable=True).indices[:count]]
        flat[weakest] = False
        dead = (~flat).nonzero().squeeze(1)
        flat[draw(name, dead, count)] = True

    def _draw(self, name: str, dead: Tensor, count: int) -> Tensor:
        order = torch.randperm(dead.numel(), generator=self._generator)
        return dead[order[:count].to(dead.device)]

    def state_dict(self) -> dict[str, Any]:
        """Iteration, history and random state; the masks are saved with the connections."""
        return {
            "iteration": self.iteration,
            "total_iterations": self.total_iterations,
            "history": self.history,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.iteration = int(state["iteration"])
        self.total_iterations = int(state["total_iterations"])
        self.history = list(state["history"])
        self._generator.set_state(state["generator"])
