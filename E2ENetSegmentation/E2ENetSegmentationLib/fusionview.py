"""Importance maps as volumes of the scene, and how the slice views show them.

A map is a scalar volume from 0 to 1, one scale for all directions of a node. "Compare" is one RGB
volume, each direction in its own colour and the colours added: three layers of a slice view would
cover each other, and one volume has one opacity, one threshold and a place in the saved scene.
"""

import numpy as np
import slicer
import vtk

from . import segmentations, volumes
from .fusionplot import COLORS, directionName
from .i18n import tr as _

MAP, SHOWN, UPPER = "E2ENet.Fusion", "E2ENet.Direction", "E2ENet.DisplayRange"
DOMINANT, COMPARE = "dominant", "compare"
TABLE = "E2ENet.Table"
# Sixths of the way through the colour map, for a Slicer that lacks Inferno.
INFERNO = (
    (0.001, 0.000, 0.014), (0.197, 0.038, 0.368), (0.447, 0.102, 0.429), (0.693, 0.165, 0.349),
    (0.895, 0.304, 0.186), (0.988, 0.568, 0.035), (0.988, 0.998, 0.645),
)  # fmt: skip


class FusionMaps:
    """The volumes of one explanation: direction, "dominant" or "compare" -> node."""

    def __init__(self, found: dict) -> None:
        self.found = found

    def nodes(self) -> list:
        return list(self.found.values())

    @property
    def exists(self) -> bool:
        return bool(self.found) and all(node.GetScene() for node in self.found.values())

    @classmethod
    def make(cls, request, arrays: dict, shares: dict) -> "FusionMaps":
        """Put arrays into the scene; those of an earlier call with the same key are replaced.

        Args:
            request: `FusionRequest`.
            arrays: direction or "dominant" -> (array (z, y, x), upper end of a good window).
            shares: direction -> share of the whole importance.
        """
        for node in _ofKey(request.key()):
            slicer.mrmlScene.RemoveNode(node)
        volume = request.volumeNodes[0]
        about = request.label or _("importance")
        found = {}
        directions = [name for name in arrays if name != DOMINANT]
        for name in [*directions, DOMINANT]:
            array, upper = arrays[name]
            title = f"{volume.GetName()} {about} {request.nodeName} {directionName(name).lower()}"
            found[name] = _scalar(volume, title, array, name, upper or 1.0)
            if name in shares:
                found[name].SetAttribute("E2ENet.Share", f"{shares[name]:.6f}")
        title = f"{volume.GetName()} {about} {request.nodeName} {directionName(COMPARE).lower()}"
        found[COMPARE] = _coloured(volume, title, {name: arrays[name] for name in directions})
        for name, node in found.items():
            node.SetAttribute(MAP, request.key())
            node.SetAttribute(SHOWN, name)
            _addLegend(node, name)
        return cls(found)

    @classmethod
    def find(cls, request):
        """The volumes of an earlier run in the scene, or None."""
        found = {node.GetAttribute(SHOWN): node for node in _ofKey(request.key())}
        return cls(found) if {DOMINANT, COMPARE} <= set(found) and len(found) > 3 else None


def _ofKey(key: str) -> list:
    count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLVolumeNode")
    nodes = [slicer.mrmlScene.GetNthNodeByClass(i, "vtkMRMLVolumeNode") for i in range(count)]
    return [node for node in nodes if node.GetAttribute(MAP) == key]


def _place(node, volume) -> None:
    """On the volume's grid and under its transform."""
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(volumes.ijkToRas(volume)))
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())


def _scalar(volume, title: str, array: np.ndarray, name: str, upper: float):
    scene = slicer.mrmlScene
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(title))
    slicer.util.updateVolumeFromArray(node, array)
    _place(node, volume)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    node.SetAttribute(UPPER, f"{upper:.6g}")
    if name == DOMINANT:
        display.SetInterpolate(0)
        display.SetWindowLevelMinMax(0, len(COLORS))
        display.SetAndObserveColorNodeID(directionsTable().GetID())
    else:
        display.SetWindowLevelMinMax(0, upper)
        display.SetAndObserveColorNodeID(perceptual().GetID())
    return node


