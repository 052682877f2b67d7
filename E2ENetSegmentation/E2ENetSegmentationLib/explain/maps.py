"""Importance maps as volumes of the scene.

A map is a scalar volume from 0 to 1, one scale for all directions of a node; it is only as large as
the region that was looked at. The raw values, in the measure's own unit, are a further volume once
somebody asks for them. "Compare" is one RGB volume,
each direction in its own colour and the colours added: three layers of a slice view would cover
each other, and one volume has one opacity, one threshold and a place in the saved scene.
"""

import numpy as np
import slicer

from E2ENetSegmentationLib.explain import colors
from E2ENetSegmentationLib.explain.nodes import (
    COLORS,
    COMPARE,
    DIRECTIONS,
    DOMINANT,
    directionName,
    nodeTitle,
)
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.mrml import volumes

MAP, SHOWN, UPPER = "E2ENet.Map", "E2ENet.Direction", "E2ENet.DisplayRange"
SHARE, SCALE, INPUT_ROLE = "E2ENet.Share", "E2ENet.Scale", "E2ENet.Input"
RAW = " raw"


class FusionMaps:
    """The volumes of one explanation.

    Attributes:
        found: direction, "dominant", "compare" or direction + " raw" -> node.
    """

    def __init__(self, found: dict) -> None:
        self.found = found
        self._whole = None

    def nodes(self) -> list:
        return list(self.found.values())

    @property
    def directions(self) -> list:
        return [name for name in DIRECTIONS if name in self.found]

    @property
    def exists(self) -> bool:
        """Whether they are in the scene; raw ones can be made again."""
        kept = [node for name, node in self.found.items() if not name.endswith(RAW)]
        return bool(kept) and all(node.GetScene() for node in kept)

    @classmethod
    def make(cls, request, arrays: dict, matrix, shares: dict, scale: float) -> "FusionMaps":
        """Put arrays into the scene; those of an earlier call for the same are replaced.

        Args:
            request: `ExplainRequest`.
            arrays: direction -> (array (z, y, x) from 0 to 1, upper end of a good window).
            matrix: 4x4 from the arrays' voxels to RAS, without the volume's parent transform.
            shares: direction -> share of the whole importance.
            scale: What the arrays are multiplied by to have raw values.
        """
        for node in _of(request):
            slicer.mrmlScene.RemoveNode(node)
        volume = request.volumeNodes[0]
        about = request.label or _("importance")
        title = f"{volume.GetName()}, {about}, {nodeTitle(request.node)}"
        maps = cls({})
        for name, (array, upper) in arrays.items():
            shown = f"{title}, {directionName(name).lower()}"
            node = _scalar(shown, array, volume, matrix, upper or 1.0)
            node.SetAttribute(SHARE, f"{shares.get(name, 0.0):.6f}")
            node.SetAttribute(SCALE, repr(float(scale)))
            colors.addLegend(node, name, directionName(name))
            maps._add(name, node)
        blank = np.zeros(next(iter(arrays.values()))[0].shape, np.uint8)
        for name, array in ((DOMINANT, blank), (COMPARE, np.stack([blank] * 3, axis=-1))):
            node = _coded(f"{title}, {directionName(name).lower()}", array, volume, matrix)
            colors.addLegend(node, name, "")
            maps._add(name, node)
            maps.setThreshold(name, 0.0)
        for node in maps.nodes():
            node.SetAttribute(MAP, request.key())
            for volume in request.volumeNodes:
                node.AddNodeReferenceID(INPUT_ROLE, volume.GetID())
        return maps

    @classmethod
    def find(cls, request):
        """The volumes of an earlier run in the scene, or None."""
        found = {node.GetAttribute(SHOWN): node for node in _of(request)}
        complete = {DOMINANT, COMPARE, *request.directions} <= set(found)
        return cls(found) if complete else None

    def areOf(self, request) -> bool:
        """Whether these are the maps of a request."""
        return self.found[DOMINANT] in _of(request)

    def setThreshold(self, name: str, share: float) -> None:
        """Clear "dominant" or "compare" where even the strongest direction is below a share.

        Their values are codes and colours, which have no place for the strength: the voxels change.

        Args:
            share: 0 to 1 of the window.
        """
        if self._whole is None:
            self._whole = self._computed()
        strength, whole = self._whole
        kept = strength >= share
        array = slicer.util.arrayFromVolume(self.found[name])
        # Many times faster than an index of the voxels, and a slider calls this while it moves.
        np.multiply(whole[name], kept if array.ndim == 3 else kept[..., None], out=array)
        slicer.util.arrayFromVolumeModified(self.found[name])

    def _computed(self):
        """Strength of the strongest direction (1 is the window's end), "dominant" and "compare"."""
        arrays = {name: slicer.util.arrayFromVolume(self.found[name]) for name in self.directions}
        upper = float(self.found[self.directions[0]].GetAttribute(UPPER))
        shape = next(iter(arrays.values())).shape
        strength, which = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
        mixed = np.zeros((*shape, 3), np.uint8)
        for z in range(shape[0]):  # slice by slice: no three floats a voxel of a large volume
            colour = np.zeros((*shape[1:], 3), np.float32)
            for name, array in arrays.items():
                part = array[z] / np.float32(upper)
                which[z][part > strength[z]] = DIRECTIONS.index(name) + 1
                np.maximum(strength[z], part, out=strength[z])
                colour += part[..., None] * np.float32(COLORS[name])
            # The strongest has its colour, the others add theirs; a weak voxel is dark, not black.
            gain = (0.4 + 0.6 * np.clip(strength[z], 0, 1)) / np.maximum(strength[z], 1e-6)
            mixed[z] = np.clip(colour * gain[..., None], 0, 1) * 255
        return strength, {DOMINANT: which, COMPARE: mixed}

    def raw(self, direction: str):
        """The map of a direction in the measure's own unit; made when it is first asked for."""
        name = direction + RAW
        if name not in self.found or self.found[name].GetScene() is None:
            source = self.found[direction]
            scale = float(source.GetAttribute(SCALE))
            array = slicer.util.arrayFromVolume(source) * np.float32(scale)
            upper = float(source.GetAttribute(UPPER)) * scale
            title = _("{name}, raw").format(name=source.GetName())
            node = _scalar(title, array, source, volumes.ijkToRas(source), upper or 1.0)
            node.SetAttribute(MAP, source.GetAttribute(MAP))
            for index in range(source.GetNumberOfNodeReferences(INPUT_ROLE)):
                node.AddNodeReferenceID(INPUT_ROLE, source.GetNthNodeReferenceID(INPUT_ROLE, index))
            legend = _("{direction}, raw").format(direction=directionName(direction))
            colors.addLegend(node, direction, legend)
            self._add(name, node)
        return self.found[name]

    def _add(self, name: str, node) -> None:
        node.SetAttribute(SHOWN, name)
        self.found[name] = node


