"""A label map becomes a segmentation beside its volume."""

import hashlib

import numpy as np
import slicer
import vtk

from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.mrml import hierarchy, volumes
from E2ENetSegmentationLib.mrml.terminology import readTerminology, segmentNames, terminologyEntry
from E2ENetSegmentationLib.refusal import Refused

MADE_BY_TAG, VALUE_TAG = "E2ENet.Model", "E2ENet.Value"
ID_TAG = "E2ENet.ID"  # which one it was: a copy has the tags of its original, but an ID of its own
WEIGHTS, VOXELS = "E2ENet.Weights", "E2ENet.Voxels"  # of the model; of what it made
INPUT_ROLE = "E2ENet.Input"
HIDDEN = "E2ENet.Hidden"
PREVIEW = "E2ENet.Preview"  # of a model in training: the next one takes its place
OUTLINE = 2  # pixels, in the slices


def importLabels(
    array: np.ndarray,
    volumeNode,
    labels,
    *,
    modelName: str,
    outputNode=None,
    standardNames: bool = False,
    show3D: bool = True,
):
    """Make (or refill) a segmentation node from the engine's labels.

    Segments of an earlier run are replaced; segments somebody made by hand stay.

    Args:
        array: Integer labels (z, y, x) on the volume's grid.
        volumeNode: The input; the result gets its geometry, transform and place in the hierarchy.
        labels: Objects with value, name, color (0-255), terminology and values, those of the
            bundle. Regions, which have values, become segments that overlap.
        modelName: Kept on each segment; only a run of the same model takes its place.
        outputNode: A segmentation to fill, or None for a new one.
        standardNames: Name segments by their terminology instead of by the bundle.
        show3D: Make and show the closed surface.

    Returns:
        The segmentation node.
    """
    scene = volumeNode.GetScene()
    unknown = set(np.unique(array).tolist()) - {0} - {label.value for label in labels}
    if unknown:
        raise Refused(
            _("The engine's result has labels that the model does not name: {values}.").format(
                values=", ".join(map(str, sorted(unknown)))
            )
        )
    node = outputNode
    if node is None:
        name = _("{volume} segmentation").format(volume=volumeNode.GetName())
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
        # Only an outline leaves the image in sight by which a person judges it.
        node.GetDisplayNode().SetVisibility2DFill(False)
        node.GetDisplayNode().SetSliceIntersectionThickness(OUTLINE)
    modified = node.StartModify()
    try:
        node.SetAndObserveTransformNodeID(None)
        segmentation = node.GetSegmentation()
        removeOwnSegments(segmentation)
        identifiers = _addSegments(node, array, volumeNode, labels)
        names = segmentNames(labels, standardNames)
        for label in labels:
            segment = segmentation.GetSegment(identifiers[label.value])
            segment.SetName(names[label.value])
            segment.SetColor(*(channel / 255.0 for channel in label.color))
            segment.SetTag(MADE_BY_TAG, modelName)
            segment.SetTag(ID_TAG, identifiers[label.value])
            segment.SetTag(VALUE_TAG, str(label.value))
            if label.terminology:
                segment.SetTag(segment.GetTerminologyEntryTagName(), terminologyEntry(label))
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    finally:
        node.EndModify(modified)
    node.GetDisplayNode().SetVisibility(True)
    node.GetDisplayNode().SetVisibility2D(True)
    showSurface(node, show3D)
    if outputNode is None:  # one that was there stays where a person put it
        hierarchy.placeBeside(node, volumeNode)
    return node


def _addSegments(node, array: np.ndarray, volumeNode, labels) -> dict:
    """Add a segment a label through label maps; returns value -> segment ID."""
    segmentation = node.GetSegmentation()
    before = set(segmentIds(segmentation))
    regions = [label for label in labels if label.values]
    for label in regions:  # each by itself: they overlap
        inside = np.isin(array, label.values)
        if inside.any():
            _import(node, np.where(inside, label.value, 0), volumeNode)
    if not regions:
        _import(node, array, volumeNode)
    identifiers = {}
    for identifier in segmentIds(segmentation):
        if identifier not in before:
            identifiers[segmentation.GetSegment(identifier).GetLabelValue()] = identifier
    for label in labels:  # a structure that was not found is worth an empty segment
        if label.value not in identifiers:
            identifiers[label.value] = segmentation.AddEmptySegment("", label.name)
    return identifiers


def _import(node, array: np.ndarray, volumeNode) -> None:
    """Add a segment for each value of a label map on the volume's grid."""
    scene = node.GetScene()
    labelNode = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "E2ENet labels")
    try:
        kind = np.uint8 if array.max(initial=0) < 256 else np.int16
        slicer.util.updateVolumeFromArray(labelNode, array.astype(kind))
        labelNode.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(volumes.ijkToRas(volumeNode)))
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        if not logic.ImportLabelmapToSegmentationNode(labelNode, node):
            raise Refused(_("The engine's result cannot be made into a segmentation."))
    finally:
        display = labelNode.GetDisplayNode()
        scene.RemoveNode(labelNode)
        if display is not None:
            scene.RemoveNode(display)


