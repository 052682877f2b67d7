"""How the slice views show an importance map: over its volume, with opacity, threshold, legend."""

import slicer

from E2ENetSegmentationLib.explain.colors import legendOf
from E2ENetSegmentationLib.explain.maps import SHOWN, UPPER, allMaps
from E2ENetSegmentationLib.explain.nodes import COMPARE, DOMINANT


def show(node, volume, *, opacity: float, threshold: float) -> None:
    """Bring a map over its volume in every slice view.

    Args:
        opacity: 0 to 1.
        threshold: 0 to 1 of the window; what is below stays clear. That of "dominant" and "compare"
            is `FusionMaps.setThreshold`.
    """
    for composite in composites():
        composite.SetBackgroundVolumeID(volume.GetID())
        composite.SetForegroundVolumeID(node.GetID())
    adjust(node, opacity=opacity, threshold=threshold)
    for other in allMaps():
        legend = legendOf(other)
        if legend is not None:
            legend.SetVisibility(other is node)


def adjust(node, *, opacity: float, threshold: float) -> None:
    """Set opacity and threshold of a map that is shown."""
    display = node.GetDisplayNode()
    upper = float(node.GetAttribute(UPPER) or 1.0)
    coded = node.GetAttribute(SHOWN) in (DOMINANT, COMPARE)
    # Of colours, it is on the mean of the channels. What is 0 was not looked at: never a black box.
    lower = 1.0 if coded else max(threshold, 1e-4) * upper
    highest = max(float(node.GetImageData().GetScalarRange()[1]), upper, 255.0)
    display.SetThreshold(lower, highest)
    display.SetApplyThreshold(1)
    for composite in composites():
        if composite.GetForegroundVolumeID() == node.GetID():
            composite.SetForegroundOpacity(opacity)


def hide() -> None:
    """Take our maps off the slice views."""
    for node in allMaps():
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
