"""Importance maps of a node, once they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from e2enet.bundle import Bundle, Label
from e2enet.events import BadInput
from e2enet.explain.nodes import DIRECTIONS, Node
from e2enet.inference.case.loading import OpenCase
from e2enet.inference.localisation.regions import Slices, result_labels


@dataclass(frozen=True)
class NodeMaps:
    """Maps of one node and one kind.

    Attributes:
        node: Which node.
        label: The label that the maps are about, or None for the importance.
        raw: direction -> (z, y, x) float32, canonical orientation; 0 where it is not to be read.
        seen: (z, y, x) bool: where it is.
        inside: The box of the image, in canonical orientation, that the arrays are of.
    """

    node: Node
    label: Label | None
    raw: dict[str, np.ndarray]
    seen: np.ndarray
    inside: Slices

    @property
    def scale(self) -> float:
        """What all directions are divided by: the largest value of any of them."""
        return max(float(one.max(initial=0)) for one in self.raw.values())

    def normalised(self, direction: str) -> np.ndarray:
        """(z, y, x) from 0 to 1, on one scale for all directions of the node."""
        return self.raw[direction] / np.float32(self.scale or 1.0)

    def dominant(self) -> np.ndarray:
        """(z, y, x) uint8: 1 forward, 2 upward, 3 downward; 0 where there is nothing."""
        best = np.zeros(self.seen.shape, np.float32)
        result = np.zeros(self.seen.shape, np.uint8)
        for number, direction in enumerate(DIRECTIONS, 1):
            if direction in self.raw:
                larger = self.raw[direction] > best
                result[larger] = number
                np.copyto(best, self.raw[direction], where=larger)
        return result

    def part(self, array: np.ndarray) -> np.ndarray:
        """What an array (z, y, x) of the whole image has in the box of the maps."""
        return array[self.inside]

    def shares(self, where: np.ndarray | None = None) -> dict[str, float]:
        """Each direction's share of the sum over some voxels (all by default)."""
        sums = {
            direction: float((one if where is None else one[where]).sum(dtype=np.float64))
            for direction, one in self.raw.items()
        }
        total = sum(sums.values())
        return {direction: s / total if total else 0.0 for direction, s in sums.items()}


def scale_shares(found: Sequence[NodeMaps]) -> list[dict[str, Any]]:
    """Of what each label rests on in the forward flows of some nodes, the share of each node.

    In the decoder of a U-Net these flows are the skips: the scales of the encoder.
    """
    scales: list[dict[str, Any]] = []
    for maps in found:
        if maps.label is None:
            continue
        label = {"value": maps.label.value, "name": maps.label.name}
        if not scales or scales[-1]["label"] != label:
            scales.append({"label": label, "nodes": []})
        score = float(maps.raw["forward"].sum(dtype=np.float64))
        node = {"stage": maps.node.stage, "level": maps.node.level, "share": score}
        scales[-1]["nodes"].append(node)
    for entry in scales:
        total = sum(node["share"] for node in entry["nodes"])
        for node in entry["nodes"]:
            node["share"] = round(node["share"] / total, 6) if total else 0.0
    return scales


def find_label(text: str, case: OpenCase, bundle: Bundle) -> Label:
    """A label by name or number, as the segmentation of the case calls it or as the model does.

    Raises:
        BadInput: There is none; the message lists those there are.
    """
    regional = result_labels([job.region for job in case.jobs])
    known = [*regional, *(one for one in bundle.labels if one not in regional)]
    text = text.strip()
    # A number is one of the segmentation's; a name may also be the model's own.
    for label in regional:
        if text in (str(label.value), label.name) or text.lower() == label.name.lower():
            return label
    for label in bundle.labels:
        if text.lower() == label.name.lower():
            return label
    listed = ", ".join(dict.fromkeys(f"{one.name}" for one in known))
    raise BadInput(
        f"The model {bundle.name} has no label {text!r}.",
        help=f"Its labels are {listed}.",
        code="no-label",
    )
