"""One segmentation from the volume to the segmentation, on the real MRML core."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from E2ENetSegmentationLib.core import Core
from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.engine.python import interpreter
from E2ENetSegmentationLib.mrml import segmentations, volumes
from E2ENetSegmentationLib.refusal import Refused
from harness.made import add_volume, axes, phantom


def segment_array(node, segment_index, volume):
    segmentation = node.GetSegmentation()
    identifier = segmentation.GetNthSegmentID(segment_index)
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume).astype(bool)


def matrix_of(image):
    """IJK to RAS of an image as SimpleITK has it, which is in LPS."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix


@pytest.mark.parametrize("kind", ["plain", "oblique", "left-handed"])
def test_result_lies_where_the_labels_are(scene, models, answers, left_behind, kind):
    volume = add_volume(scene, kind)
    node = Core().segment(volume, "tiny")
    (answer,) = answers
    labels = sitk.GetArrayFromImage(answer)
    assert set(np.unique(labels)) == {0, 1, 2}  # what the random weights happen to see
    assert np.abs(matrix_of(answer) - axes(kind)).max() < 1e-6
    segmentation = node.GetSegmentation()
    assert [segmentation.GetNthSegment(i).GetName() for i in range(2)] == ["sphere", "cube"]
    found = segmentation.GetNthSegment(0).GetColor()
    assert np.allclose(found, np.array([216, 101, 79]) / 255, atol=1e-6)
    for index in range(2):
        assert (segment_array(node, index, volume) == (labels == index + 1)).all()
    assert np.abs(volumes.ijkToRas(volume) - axes(kind)).max() < 1e-6
    geometry = segmentation.GetConversionParameter("Reference image geometry").split(";")
    assert np.abs(np.array(geometry[:16], float).reshape(4, 4) - axes(kind)).max() < 1e-6
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
    assert left_behind() == []


def test_terminology_is_slicers(scene, models):
    node = Core().segment(add_volume(scene), "tiny")
    text = node.GetSegmentation().GetNthSegment(0).GetTerminology()
    entry = slicer.vtkSlicerTerminologyEntry()
    assert slicer.vtkSlicerTerminologiesModuleLogic.DeserializeTerminologyEntry(text, entry)
    assert entry.GetCategoryObject().GetCodeValue() == "85756007"
    assert entry.GetTypeObject().GetCodeMeaning() == "Tissue"
    assert not entry.GetTypeModifierObject().GetCodeValue()


def test_standard_names(scene, models):
    node = Core().segment(add_volume(scene), "tiny", standardNames=True)
    names = [node.GetSegmentation().GetNthSegment(i).GetName() for i in range(2)]
    assert names == ["Tissue, sphere", "Tissue, cube"]  # one code for both: the part is added


def test_3d_display_can_be_left_out(scene, models):
    shown = Core().segment(add_volume(scene), "tiny")
    hidden = Core().segment(add_volume(scene), "tiny", show3D=False)
    assert shown.GetSegmentation().ContainsRepresentation("Closed surface")
    assert not hidden.GetSegmentation().ContainsRepresentation("Closed surface")
    assert not hidden.GetDisplayNode().GetVisibility3D()


def test_linear_transform_is_followed(scene, models, answers):
    volume = add_volume(scene, "oblique")
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = (5, 6, 7)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    node = Core().segment(volume, "tiny")
    assert node.GetParentTransformNode() is transform
    assert (segment_array(node, 0, volume) == (sitk.GetArrayFromImage(answers[0]) == 1)).all()


def test_output_keeps_what_a_person_made(scene, models):
    volume = add_volume(scene)
    node = Core().segment(volume, "tiny")
    node.GetSegmentation().AddEmptySegment("mine", "mine")
    again = Core().segment(volume, "tiny", outputNode=node)
    names = [again.GetSegmentation().GetNthSegment(i).GetName() for i in range(3)]
    assert again is node
    assert sorted(names) == ["cube", "mine", "sphere"]


def correct(node, volume):
    """A person's brush in the first segment."""
    array = np.zeros(phantom()[1].shape, np.uint8)
    array[2:4, 2:4, 2:4] = 1
    identifier = node.GetSegmentation().GetNthSegmentID(0)
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, identifier, volume)


@pytest.mark.parametrize("kind", ["plain", "oblique"])
def test_what_was_corrected_stays(scene, models, kind):
    volume = add_volume(scene, kind)
    node = Core().segment(volume, "tiny")
    assert Core().segment(volume, "tiny", outputNode=node) is node
    correct(node, volume)
    before = segment_array(node, 0, volume)
    again = Core().segment(volume, "tiny", outputNode=node)
    assert again is not node
    assert (segment_array(node, 0, volume) == before).all()
    assert not (segment_array(again, 0, volume) == before).all()


