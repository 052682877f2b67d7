"""A region of interest: a markups ROI, fitted to a volume, and what of it the engine is told."""

import itertools
import json

import numpy as np
import slicer

from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.mrml import volumes
from E2ENetSegmentationLib.mrml.segmentations import rememberInputs, worldMatrix
from E2ENetSegmentationLib.refusal import Refused


def fitRoi(volumeNode, sizeMillimetres=None, roiNode=None):
    """Put a ROI into the middle of a volume, along its axes.

    Args:
        volumeNode: The volume.
        sizeMillimetres: Wanted size along (R, A, S), at most the volume's; None for two thirds.
        roiNode: A ROI to move, or None for a new one.

    Returns:
        The vtkMRMLMarkupsROINode, under the volume's transform.
    """
    matrix = volumes.ijkToRas(volumeNode)
    dimensions = np.array(volumeNode.GetImageData().GetDimensions())
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    directions = matrix[:3, :3] / lengths
    full = lengths * dimensions
    if sizeMillimetres is None:
        size = full * 2 / 3
    else:  # each axis of the volume takes the size of the patient axis it runs along
        size = np.array([sizeMillimetres[np.argmax(np.abs(d))] for d in directions.T])
    size = np.minimum(size, full)
    if np.linalg.det(directions) < 0:
        directions = directions * np.array(
            [1, 1, -1]
        )  # a ROI is symmetric; its frame is a rotation
    node = roiNode
    if node is None:
        scene = volumeNode.GetScene()
        node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", _("E2ENet region"))
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetFillOpacity(0.05)
    frame = np.eye(4)
    frame[:3, :3] = directions
    frame[:3, 3] = (matrix @ np.append((dimensions - 1) / 2, 1))[:3]
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    node.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(frame))
    node.SetSize(*size)
    rememberInputs(node, [volumeNode])
    return node


def voxelBox(roiNode, volumeNode):
    """The voxels a ROI covers: ((i0, j0, k0), (i1, j1, k1)), the upper corner excluded.

    Raises:
        Refused: The ROI has no size or lies outside the volume.
    """
    size = [0.0, 0.0, 0.0]
    roiNode.GetSizeWorld(size)
    size = np.array(size)
    if not (size > 0).all():
        raise Refused(_("The region {name} has no size.").format(name=roiNode.GetName()))
    toWorld = slicer.util.arrayFromVTKMatrix(roiNode.GetObjectToWorldMatrix())
    toVoxels = np.linalg.inv(worldMatrix(volumeNode) @ volumes.ijkToRas(volumeNode)) @ toWorld
    corners = [
        (toVoxels @ np.append(np.array(signs) * size / 2, 1))[:3]
        for signs in itertools.product((-1, 1), repeat=3)
    ]
    dimensions = np.array(volumeNode.GetImageData().GetDimensions())
    # A voxel belongs to the box when its centre does.
    lower = np.clip(np.ceil(np.min(corners, axis=0) - 1e-6), 0, dimensions).astype(int)
    upper = np.clip(np.floor(np.max(corners, axis=0) + 1e-6) + 1, 0, dimensions).astype(int)
    if (upper <= lower).any():
        raise Refused(
            _("The region {roi} lies outside {volume}.").format(
                roi=roiNode.GetName(), volume=volumeNode.GetName()
            ),
            _("Move it, fit it again, or choose no region."),
        )
    return tuple(int(v) for v in lower), tuple(int(v) for v in upper)


def markupsText(box, volumeNode) -> str:
    """A markups file with exactly these voxels of a volume, whose parent transform is left out.

    Args:
        box: As `voxelBox` gives it.
    """
    lower, upper = np.array(box[0], float), np.array(box[1], float)
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volumes.ijkToRas(volumeNode)  # RAS to LPS
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    middle = matrix @ np.append((lower + upper - 1) / 2, 1)
    markup = {
        "type": "ROI",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "roiType": "Box",
        "center": middle[:3].tolist(),
        "orientation": (matrix[:3, :3] / lengths).ravel().tolist(),
        "size": ((upper - lower) * lengths).tolist(),
    }
    return json.dumps({"markups": [markup]})
