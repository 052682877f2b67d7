"""One segmentation from the volume in the scene to the segmentation beside it."""

import shutil
from dataclasses import dataclass, field

from . import paths, roi, segmentations, volumes
from .enginerun import EngineRun
from .i18n import tr as _
from .models import Model
from .parameters import SegmentParameters
from .refusal import Refused


@dataclass
class SegmentRequest:
    """What is to be segmented, and how.

    Attributes:
        volumeNodes: One volume a channel of the model.
        model: The model.
        outputNode: A segmentation to fill, or None for a new one.
        roiNode: A markups ROI, or None for the whole volume (or the model's own localisation).
    """

    volumeNodes: list
    model: Model
    outputNode: object = None
    roiNode: object = None
    device: str = "auto"
    mirroring: bool = False
    standardNames: bool = False
    show3D: bool = True

    def prepare(self) -> None:
        """Called before the run; a subclass makes its volume here."""

    def accept(self, result: "SegmentResult") -> None:
        """Called with the result while everything is still there."""

    def dispose(self) -> None:
        """Called when the run is over, however it ended."""


@dataclass
class SegmentResult:
    """What came of it.

    Attributes:
        segmentationNode: The segmentation in the scene.
        volumeNode: Its first input.
        rows: (segment, label value, mL) in the order of the bundle.
        warnings: Sentences of the engine.
    """

    segmentationNode: object
    volumeNode: object
    rows: list
    warnings: list = field(default_factory=list)


class SegmentRun:
    """Writes the input, runs the engine, loads the result; the scene changes only on success.

    Args:
        request: What to do.
        onEvent: Called with each event of the engine.
    """

    def __init__(self, request: SegmentRequest, onEvent=None) -> None:
        self.request = request
        self.result = None
        self._onEvent = onEvent
        self._folder = None
        self._engine = None

    @property
    def running(self) -> bool:
        return self._engine is not None and self._engine.running

    @property
    def lines(self) -> list:
        return self._engine.lines if self._engine else []

    def start(self) -> None:
        """Check everything, write the input and start the engine.

        Raises:
            Refused: Something cannot be segmented; nothing was left behind.
        """
        request = self.request
        try:
            request.prepare()
            volumes.checkVolumes(request.volumeNodes, request.model.channels)
            box = roi.voxelBox(request.roiNode, request.volumeNodes[0]) if request.roiNode else ()
            self._folder = paths.temporaryFolder()
            inputs = []
            for index in range(len(request.model.channels)):
                inputs.append(str(self._folder / f"input_{index:04d}.nrrd"))
                volumes.writeVolume(request.volumeNodes[index], inputs[-1])
            parameters = SegmentParameters(
                inputs=tuple(inputs),
                model=str(request.model.path),
                output=str(self._output),
                device=request.device,
                mirroring=request.mirroring,
                roi=self._writeRoi(box),
            )
            valid, reason = parameters.isValid()
            if not valid:
                raise Refused(reason)
            self._engine = EngineRun(parameters.toArguments(), self._folder, self._onEvent)
            self._engine.start()
        except BaseException:
            self._clean()
            raise

    def poll(self) -> bool:
        """Let it go on; True while it runs. Afterwards `result` is there.

        Raises:
            Refused: It failed; the scene is as it was.
            Cancelled: The engine says that it was cancelled.
        """
        try:
            if self._engine.poll():
                return True
            self._load()
        except BaseException:
            self._clean()
            raise
        self._clean()
        return False

    def cancel(self) -> None:
        """End the engine and remove its files."""
        if self._engine is not None:
            self._engine.kill()
        self._clean()

    @property
    def _output(self):
        return self._folder / "segmentation.nrrd"

    def _writeRoi(self, box) -> str:
        """The region for the engine, in the coordinates the volume is written in."""
        if not box:
            return ""
        path = self._folder / "region.mrk.json"
        path.write_text(roi.markupsText(box, self.request.volumeNodes[0]), encoding="utf-8")
        return str(path)

    def _load(self) -> None:
        request = self.request
        volumeNode = request.volumeNodes[0]
        if volumeNode.GetScene() is None or volumeNode.GetImageData() is None:
            raise Refused(_("The volume was removed from the scene while it was segmented."))
        output = request.outputNode
        if output is not None and output.GetScene() is None:
            output = None
        array = volumes.readLabels(self._output, volumeNode)
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
        rows = segmentations.volumesTable(array, volumeNode, labels, request.standardNames)
        self.result = SegmentResult(node, volumeNode, rows, self._engine.warnings)
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

    def _clean(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self.request.dispose()
