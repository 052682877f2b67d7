"""One explanation: the volume goes to `e2enet explain`, its maps come to the scene."""

import json
from dataclasses import dataclass
from typing import ClassVar

from E2ENetSegmentationLib.explain.maps import FusionMaps
from E2ENetSegmentationLib.explain.nodes import (
    identityOf,
    nodeName,
    nodesOf,
    nodeTitle,
)
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.mrml import hierarchy, volumes
from E2ENetSegmentationLib.mrml.run import InputRequest, InputRun
from E2ENetSegmentationLib.refusal import Refused


@dataclass
class ExplainRequest(InputRequest):
    """What is to be explained.

    Attributes:
        node: (stage, level).
        label: Name of the label that the map is about, or "" for the importance.
        runNode: The segmentation that the explanation belongs to, or None.
    """

    VERB: ClassVar[str] = "explain"

    node: tuple = (1, 0)
    label: str = ""
    runNode: object = None

    @property
    def nodeName(self) -> str:
        return nodeName(self.node)

    @property
    def directions(self) -> tuple:
        return nodesOf(self.model)[tuple(self.node)]

    @property
    def place(self):
        """What the explanation lies beside in the subject hierarchy, or None."""
        for node in (self.runNode, *self.volumeNodes[:1]):
            if node is not None and node.GetScene() is not None:
                return node
        return None

    def check(self) -> None:
        known = nodesOf(self.model)
        if tuple(self.node) not in known:
            raise Refused(
                _("{model} has nothing at {node}.").format(
                    model=self.model.title, node=nodeTitle(self.node)
                )
            )
        super().check()

    def toArguments(self, inputs: list, output: str, region: str) -> list:
        arguments = super().toArguments(inputs, output, region)
        arguments += ["--nodes", self.nodeName]
        return [*arguments, "--label", self.label] if self.label else arguments

    def key(self) -> str:
        """Names the maps of this request among those of its volumes."""
        box = self.box() or ""
        return "|".join([identityOf(self.model), self.nodeName, self.label, str(box)])


@dataclass
class ExplainResult:
    """What came of a request: `FusionMaps` and the engine's warnings."""

    request: ExplainRequest
    maps: FusionMaps
    warnings: list


class ExplainRun(InputRun):
    """One run of `e2enet explain`; see `InputRun`."""

    OUTPUT = "explanation"

    def _load(self) -> None:
        request = self.request
        index = self._read("explain.json")
        arrays, matrix, tops, shares = {}, None, {}, {}
        for entry in index["volumes"]:
            if not self._wanted(entry) or not entry["direction"]:
                continue
            top = float(entry["display"][1])
            if entry["kind"] == "raw":
                tops[entry["direction"]] = top
            elif entry["kind"] == "normalised":
                path = self._output / entry["path"]
                array, matrix = volumes.readPart(path, request.volumeNodes[0])
                arrays[entry["direction"]] = (array, top)
        for entry in index["shares"]:
            if self._wanted(entry) and entry["where"] == "region":
                shares = entry["directions"]
        if set(arrays) != set(request.directions):
            raise Refused(_("The engine's result cannot be read."))
        # From here on nothing fails any more: all or nothing comes to the scene.
        scales = [tops[name] / top for name, (_array, top) in arrays.items() if top]
        maps = FusionMaps.make(request, arrays, matrix, shares, scales[0] if scales else 1.0)
        hierarchy.group(maps.nodes(), request.place, request.model.title)
        warnings = [text for _code, text in self._engine.warnings]
        self.result = ExplainResult(request, maps, warnings)

    def _wanted(self, entry) -> bool:
        """Whether an entry of the index is of the node and the label that were asked for."""
        about = (entry.get("label") or {}).get("name", "")
        return (entry["stage"], entry["level"], about) == (*self.request.node, self.request.label)

    def _read(self, name: str) -> dict:
        try:
            return json.loads((self._output / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Refused(_("The engine's result cannot be read.")) from error
