"""Input volumes: what the engine can take, and how they reach it."""

import os

import numpy as np
import slicer
import vtk

from E2ENetSegmentationLib.engine.temporary import diskFull, isFull
from E2ENetSegmentationLib.i18n import tr as _
from E2ENetSegmentationLib.refusal import Refused


def checkVolumes(volumeNodes, channels) -> None:
    """Refuse what cannot be segmented, each with one sentence.

    Args:
        volumeNodes: One node (or None) a channel of the model.
        channels: The channels' names.

    Raises:
        Refused: A volume is missing, empty, 4D, a vector, non-linearly transformed, or on another
            grid than the first.
    """
    for index, channel in enumerate(channels):
        node = volumeNodes[index] if index < len(volumeNodes) else None
        if node is None:
            raise Refused(_("Choose a volume for {channel}.").format(channel=channel))
        checkVolume(node)
    first = volumeNodes[0]
    for node in volumeNodes[1 : len(channels)]:
        if not sameGrid(first, node):
            raise Refused(
                _("{second} does not lie on the grid of {first}.").format(
                    first=first.GetName(), second=node.GetName()
                ),
                _("Resample it with the module Resample Scalar/Vector/DWI Volume."),
            )


def checkVolume(node) -> None:
    """Refuse one volume that is not a 3D scalar image under at most a linear transform."""
    name = node.GetName()
    if node.GetScene() is None:
        raise Refused(_("{name} was removed from the scene.").format(name=name))
    if node.IsA("vtkMRMLMultiVolumeNode"):
        raise Refused(
            _("{name} is a 4D volume.").format(name=name),
            _("Load it as a sequence, or choose one time point."),
        )
    image = node.GetImageData()
    if image is None or 0 in image.GetDimensions() or not image.GetPointData().GetScalars():
        raise Refused(_("{name} has no voxels.").format(name=name))
    if image.GetNumberOfScalarComponents() != 1 or node.IsA("vtkMRMLVectorVolumeNode"):
        raise Refused(
            _("{name} has several values a voxel (colour, vector or tensor).").format(name=name),
            _("Choose a scalar volume; Vector to Scalar Volume makes one."),
        )
    transform = node.GetParentTransformNode()
    if transform is not None and not transform.IsTransformToWorldLinear():
        raise Refused(
            _("{name} is under the non-linear transform {transform}.").format(
                name=name, transform=transform.GetName()
            ),
            _("Harden the transform first, or segment before you apply it."),
        )


def ijkToRas(node) -> np.ndarray:
    """The node's own 4x4 matrix, without parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def sameGrid(first, second, tolerance: float = 1e-3) -> bool:
    """Whether two volumes have the same voxels in space; tolerance in mm."""
    if first.GetImageData().GetDimensions() != second.GetImageData().GetDimensions():
        return False
    if first.GetParentTransformNode() is not second.GetParentTransformNode():
        return False
    return bool(np.abs(ijkToRas(first) - ijkToRas(second)).max() < tolerance)


def voxelMillilitres(node) -> float:
    """Volume of one voxel in mL."""
    return float(abs(np.linalg.det(ijkToRas(node)[:3, :3]))) / 1000.0


def writeVolume(node, path) -> None:
    """Write a volume as it is stored (parent transforms are not applied), exactly.

    Through the NRRD storage node: the general one turns left-handed volumes around on reading.

    Raises:
        Refused: The disk is full, or the file cannot be written.
    """
    folder = os.path.dirname(str(path))
    image = node.GetImageData()
    if isFull(folder, image.GetActualMemorySize() * 1024):
        raise diskFull(folder)
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetUseCompression(0)
    storage.SetFileName(str(path))
    if not storage.WriteData(node) or not os.path.isfile(path):
        raise Refused(
            _("{name} cannot be written to the temporary folder {folder}.").format(
                name=node.GetName(), folder=folder
            ),
            _("Free some disk space, or choose another temporary folder in Slicer's settings."),
        )


def writeLabels(array: np.ndarray, volumeNode, path) -> None:
    """Write labels (z, y, x) that lie on the grid of a volume; raises as `writeVolume`."""
    node = slicer.vtkMRMLLabelMapVolumeNode()
    node.SetName(volumeNode.GetName())
    slicer.util.updateVolumeFromArray(node, array)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijkToRas(volumeNode)))
    writeVolume(node, path)


def readResult(path, volumeNode) -> np.ndarray:
    """A volume of the engine (NRRD) as an array (z, y, x) on the grid of the input volume.

    Raises:
        Refused: It cannot be read or lies on another grid.
    """
    array, _matrix = readPart(path, volumeNode)
    if array.shape != volumeNode.GetImageData().GetDimensions()[::-1]:
        raise _elsewhere(volumeNode)
    return array


def readPart(path, volumeNode):
    """A volume of the engine (NRRD) on some of the voxels of the input volume.

    Returns:
        Array (z, y, x) and its own 4x4 matrix from voxels to RAS.

    Raises:
        Refused: It cannot be read, or its voxels are not voxels of the volume.
    """
    found = slicer.vtkMRMLScalarVolumeNode()
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(path))
    if not os.path.isfile(path) or not storage.ReadData(found) or found.GetImageData() is None:
        raise Refused(_("The engine's result cannot be read."))
    matrix, own = ijkToRas(found), ijkToRas(volumeNode)
    first = np.rint((np.linalg.inv(own) @ matrix)[:3, 3])
    # What a header in single precision may be off, in mm.
    far = np.abs(matrix - own @ _shifted(first)).max() > 1e-2
    last = first + found.GetImageData().GetDimensions()
    if far or (first < 0).any() or (last > volumeNode.GetImageData().GetDimensions()).any():
        raise _elsewhere(volumeNode)
    return np.array(slicer.util.arrayFromVolume(found)), own @ _shifted(first)


def _shifted(first) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = first
    return matrix


def _elsewhere(volumeNode) -> Refused:
    return Refused(
        _("The engine's result does not lie on the grid of {name}.").format(
            name=volumeNode.GetName()
        )
    )