def exportLabels(node, volumeNode):
    """What a model made, as it is now: (array (z, y, x) on the volume's grid, its labels).

    Segments that somebody added by hand are left out. An entry has value, name, color (0-255) and
    terminology, as the engine's manifest; where segments overlap, also `values`: all numbers in the
    array that belong to it.
    """
    segmentation = node.GetSegmentation()
    codes = np.zeros(volumeNode.GetImageData().GetDimensions()[::-1], np.int64)  # a bit a segment
    entries = []
    for identifier in ownSegmentIds(segmentation):
        segment = segmentation.GetSegment(identifier)
        image = segment.GetRepresentation("Binary labelmap")
        if image is not None and image.GetNumberOfPoints():  # else it was not found
            codes[_inside(node, identifier, volumeNode)] |= 1 << len(entries)
        terms = tagOf(segment, segment.GetTerminologyEntryTagName())
        entries.append(
            {
                "value": valueOf(segment),
                "name": segment.GetName(),
                "color": [round(channel * 255) for channel in segment.GetColor()],
                "terminology": readTerminology(terms),
            }
        )
    found, numbers = np.unique(codes, return_inverse=True)
    alone = {1 << index: entry["value"] for index, entry in enumerate(entries)}
    if set(found.tolist()) <= {0, *alone}:
        values = np.array([alone.get(code, 0) for code in found.tolist()], np.int16)
    else:
        values = np.searchsorted(np.unique([0, *found]), found).astype(np.int16)
        for index, entry in enumerate(entries):
            mine = [code for code in found.tolist() if code >> index & 1]
            entry["values"] = [int(values[found.tolist().index(code)]) for code in mine] or [
                entry["value"] + len(found)
            ]
    return values[numbers].reshape(codes.shape), entries


def _inside(node, identifier: str, volumeNode) -> np.ndarray:
    """Where a segment is on the grid of a volume: bool (z, y, x)."""
    scene = node.GetScene()
    before = set(slicer.util.getNodesByClass("vtkMRMLNode"))
    labelNode = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "E2ENet labels")
    try:
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        logic.ExportSegmentsToLabelmapNode(node, [identifier], labelNode, volumeNode)
        return np.array(slicer.util.arrayFromVolume(labelNode)) > 0
    finally:  # it makes a display node and a colour table as well
        for added in slicer.util.getNodesByClass("vtkMRMLNode"):
            if added not in before:
                scene.RemoveNode(added)


def fingerprint(array: np.ndarray) -> str:
    """Tells whether voxels are those of another time."""
    return hashlib.sha256(array.astype("<i2").tobytes()).hexdigest()


def segmentIds(segmentation) -> list:
    return [segmentation.GetNthSegmentID(i) for i in range(segmentation.GetNumberOfSegments())]


def ownSegmentIds(segmentation) -> list:
    """The segments that a run put there; a copy of one is a person's."""
    return [
        identifier
        for identifier in segmentIds(segmentation)
        if tagOf(segmentation.GetSegment(identifier), ID_TAG) == identifier
    ]


def removeOwnSegments(segmentation) -> None:
    """Take away what an earlier run put there."""
    for identifier in ownSegmentIds(segmentation):
        segmentation.RemoveSegment(identifier)


def mayFill(node, volumeNode, modelName: str) -> bool:
    """Whether a run may put its segments in the place of those in a segmentation.

    Not where another model made them, or somebody changed them since. What is of another volume
    was asked about.
    """
    if node.GetScene() is None or node.GetAttribute(PREVIEW):
        return False
    model = origin(node)[1]
    if not model or not isOf(node, volumeNode):
        return True
    array, _entries = exportLabels(node, volumeNode)
    return model == modelName and node.GetAttribute(VOXELS) == fingerprint(array)


def showSurface(node, show3D: bool) -> None:
    """Make and show the closed surface, or take it away."""
    display = node.GetDisplayNode()
    if show3D:
        node.CreateClosedSurfaceRepresentation()
        display.SetPreferredDisplayRepresentationName3D("Closed surface")
    else:
        node.RemoveClosedSurfaceRepresentation()
    display.SetVisibility3D(show3D)


def rememberInputs(node, volumeNodes) -> None:
    """Keep which volumes a segmentation or a region came from, one a channel."""
    node.RemoveNodeReferenceIDs(INPUT_ROLE)
    for volumeNode in volumeNodes:
        node.AddNodeReferenceID(INPUT_ROLE, volumeNode.GetID())