def _coloured(volume, title: str, arrays: dict):
    """An RGB volume (uint8): each direction's colour times its importance, added."""
    scene = slicer.mrmlScene
    some = next(iter(arrays.values()))[0]
    mixed = np.zeros((*some.shape, 3), np.uint8)
    for z in range(len(some)):  # slice by slice: a large volume does not need three floats a voxel
        colour = np.zeros((*some.shape[1:], 3), np.float32)
        for name, (array, upper) in arrays.items():
            part = np.clip(array[z] / (upper or 1.0), 0, 1)
            colour += part[..., None] * np.array(COLORS[name], np.float32)
        mixed[z] = np.clip(colour, 0, 1) * 255
    node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", scene.GenerateUniqueName(title))
    node.SetVoxelVectorType(node.VoxelVectorTypeColorRGB)
    slicer.util.updateVolumeFromArray(node, mixed)
    _place(node, volume)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, 255)
    display.SetAndObserveColorNodeID(directionsTable().GetID())
    # The display node's threshold is on the mean of the channels, at most this for one direction.
    node.SetAttribute(UPPER, f"{255 * np.mean(list(COLORS.values())):.6g}")
    return node


# Colours


def perceptual():
    """Slicer's Inferno; a table of ours where it is missing."""
    scene = slicer.mrmlScene
    for name in ("Inferno", "Viridis"):
        node = scene.GetNodeByID(f"vtkMRMLColorTableNodeFile{name}.txt")
        if node is not None:
            return node
    places = np.linspace(0, 1, len(INFERNO))
    ramp = np.linspace(0, 1, 256)
    channels = [np.interp(ramp, places, [color[c] for color in INFERNO]) for c in range(3)]
    return _table("Inferno", _("Importance"), list(zip(*channels, strict=True)), None)


def directionsTable():
    """0 nothing, 1 forward, 2 upward, 3 downward."""
    names = [_("Nothing"), *(directionName(direction) for direction in COLORS)]
    return _table("Directions", _("Fusion directions"), [(0, 0, 0), *COLORS.values()], names)


def _table(key: str, name: str, colors, names):
    """A colour table that the scene keeps; made once."""
    scene = slicer.mrmlScene
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLColorTableNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLColorTableNode")
        if node.GetAttribute(TABLE) == key:
            return node
    node = slicer.vtkMRMLColorTableNode()
    node.SetName(scene.GenerateUniqueName(name))
    node.SetTypeToUser()
    node.SetNumberOfColors(len(colors))
    for index, color in enumerate(colors):
        opacity = 0.0 if names and index == 0 else 1.0
        node.SetColor(index, *(float(channel) for channel in color), opacity)
        node.SetColorName(index, names[index] if names else f"{index / (len(colors) - 1):.3f}")
    node.SetAttribute(TABLE, key)
    return scene.AddNode(node)


# Legend


def _addLegend(node, name: str) -> None:
    logic = getattr(slicer, "vtkSlicerColorLogic", None)
    if logic is None or not hasattr(logic, "AddDefaultColorLegendDisplayNode"):
        return
    legend = logic.AddDefaultColorLegendDisplayNode(node)
    if legend is None:
        return
    if name in (DOMINANT, COMPARE):
        legend.SetTitleText(_("Direction"))
        legend.SetUseColorNamesForLabels(True)
        legend.SetMaxNumberOfColors(len(COLORS) + 1)
        legend.SetNumberOfLabels(len(COLORS) + 1)
    else:
        legend.SetTitleText(directionName(name))
        legend.SetLabelFormat("%.2f")
    legend.SetVisibility(False)