def test_a_copy_is_a_persons(scene, models):
    """It has the tags of its original; its content stays, and it is not counted as the model's."""
    volume = add_volume(scene)
    node = Core().segment(volume, "tiny")
    segmentation, copy = node.GetSegmentation(), slicer.vtkSegment()
    copy.DeepCopy(segmentation.GetNthSegment(0))
    copy.SetName("my corrected copy")
    segmentation.AddSegment(copy)
    assert Core().segment(volume, "tiny", outputNode=node) is node
    names = [segmentation.GetNthSegment(i).GetName() for i in range(3)]
    assert sorted(names) == ["cube", "my corrected copy", "sphere"]
    assert segmentation.GetSegmentIdBySegmentName("my corrected copy")
    assert len(segmentations.exportLabels(node, volume)[1]) == 2


def test_structure_that_is_not_found_is_an_empty_segment(scene, blind, answers):
    node = Core().segment(add_volume(scene), blind)
    assert not sitk.GetArrayFromImage(answers[0]).any()
    assert node.GetSegmentation().GetNumberOfSegments() == 2


def test_placed_beside_its_volume(scene, models):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    volume = add_volume(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    hierarchy.CreateItem(study, volume)
    node = Core().segment(volume, "tiny")
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def test_a_refilled_one_stays_where_it_lies(scene, models):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    volume = add_volume(scene)
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), volume)
    node = Core().segment(volume, "tiny")
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Mine")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), folder)
    Core().segment(volume, "tiny", outputNode=node)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == folder


def test_origin_is_remembered(scene, models):
    volume = add_volume(scene)
    node = Core().segment(volume, "tiny")
    assert segmentations.origin(node) == ([volume], "tiny")
    scene.RemoveNode(volume)
    assert segmentations.origin(node) == ([], "tiny")
    assert segmentations.origin(None) == ([], "")


def test_a_volume_is_shown_unless_it_is(scene, mrml):
    """The Data module shows another one without a word to the selection node."""
    first, second = add_volume(scene, name="A"), add_volume(scene, name="B")
    view, slices = (
        scene.AddNewNodeByClass(f"vtkMRMLSlice{k}Node", "Red") for k in ("", "Composite")
    )
    for node in (view, slices):
        node.SetLayoutName("Red")
    view.SetMappedInLayout(1)
    selection = mrml.application.GetSelectionNode()
    segmentations.show(first, mrml.application)
    assert slices.GetBackgroundVolumeID() == first.GetID()
    slices.SetBackgroundVolumeID(second.GetID())
    assert selection.GetActiveVolumeID() == first.GetID()
    segmentations.show(first, mrml.application)
    assert slices.GetBackgroundVolumeID() == first.GetID()
    slices.SetForegroundVolumeID(second.GetID())  # by a person: it stays
    segmentations.show(first, mrml.application)
    assert slices.GetForegroundVolumeID() == second.GetID()


@pytest.mark.parametrize("kind", ["oblique", "left-handed"])
def test_centre_of_the_largest_lies_in_it(scene, kind):
    """A ring does not contain its own centre; the nearest point of it is taken."""
    volume = add_volume(scene, kind)
    z, y, x = np.indices(phantom()[1].shape)
    distance = np.hypot(y - 12, x - 14)
    array = ((z == 9) & (distance > 7) & (distance < 10)).astype(np.uint8)
    array[2, 2:5, 2:5] = 2
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([2, 2, 2, 1.0])))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    point = np.array(segmentations.centreOfLargest(array, volume))
    i, j, k = np.linalg.solve(axes(kind), np.append(point / 2, 1))[:3].round().astype(int)
    assert array[k, j, i] == 1
    assert np.hypot(j - 12, i - 14) < 9
    assert segmentations.centreOfLargest(array * 0, volume) is None


def test_nothing_else_stays_in_the_scene(scene, models):
    volume = add_volume(scene)
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    before = scene.GetNumberOfNodes()
    Core().segment(volume, "tiny")
    # the segmentation, its display node, and nothing more
    assert scene.GetNumberOfNodes() == before + 2


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        ("crash", "stopped unexpectedly"),
        ("lacking", "package of the engine cannot be used"),
        ("nothing", "cannot be read"),
        ("othergrid", "does not lie on the grid"),
        ("otherlabel", "labels that the model does not name: 7"),
        ("cancelled", "Cancelled"),
    ],
)
def test_a_failing_engine_leaves_the_scene_alone(scene, models, stub, left_behind, mode, sentence):
    volume = add_volume(scene)
    before = scene.GetNumberOfNodes()
    stub(mode)
    with pytest.raises(Refused, match=sentence):
        Core().segment(volume, "tiny")
    assert scene.GetNumberOfNodes() == before
    assert left_behind() == []


