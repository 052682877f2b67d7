"""A scene of the `slicer-core` wheel that does what the module's logic asks of Slicer."""

from __future__ import annotations

import types


def start():
    """Set `slicer.mrmlScene` and `slicer.modules`; returns the application logic."""
    import slicer

    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    colors = application.GetColorLogic()
    colors.SetMRMLScene(scene)
    colors.AddDefaultColorNodes()
    scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())  # Slicer's module Colors does
    application.SetModuleLogic("Colors", colors)
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLScene(scene)
    remote.AddDataIOToScene()  # storage nodes need it
    slicer.mrmlScene, slicer.modules = scene, types.SimpleNamespace()
    for name, kind in (
        ("segmentations", "vtkSlicerSegmentationsModuleLogic"),
        ("volumes", "vtkSlicerVolumesLogic"),
        ("sequences", "vtkSlicerSequencesLogic"),
    ):
        logic = getattr(slicer, kind)()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        setattr(slicer.modules, name, types.SimpleNamespace(logic=lambda logic=logic: logic))
    return types.SimpleNamespace(application=application, remote=remote)


def hierarchy_of(scene):
    import slicer

    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def folders(scene) -> dict:
    """Path of a folder ("Run run/Explanation") -> the nodes directly in it."""
    import vtk

    hierarchy, found, items = hierarchy_of(scene), {}, vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    for index in range(items.GetNumberOfIds()):
        item = items.GetId(index)
        node, names = hierarchy.GetItemDataNode(item), []
        while (item := hierarchy.GetItemParent(item)) != hierarchy.GetSceneItemID():
            names.insert(0, hierarchy.GetItemName(item))
        if node is not None:
            found.setdefault("/".join(names), []).append(node)
    return found


def save(scene, folder) -> None:
    """Write the scene and its files into a folder; `scene.Connect()` loads it again."""
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLStorableNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLStorableNode")
        if not node.GetSaveWithScene() or node.GetHideFromEditors():
            continue
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
        if storage is not None:
            storage.SetFileName(str(folder / f"{index}.{storage.GetDefaultWriteFileExtension()}"))
            assert storage.WriteData(node), node.GetName()
    scene.SetURL(str(folder / "scene.mrml"))
    scene.SetRootDirectory(str(folder))
    assert scene.Commit()