def legendOf(node):
    """The colour legend of a map, or None."""
    logic = getattr(slicer, "vtkSlicerColorLogic", None)
    if not hasattr(logic, "GetColorLegendDisplayNode"):
        return None
    return logic.GetColorLegendDisplayNode(node)


# Slice views


def show(node, volume, *, opacity: float, threshold: float) -> None:
    """Bring a map over its volume in every slice view.

    Args:
        opacity: 0 to 1.
        threshold: 0 to 1 of the window; what is below stays clear. The dominant direction has none.
    """
    for composite in composites():
        composite.SetBackgroundVolumeID(volume.GetID())
        composite.SetForegroundVolumeID(node.GetID())
    adjust(node, opacity=opacity, threshold=threshold)
    for other in _maps():
        legend = legendOf(other)
        if legend is not None:
            legend.SetVisibility(other is node)


def adjust(node, *, opacity: float, threshold: float) -> None:
    """Set opacity and threshold of a map that is shown."""
    display = node.GetDisplayNode()
    upper = float(node.GetAttribute(UPPER) or 1.0)
    dominant = node.GetAttribute(SHOWN) == DOMINANT
    lower = 0.5 if dominant else threshold * upper
    display.SetThreshold(lower, max(float(node.GetImageData().GetScalarRange()[1]), 255.0))
    display.SetApplyThreshold(1 if lower > 0 else 0)
    for composite in composites():
        if composite.GetForegroundVolumeID() == node.GetID():
            composite.SetForegroundOpacity(opacity)


def hide() -> None:
    """Take our maps off the slice views."""
    for node in _maps():
        legend = legendOf(node)
        if legend is not None:
            legend.SetVisibility(False)
        for composite in composites():
            if composite.GetForegroundVolumeID() == node.GetID():
                composite.SetForegroundVolumeID(None)


def composites() -> list:
    scene = slicer.mrmlScene
    count = scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")
    return [scene.GetNthNodeByClass(i, "vtkMRMLSliceCompositeNode") for i in range(count)]


def _maps() -> list:
    scene = slicer.mrmlScene
    count = scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode")
    nodes = [scene.GetNthNodeByClass(i, "vtkMRMLVolumeNode") for i in range(count)]
    return [node for node in nodes if node.GetAttribute(MAP)]


# Subject hierarchy


def group(nodes, place, model) -> None:
    """A folder for these nodes beside the run (or at the top), named after it; made once.

    Args:
        place: The segmentation or the volume that was explained, or None.
    """
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is None:
        return
    parent = hierarchy.GetSceneItemID()
    name = _("{name} fusion").format(name=place.GetName() if place is not None else model.title)
    if place is not None:
        item = hierarchy.GetItemByDataNode(place)
        if not item or item == hierarchy.GetInvalidItemID():
            item = hierarchy.CreateItem(parent, place)
        parent = hierarchy.GetItemParent(item) or parent
    folder = hierarchy.GetItemChildWithName(parent, name)
    if not folder or folder == hierarchy.GetInvalidItemID():
        folder = hierarchy.CreateFolderItem(parent, name)
    for node in nodes:
        item = hierarchy.GetItemByDataNode(node)
        if not item or item == hierarchy.GetInvalidItemID():
            hierarchy.CreateItem(folder, node)
        else:
            hierarchy.SetItemParent(item, folder)


def runOf(segmentationNode):
    """(volume, name of the model) that a segmentation came from, each None where unknown."""
    if segmentationNode is None:
        return None, None
    role = segmentationNode.GetReferenceImageGeometryReferenceRole()
    volume = segmentationNode.GetNodeReference(role)
    segmentation = segmentationNode.GetSegmentation()
    for identifier in segmentations.segmentIds(segmentation):
        text = vtk.reference("")
        if segmentation.GetSegment(identifier).GetTag(segmentations.MADE_BY_TAG, text):
            return volume, str(text)
    return volume, None