def test_what_the_engine_refuses(scene, models, left_behind):
    volume = add_volume(scene, array=np.full((16, 16, 16), np.nan, np.float32))
    before = scene.GetNumberOfNodes()
    with pytest.raises(Refused, match="NaN"):
        Core().segment(volume, "tiny")
    assert scene.GetNumberOfNodes() == before
    assert left_behind() == []


def bad_volume(scene, what):
    if what == "none":
        return None
    if what == "empty":
        return scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    if what == "vector":
        node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Colours")
        slicer.util.updateVolumeFromArray(node, np.zeros((4, 5, 6, 3), np.uint8))
        return node
    if what == "bent":
        node = add_volume(scene)
        bend = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "Bend")
        node.SetAndObserveTransformNodeID(bend.GetID())
        return node
    raise KeyError(what)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("none", "Choose a volume for MRI"),
        ("empty", "Empty has no voxels"),
        ("vector", "several values a voxel"),
        ("bent", "non-linear transform Bend"),
    ],
)
def test_bad_volumes(scene, models, left_behind, what, sentence):
    with pytest.raises(Refused, match=sentence):
        Core().segment(bad_volume(scene, what), "tiny")
    assert left_behind() == []


def test_a_4d_multivolume(scene):
    """The wheel lacks the class, which is an extension's: what is tested goes by its name."""

    class MultiVolume(slicer.vtkMRMLScalarVolumeNode):
        def IsA(self, name):
            return name == "vtkMRMLMultiVolumeNode" or super().IsA(name)

    node = MultiVolume()
    node.SetName("Beats")
    scene.AddNode(node)
    with pytest.raises(Refused, match=r"^Beats is a 4D volume\. Load it as a sequence, or"):
        volumes.checkVolumes([node], ["MRI"])


def test_channels_on_different_grids(scene):
    first, second = add_volume(scene, name="T1"), add_volume(scene, "oblique", name="T2")
    with pytest.raises(Refused, match="T2 does not lie on the grid of T1"):
        volumes.checkVolumes([first, second], ["T1", "T2"])
    volumes.checkVolumes([first, add_volume(scene)], ["T1", "T2"])


def test_full_disk(scene, models, left_behind, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(Refused, match="is full"):
        Core().segment(add_volume(scene), "tiny")
    assert left_behind() == []


def test_volume_removed_while_running(scene, models):
    import time

    from E2ENetSegmentationLib.segment.run import SegmentRequest

    volume = add_volume(scene)
    core = Core()
    run = core.startSegmentation(SegmentRequest([volume], core.store.open("tiny")))
    scene.RemoveNode(volume)

    def finish():
        while run.poll():
            time.sleep(0.02)

    with pytest.raises(Refused, match="was removed"):
        finish()


def test_missing_engine(scene, models, monkeypatch, left_behind):
    volume, core = add_volume(scene), Core()
    model = core.store.open("tiny")
    monkeypatch.setattr(paths, "ENGINE_FOLDERS", ("nowhere",))
    from E2ENetSegmentationLib.segment.run import SegmentRequest

    with pytest.raises(Refused, match="is missing beside the module"):
        core.startSegmentation(SegmentRequest([volume], model))
    assert left_behind() == []


def test_interpreter_that_is_none(monkeypatch):
    monkeypatch.setenv("E2ENET_PYTHON", "/no/such/python")
    with pytest.raises(Refused, match="is no program"):
        interpreter.current()


def test_regions_become_segments_that_overlap(scene):
    volume = add_volume(scene)
    array = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    array[2:10, 2:10, 2:10] = 1
    array[3:8, 3:8, 3:8] = 2
    make = paths.engineModule("bundle").Label
    labels = [
        make(1, "whole", (1, 2, 3), {}, values=(1, 2, 3)),
        make(2, "core", (4, 5, 6), {}, values=(2, 3)),
        make(3, "enhancing", (7, 8, 9), {}, values=(3,)),
    ]
    node = segmentations.importLabels(array, volume, labels, modelName="m", show3D=False)
    segmentation = node.GetSegmentation()
    names = [segmentation.GetNthSegment(n).GetName() for n in range(3)]
    assert names == ["whole", "core", "enhancing"]
    assert (segment_array(node, 0, volume) == (array > 0)).all()
    assert (segment_array(node, 1, volume) == (array == 2)).all()
    assert [segmentations.valueOf(segmentation.GetNthSegment(n)) for n in range(3)] == [1, 2, 3]
    again, entries = segmentations.exportLabels(node, volume)
    assert (again == array).all()
    assert [entry["name"] for entry in entries] == names