def allMaps() -> list:
    """Every map of ours in the scene."""
    scene = slicer.mrmlScene
    count = scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode")
    nodes = [scene.GetNthNodeByClass(i, "vtkMRMLVolumeNode") for i in range(count)]
    return [node for node in nodes if node.GetAttribute(MAP)]


def _of(request) -> list:
    """The maps of a request: same model, node, label and region, and the same volumes."""
    wanted = [volume.GetID() for volume in request.volumeNodes if volume is not None]

    def inputs(node) -> list:
        count = node.GetNumberOfNodeReferences(INPUT_ROLE)
        return [node.GetNthNodeReferenceID(INPUT_ROLE, index) for index in range(count)]

    key = request.key()
    return [n for n in allMaps() if n.GetAttribute(MAP) == key and inputs(n) == wanted]


def _new(kind: str, title: str, array: np.ndarray, like, matrix):
    """A volume under the transform of another one."""
    scene = slicer.mrmlScene
    node = scene.AddNewNodeByClass(kind, scene.GenerateUniqueName(title))
    if array.ndim == 4:
        node.SetVoxelVectorType(node.VoxelVectorTypeColorRGB)
    slicer.util.updateVolumeFromArray(node, array)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(like.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().AutoWindowLevelOff()
    return node


def _scalar(title: str, array: np.ndarray, like, matrix, upper: float):
    """A map that is shown from 0 to `upper`."""
    node = _new("vtkMRMLScalarVolumeNode", title, array, like, matrix)
    node.SetAttribute(UPPER, f"{upper:.6g}")
    node.GetDisplayNode().SetWindowLevelMinMax(0, upper)
    node.GetDisplayNode().SetAndObserveColorNodeID(colors.perceptual().GetID())
    return node


def _coded(title: str, array: np.ndarray, like, matrix):
    """A map of codes (z, y, x) or colours (z, y, x, 3), both uint8."""
    kind = "vtkMRMLScalarVolumeNode" if array.ndim == 3 else "vtkMRMLVectorVolumeNode"
    node = _new(kind, title, array, like, matrix)
    display = node.GetDisplayNode()
    display.SetInterpolate(0)  # nothing lies between two codes, nor between a colour and none
    display.SetWindowLevelMinMax(0, 255 if array.ndim == 4 else len(COLORS))
    display.SetAndObserveColorNodeID(colors.directionsTable().GetID())
    return node
