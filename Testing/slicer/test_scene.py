"""The result as part of a scene: saved to a bundle file and read back."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from E2ENetSegmentationLib.core import Core
from E2ENetSegmentationLib.mrml import volumes
from harness.made import add_volume, axes


@pytest.mark.parametrize("kind", ["oblique", "left-handed"])
def test_saved_and_read_back(scene, models, answers, tmp_path, kind):
    node = Core().segment(add_volume(scene, kind), "tiny")
    labels = sitk.GetArrayFromImage(answers[0])
    assert (labels == 1).any()
    tag = node.GetSegmentation().GetNthSegment(1).GetTerminology()
    path = tmp_path / "scene.mrb"
    scene.SetRootDirectory(str(tmp_path))
    assert scene.WriteToMRB(str(path))
    scene.Clear(False)
    assert scene.ReadFromMRB(str(path))
    node = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")[0]
    volume = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")[0]
    segmentation = node.GetSegmentation()
    assert [segmentation.GetNthSegment(i).GetName() for i in range(2)] == ["sphere", "cube"]
    assert segmentation.GetNthSegment(1).GetTerminology() == tag
    assert segmentation.GetNthSegment(1).HasTag("E2ENet.Model")
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
    inside = slicer.util.arrayFromSegmentBinaryLabelmap(
        node, segmentation.GetNthSegmentID(0), volume
    )
    # The general reader turns left-handed volumes around: compare in space, not by index.
    matrix = volumes.ijkToRas(volume)
    found = matrix @ np.append(np.argwhere(inside).mean(axis=0)[::-1], 1)
    wanted = axes(kind) @ np.append(np.argwhere(labels == 1).mean(axis=0)[::-1], 1)
    assert np.abs(found - wanted).max() < 1e-4
    assert inside.sum() == (labels == 1).sum()


def test_a_sequence_of_two_runs_uses_its_own_model(scene, models):
    volume = add_volume(scene)
    node = Core().segment(volume, "tiny")
    again = Core().segment(volume, "tiny", outputNode=node, standardNames=True)
    assert again is node
    assert node.GetSegmentation().GetNumberOfSegments() == 2
