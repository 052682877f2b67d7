"""One segmentation from the volume in the scene to the segmentation beside it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.mrml import segmentations, volumes
from E2ENetSegmentationLib.mrml.run import InputRequest, InputRun
from E2ENetSegmentationLib.segment import results
from E2ENetSegmentationLib.segment.results import SegmentResult

SECONDS_TO_DELETE = 3.0  # a server that does not answer finds out by itself


@dataclass
class SegmentRequest(InputRequest):
    """What is to be segmented, and how.

    Attributes:
        outputNode: A segmentation to fill, or None for a new one. It stays as it is, and there is
            a new one, if another model made it or somebody corrected it.
        mirroring, standardNames, show3D: The options of the tab.
        server: An `engine.server.Server` that computes, or None for this computer.
    """

    VERB: ClassVar[str] = "segment"

    outputNode: object = None
    mirroring: bool = False
    standardNames: bool = False
    show3D: bool = True
    server: object = None

    def toArguments(self, inputs: list, output: str, region: str) -> list:
        arguments = super().toArguments(inputs, output, region)
        if self.server is not None:  # it has models and devices of its own
            arguments = [self.VERB, *inputs, "--model", self.model.name, "--output", output]
            arguments += ["--server", self.server.address, "--token-file", tokenFile(output)]
            arguments += ["--roi", region] if region else []
        return [*arguments, "--tta" if self.mirroring else "--no-tta"]

    def accept(self, result: SegmentResult) -> None:
        """Called with the result while everything is still there."""


def tokenFile(output: str) -> str:
    """Where a run keeps the token: in its own folder, which only this user may read."""
    return str(Path(output).with_name("token"))


class SegmentRun(InputRun):
    """One run of `e2enet segment`; see `InputRun`."""

    OUTPUT = "segmentation.nrrd"

    def cancel(self) -> None:
        """As `Job.cancel`; on a server the job is deleted as well."""
        if self._engine is not None and self.request.server is not None:
            self._engine.askToEnd(SECONDS_TO_DELETE)
        super().cancel()

    def _begin(self) -> None:
        if self.request.server is not None:
            Path(tokenFile(self._output)).write_text(self.request.server.token, encoding="utf-8")
        super()._begin()

    def _load(self) -> None:
        request = self.request
        volumeNode = request.volumeNodes[0]
        output = request.outputNode
        if output is not None and not segmentations.mayFill(output, volumeNode, request.model.name):
            output = None
        array = volumes.readResult(self._output, volumeNode)
        labels = self._labels()
        node = segmentations.importLabels(
            array,
            volumeNode,
            labels,
            modelName=request.model.name,
            outputNode=output,
            standardNames=request.standardNames,
            show3D=request.show3D,
        )
        segmentations.rememberInputs(node, request.volumeNodes)
        entries = self._engine.result.get("labels") or []
        results.remember(node, entries, request.model.labels, self._engine.warnings)
        self.result = results.resultOf(node, segmentations.centreOfLargest(array, volumeNode))
        self.result.record = self._record()
        if request.outputNode not in (None, node) and request.outputNode.GetScene() is not None:
            text = _("{name} stays as it is: it was corrected, or made by another model.")
            self.result.warnings.append(text.format(name=request.outputNode.GetName()))
        if any(label.values for label in labels):  # their segments overlap
            array = segmentations.exportLabels(node, volumeNode)[0]
        node.SetAttribute(segmentations.VOXELS, segmentations.fingerprint(array))
        weights = (self.result.record.get("model") or {}).get("weights_sha256")
        node.SetAttribute(segmentations.WEIGHTS, str(weights or ""))
        request.accept(self.result)

    def _record(self) -> dict:
        """The engine's record of the run; nothing depends on it."""
        try:
            path = self._engine.result["manifest"]
            return json.loads(Path(path).read_text(encoding="utf-8"))
        except (KeyError, OSError, ValueError):
            return {}

    def _labels(self) -> list:
        """The labels of this very result: a located structure has sides, a crop has none."""
        found = self._engine.result.get("labels")
        if not found:
            return self.request.model.labels
        make = paths.engineModule("bundle").Label
        return [
            make(
                int(label["value"]),
                str(label["name"]),
                tuple(label["color"]),
                dict(label.get("terminology") or {}),
                values=tuple(label.get("values") or ()),
            )
            for label in found
        ]
