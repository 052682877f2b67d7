"""One segmentation from the volume in the scene to the segmentation beside it."""

from dataclasses import dataclass, field
from typing import ClassVar

from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.mrml import segmentations, volumes
from E2ENetSegmentationLib.mrml.run import InputRequest, InputRun


@dataclass
class SegmentRequest(InputRequest):
    """What is to be segmented, and how.

    Attributes:
        outputNode: A segmentation to fill, or None for a new one.
        mirroring, standardNames, show3D: The options of the tab.
    """

    VERB: ClassVar[str] = "segment"

    outputNode: object = None
    mirroring: bool = False
    standardNames: bool = False
    show3D: bool = True

    def toArguments(self, inputs: list, output: str, region: str) -> list:
        arguments = super().toArguments(inputs, output, region)
        return [*arguments, "--tta" if self.mirroring else "--no-tta"]

    def accept(self, result: "SegmentResult") -> None:
        """Called with the result while everything is still there."""


@dataclass
class SegmentResult:
    """What came of it.

    Attributes:
        segmentationNode: The segmentation in the scene.
        volumeNode: Its first input.
        rows: (segment, label value, mL) in the order of the bundle.
        centre: A point (world RAS, mm) inside the largest segment, or None where nothing was found.
        warnings: Sentences of the engine.
    """

    segmentationNode: object
    volumeNode: object
    rows: list
    centre: object = None
    warnings: list = field(default_factory=list)


class SegmentRun(InputRun):
    """One run of `e2enet segment`; see `InputRun`."""

    OUTPUT = "segmentation.nrrd"

    def _load(self) -> None:
        request = self.request
        volumeNode = request.volumeNodes[0]
        output = request.outputNode
        if output is not None and output.GetScene() is None:
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
        self.result = SegmentResult(
            node,
            volumeNode,
            segmentations.volumesTable(array, volumeNode, labels, request.standardNames),
            segmentations.centreOfLargest(array, volumeNode),
            self._engine.warnings,
        )
        request.accept(self.result)

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
            )
            for label in found
        ]
