"""Names of the fused nodes and of the flows into them.

The decoder of a U-Net is the last diagonal of a lattice: each of its levels joins the encoder's
skip (forward) with what comes from the coarser level (upward), and nothing from the finer one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from e2enet.bundle import Bundle
from e2enet.events import BadInput
from e2enet.networks.lattice import FLOWS, fused_nodes, last_diagonal

DIRECTIONS = FLOWS
# Okabe and Ito's colours, which stay apart in the common forms of colour blindness.
COLORS = {"forward": "#009E73", "upward": "#D55E00", "downward": "#0072B2"}


# Networks that are U-Nets -> levels of their decoder and the one below it.
DECODERS = {"OmniaNet": 6, "DXNet": 6, "DSNet": 5}


class Node(NamedTuple):
    """A fused node: stage from 1 up, level 0 at full resolution."""

    stage: int
    level: int

    def __str__(self) -> str:
        return f"{self.stage}:{self.level}"

    @property
    def directions(self) -> tuple[str, ...]:
        """Where its input comes from; nothing lies above level 0."""
        return DIRECTIONS if self.level else DIRECTIONS[:2]


def lattice(levels: int) -> list[Node]:
    """The fused nodes of a network with this many levels, by stage, then level."""
    return [Node(*place) for place in sorted(fused_nodes(levels))]


def output_nodes(levels: int) -> list[Node]:
    """The last diagonal, finest first: whatever the network says has passed through 0 of it."""
    return [Node(*place) for place in last_diagonal(levels)]


def nodes_of(bundle: Bundle) -> dict[Node, tuple[str, ...]]:
    """The fused nodes of a model by stage, then level, and the directions that enter each.

    Read off its description, without PyTorch.
    """
    network = bundle.model["network"]
    levels = DECODERS.get(network["kind"])
    if levels is None:
        return {node: node.directions for node in lattice(len(network["arguments"]["strides"]) + 1)}
    return dict.fromkeys(sorted(output_nodes(levels)), DIRECTIONS[:2])


def parse_nodes(text: str | Sequence[str] | None, known: Sequence[Node]) -> list[Node]:
    """Nodes as a person names them: `STAGE:LEVEL`, comma-separated, or `all`.

    Args:
        text: One or several such texts; None gives the last diagonal.
        known: The nodes of the network.

    Raises:
        BadInput: A node that the network lacks; the message lists those it has.
    """
    if text is None:
        last = max(node.stage + node.level for node in known)
        return sorted(node for node in known if node.stage + node.level == last)[::-1]
    words = [text] if isinstance(text, str) else list(text)
    chosen: list[Node] = []
    for word in (part.strip() for one in words for part in one.split(",")):
        if word.lower() == "all":
            chosen += known
            continue
        match = re.fullmatch(r"(\d+)[:_.](\d+)", word)
        node = Node(int(match[1]), int(match[2])) if match else None
        if node is None or node not in known:
            raise BadInput(
                f"The model has no node {word!r}.",
                help=f"Its nodes (stage:level) are {', '.join(map(str, known))}; or say all.",
                code="no-node",
            )
        chosen.append(node)
    return list(dict.fromkeys(chosen))
