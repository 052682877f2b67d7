"""Colour tables of the maps, and the legend that names them in the views."""

import numpy as np
import slicer

from E2ENetSegmentationLib.explain.nodes import COLORS, COMPARE, DOMINANT
from E2ENetSegmentationLib.i18n import tr as _

TABLE = "E2ENet.Table"
# Sixths of the way through the colour map, for a Slicer that lacks Inferno.
INFERNO = (
    (0.001, 0.000, 0.014), (0.197, 0.038, 0.368), (0.447, 0.102, 0.429), (0.693, 0.165, 0.349),
    (0.895, 0.304, 0.186), (0.988, 0.568, 0.035), (0.988, 0.998, 0.645),
)  # fmt: skip


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
    names = [_("Nothing"), _("Same"), _("Coarser"), _("Finer")]
    return _table("Directions", _("Scales"), [(0, 0, 0), *COLORS.values()], names)


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
    if names:
        node.SetColorDefined(0, False)  # it is never seen: the legend leaves it out
    node.SetAttribute(TABLE, key)
    return scene.AddNode(node)


def addLegend(node, name: str, title: str) -> None:
    """A hidden colour legend of a map.

    Args:
        name: Direction, "dominant" or "compare".
        title: Above the colours of one direction.
    """
    logic = getattr(slicer, "vtkSlicerColorLogic", None)
    if logic is None or not hasattr(logic, "AddDefaultColorLegendDisplayNode"):
        return
    legend = logic.AddDefaultColorLegendDisplayNode(node)
    if legend is None:
        return
    if name in (DOMINANT, COMPARE):
        legend.SetTitleText(_("Scale"))
        legend.SetUseColorNamesForLabels(True)
        legend.SetMaxNumberOfColors(len(COLORS))
        legend.SetNumberOfLabels(len(COLORS))
        legend.SetSize(0.22, 0.35)  # wide enough for names that can be read
    else:
        legend.SetTitleText(title)
        legend.SetLabelFormat("%.3g")
    legend.SetVisibility(False)


def legendOf(node):
    """The colour legend of a map, or None."""
    logic = getattr(slicer, "vtkSlicerColorLogic", None)
    if not hasattr(logic, "GetColorLegendDisplayNode"):
        return None
    return logic.GetColorLegendDisplayNode(node)
