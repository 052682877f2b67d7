"""Where our nodes lie in the subject hierarchy: beside their volume, in one folder a run.

What is made for a segmentation later lies beside it in a folder that holds both. It cannot lie
under the segmentation's own item: Slicer takes whatever is there for segments, refuses to move or
copy it, and does not come back from deleting the segmentation.
"""

import slicer

from E2ENetSegmentationLib.i18n import tr as _

RUN = "E2ENet.Run"


def _hierarchy():
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def _item(hierarchy, node):
    """The node's item; None where it has none."""
    item = hierarchy.GetItemByDataNode(node)
    return item if item and item != hierarchy.GetInvalidItemID() else None


def _put(hierarchy, node, parent) -> None:
    item = _item(hierarchy, node)
    if item is None:
        hierarchy.CreateItem(parent, node)
    else:
        hierarchy.SetItemParent(item, parent)


def placeBeside(node, volumeNode) -> None:
    """Give the node the volume's parent (study, patient or folder)."""
    hierarchy = _hierarchy()
    item = _item(hierarchy, volumeNode) if hierarchy is not None else None
    if item is not None:
        _put(hierarchy, node, hierarchy.GetItemParent(item))


def group(nodes, place, title: str) -> None:
    """Put nodes into the folder "Explanation" of a run; made once.

    Args:
        place: The segmentation that the nodes are about, which comes into the run's folder as well;
            or a volume, beside which the folder lies; or None for the top.
        title: Names the folder where there is no place.
    """
    hierarchy = _hierarchy()
    if hierarchy is None:
        return
    name = _("Explanation")
    parent = hierarchy.GetSceneItemID()
    if place is None:
        name = _("{name} explanation").format(name=title)
    elif place.IsA("vtkMRMLSegmentationNode"):
        parent = _runFolder(hierarchy, place)
    else:
        item = _item(hierarchy, place)
        parent = hierarchy.GetItemParent(item) if item is not None else parent
        name = _("{name} explanation").format(name=place.GetName())
    folder = hierarchy.GetItemChildWithName(parent, name)
    if not folder or folder == hierarchy.GetInvalidItemID():
        folder = hierarchy.CreateFolderItem(parent, name)
    for node in nodes:
        _put(hierarchy, node, folder)


def _runFolder(hierarchy, segmentationNode):
    """The folder of a run, around its segmentation."""
    item = _item(hierarchy, segmentationNode)
    parent = hierarchy.GetSceneItemID() if item is None else hierarchy.GetItemParent(item)
    if hierarchy.HasItemAttribute(parent, RUN):
        return parent
    name = _("{name} run").format(name=segmentationNode.GetName())
    folder = hierarchy.CreateFolderItem(parent, name)
    hierarchy.SetItemAttribute(folder, RUN, "1")
    _put(hierarchy, segmentationNode, folder)
    return folder
