"""One explanation: the volume goes to `e2enet explain`, its maps and its flow come to the scene."""

import json
import os
import shutil
from dataclasses import dataclass, field

import numpy as np
import slicer

from . import fusionview, paths, roi, volumes
from .enginerun import EngineRun
from .fusionplot import FlowPlot
from .i18n import tr as _
from .models import Model
from .refusal import Refused

DIRECTIONS = ("forward", "upward", "downward")  # of the engine, in its order


def levelsOf(model: Model) -> int:
    """Levels of the model's lattice, read without torch.

    Raises:
        Refused: The bundle does not say.
    """
    content = model.content
    for place in ((content.get("network") or {}).get("arguments"), content.get("plan")):
        strides = (place or {}).get("strides") if isinstance(place, dict) else None
        if isinstance(strides, list) and strides:
            return len(strides) + 1
    raise Refused(_("{model} does not say how many levels it has.").format(model=model.title))


def nodesOf(levels: int) -> list:
    """(stage, level) of every fused node, by stage, then level."""
    return [(stage, level) for stage in range(1, levels) for level in range(levels - stage)]


def directionsOf(level: int) -> tuple:
    """Where a node's input comes from; nothing lies above level 0."""
    return DIRECTIONS if level else DIRECTIONS[:2]


@dataclass
class FusionRequest:
    """What is to be explained.

    Attributes:
        model: The model.
        volumeNodes: One volume a channel; empty for the flow alone.
        node: (stage, level).
        label: Name of the label that the map is about, or "" for the importance.
        runNode: The segmentation that the explanation belongs to, or None.
        roiNode: A markups ROI, or None for the whole volume (or the model's own localisation).
    """

    model: Model
    volumeNodes: list = field(default_factory=list)
    node: tuple = (1, 0)
    label: str = ""
    runNode: object = None
    roiNode: object = None
    device: str = "auto"

    @property
    def nodeName(self) -> str:
        return f"{self.node[0]}:{self.node[1]}"

    def check(self) -> None:
        """Refuse what cannot be explained, before anything is written."""
        known = nodesOf(levelsOf(self.model))
        if tuple(self.node) not in known:
            names = ", ".join(f"{stage}:{level}" for stage, level in known)
            raise Refused(
                _("{model} has no node {node}; its nodes (stage:level) are {names}.").format(
                    model=self.model.title, node=self.nodeName, names=names
                )
            )
        if self.volumeNodes:
            volumes.checkVolumes(self.volumeNodes, self.model.channels)

    def arguments(self, inputs, output, region: str) -> list:
        """The command line of the engine."""
        arguments = ["explain", *map(str, inputs), "--model", str(self.model.path)]
        arguments += ["--output", str(output), "--device", self.device]
        if inputs:
            arguments += ["--nodes", self.nodeName]
            arguments += ["--label", self.label] if self.label else []
            arguments += ["--roi", region] if region else []
        return [*arguments, "--progress", "json"]

    def key(self) -> str:
        """Names the maps of this request in the scene."""
        volume = self.volumeNodes[0].GetID() if self.volumeNodes else ""
        return "|".join([self.model.name, volume, self.nodeName, self.label])


@dataclass
class FusionResult:
    """What came of it: a group of nodes (None for the flow alone), a plot, warnings."""

    maps: object
    plot: FlowPlot
    warnings: list


class FusionRun:
    """Writes the input, runs the engine, loads the maps; the scene changes only on success.

    Args:
        request: What to do.
        onEvent: Called with each event of the engine.
    """

    def __init__(self, request: FusionRequest, onEvent=None) -> None:
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
            Refused: It cannot be explained; nothing was left behind.
        """
        request = self.request
        try:
            request.check()
            nodes = request.volumeNodes[: len(request.model.channels)]
            box = roi.voxelBox(request.roiNode, nodes[0]) if request.roiNode and nodes else ()
            self._folder = paths.temporaryFolder()
            inputs = []
            for index, node in enumerate(nodes):
                inputs.append(str(self._folder / f"input_{index:04d}.nrrd"))
                volumes.writeVolume(node, inputs[-1])
            region = ""
            if box:
                region = str(self._folder / "region.mrk.json")
                with open(region, "w", encoding="utf-8") as file:
                    file.write(roi.markupsText(box, nodes[0]))
            arguments = request.arguments(inputs, self._output, region)
            self._engine = EngineRun(arguments, self._folder, self._onEvent)
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
        return self._folder / "explanation"

    def _load(self) -> None:
        request = self.request
        index, flow = self._read("explain.json"), self._read("flow.json")
        arrays, shares = {}, {}
        if request.volumeNodes:
            volumeNode = request.volumeNodes[0]
            if volumeNode.GetScene() is None or volumeNode.GetImageData() is None:
                raise Refused(_("The volume was removed from the scene while it was explained."))
            for entry in index["volumes"]:
                if self._wanted(entry) and entry["kind"] in ("normalised", "dominant"):
                    name = entry["direction"] or "dominant"
                    array = readMap(self._output / entry["path"], volumeNode)
                    arrays[name] = (array, float(entry["display"][1]))
            for entry in index["shares"]:
                if self._wanted(entry) and entry["where"] == "everywhere":
                    shares = entry["directions"]
            if not arrays:
                raise Refused(_("The engine's result cannot be read."))
        # From here on nothing fails any more: all or nothing comes to the scene.
        maps = None
        if arrays:
            maps = fusionview.FusionMaps.make(request, arrays, shares)
        plot = FlowPlot.make(request.model, flow, request.node)
        place = request.runNode or (request.volumeNodes or [None])[0]
        fusionview.group([*(maps.nodes() if maps else []), *plot.nodes()], place, request.model)
        self.result = FusionResult(maps, plot, list(self._engine.warnings))

    def _wanted(self, entry) -> bool:
        """Whether an entry of the index is of the node and the label that were asked for."""
        about = (entry.get("label") or {}).get("name", "")
        return (entry["stage"], entry["level"], about) == (*self.request.node, self.request.label)

    def _read(self, name: str) -> dict:
        try:
            return json.loads((self._output / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Refused(_("The engine's result cannot be read.")) from error

    def _clean(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def readMap(path, volumeNode) -> np.ndarray:
    """A map of the engine (NRRD) as an array (z, y, x) on the grid of the input volume.

    Raises:
        Refused: It cannot be read or lies on another grid.
    """
    node = slicer.vtkMRMLScalarVolumeNode()
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(path))
    if not os.path.isfile(path) or not storage.ReadData(node) or node.GetImageData() is None:
        raise Refused(_("The engine's result cannot be read."))
    far = np.abs(volumes.ijkToRas(node) - volumes.ijkToRas(volumeNode)).max() > 1e-2
    if node.GetImageData().GetDimensions() != volumeNode.GetImageData().GetDimensions() or far:
        raise Refused(
            _("The engine's result does not lie on the grid of {name}.").format(
                name=volumeNode.GetName()
            )
        )
    return np.array(slicer.util.arrayFromVolume(node))