def origin(node):
    """(volumes, name of the model) that a segmentation came from; empty where unknown."""
    if node is None:
        return [], ""
    segmentation = node.GetSegmentation()
    own = ownSegmentIds(segmentation)
    return _inputs(node), tagOf(segmentation.GetSegment(own[0]), MADE_BY_TAG) if own else ""


def tagOf(segment, name: str) -> str:
    text = vtk.reference("")
    return str(text) if segment.GetTag(name, text) else ""


def valueOf(segment) -> int:
    """The value that the segment had in the engine's label map."""
    text = tagOf(segment, VALUE_TAG)
    return int(text) if text.isdigit() else segment.GetLabelValue()


def _inputs(node) -> list:
    """The volumes that a segmentation or a region was made from; empty where unknown."""
    count = node.GetNumberOfNodeReferences(INPUT_ROLE)
    inputs = [node.GetNthNodeReference(INPUT_ROLE, index) for index in range(count)]
    if not count and node.IsA("vtkMRMLSegmentationNode"):
        inputs = [node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())]
    return [volume for volume in inputs if volume is not None]


def isOf(node, volumeNode) -> bool:
    """Whether a segmentation or a region (or none) is not known to be of another volume."""
    return node is None or _inputs(node)[:1] in ([], [volumeNode])


def latestOf(volumeNode):
    """The last segmentation that a model made of a volume, or None; a preview is none to keep."""
    scene = volumeNode.GetScene() if volumeNode is not None else None
    count = scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") if scene is not None else 0
    for index in reversed(range(count)):
        node = scene.GetNthNodeByClass(index, "vtkMRMLSegmentationNode")
        inputs, model = origin(node)
        if model and inputs[:1] == [volumeNode] and not node.GetAttribute(PREVIEW):
            return node
    return None


def centreOfLargest(array: np.ndarray, volumeNode):
    """A point (world RAS, mm) of the label with most voxels, as near to its centre as it has one.

    A bent structure need not contain its own centre. None for an empty label map.
    """
    counts = np.bincount(array.ravel(), minlength=1)
    counts[0] = 0
    if not counts.any():
        return None
    found = np.flatnonzero(array.ravel() == counts.argmax())
    found = found[:: max(1, len(found) // 100_000)]
    points = np.stack(np.unravel_index(found, array.shape), axis=1)
    nearest = points[((points - points.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    toWorld = worldMatrix(volumeNode) @ volumes.ijkToRas(volumeNode)
    return tuple(float(v) for v in (toWorld @ [*nearest[::-1], 1])[:3])


def show(volumeNode, applicationLogic) -> None:
    """Bring the volume to the slice views, all of it in sight, if it is not there."""
    selection = applicationLogic.GetSelectionNode() if applicationLogic else None
    if selection is None or _backgrounds() == {volumeNode.GetID()}:
        return
    selection.SetActiveVolumeID(volumeNode.GetID())
    applicationLogic.PropagateVolumeSelection(1)


def _backgrounds() -> set:
    """IDs of what the slice views of the layout show; the Data module changes nothing else."""
    logic = slicer.vtkMRMLSliceLogic
    views = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    shown = [logic.GetSliceCompositeNode(view) for view in views if view.IsMappedInLayout()]
    return {
        composite.GetBackgroundVolumeID()
        for composite in shown
        if composite is not None and composite.GetDoPropagateVolumeSelection()
    }


def shownVolume(applicationLogic):
    """The volume that the slice views show, else the first of the scene; or None."""
    scene = slicer.mrmlScene
    selection = applicationLogic.GetSelectionNode() if applicationLogic else None
    active = selection.GetActiveVolumeID() if selection is not None else None
    for node in (
        scene.GetNodeByID(active) if active else None,
        scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode"),
    ):
        if node is not None and node.IsA("vtkMRMLScalarVolumeNode"):
            return None if node.GetHideFromEditors() else node
    return None


def showOnlyOf(volumeNode) -> None:
    """Hide what models made of other volumes; what was hidden so comes back with its volume."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        inputs, model = origin(node)
        display = node.GetDisplayNode()
        if not model or not inputs or display is None:
            continue
        if inputs[0] is volumeNode:
            if node.GetAttribute(HIDDEN):
                node.RemoveAttribute(HIDDEN)
                display.SetVisibility(True)
        elif display.GetVisibility():
            display.SetVisibility(False)
            node.SetAttribute(HIDDEN, "1")


def jumpTo(point) -> None:
    """Bring every slice view to a point (world RAS)."""
    centred = slicer.vtkMRMLSliceNode.CenteredJumpSlice
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *point, centred)


def worldMatrix(node) -> np.ndarray:
    """4x4 from the node's own coordinates to the world, through linear parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    transform = node.GetParentTransformNode()
    if transform is not None:
        transform.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)
