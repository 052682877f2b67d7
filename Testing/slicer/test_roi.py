"""Regions of interest: fitted, carried to voxels and to the engine."""

import json

import numpy as np
import pytest
import slicer
from E2ENetSegmentationLib.mrml import roi
from E2ENetSegmentationLib.refusal import Refused
from harness.made import add_volume, axes


@pytest.mark.parametrize("kind", ["plain", "oblique", "left-handed"])
def test_fitted_in_the_middle(scene, kind):
    volume = add_volume(scene, kind)
    node = roi.fitRoi(volume)
    lower, upper = roi.voxelBox(node, volume)
    size = np.array(upper) - lower
    assert np.abs(size - np.array([28, 24, 18]) * 2 / 3).max() <= 1
    assert np.abs((np.array(upper) + lower) / 2 - np.array([28, 24, 18]) / 2).max() <= 1
    again = roi.fitRoi(volume, (10.0, 12.0, 9.0), node)
    assert again is node
    assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 1


def test_size_follows_the_patient_axes(scene):
    node = roi.fitRoi(add_volume(scene), (10.0, 12.0, 9.0))
    assert np.allclose(node.GetSize(), (10, 12, 9))
    assert np.allclose(roi.fitRoi(add_volume(scene), (1e3, 1e3, 1e3)).GetSize(), (28, 30, 27))


def test_transform_of_the_volume_is_followed(scene):
    volume = add_volume(scene, "oblique")
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = axes("oblique") @ np.diag([1.0, 1 / 1.25, 1 / 1.5, 1.0])
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    before = roi.voxelBox(roi.fitRoi(volume), volume)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    assert roi.voxelBox(roi.fitRoi(volume), volume) == before


def test_outside_and_empty_are_refused(scene):
    volume = add_volume(scene)
    node = roi.fitRoi(volume)
    node.SetCenter(500, 500, 500)
    with pytest.raises(Refused, match="lies outside Phantom"):
        roi.voxelBox(node, volume)
    node.SetSize(0, 1, 1)
    with pytest.raises(Refused, match="has no size"):
        roi.voxelBox(node, volume)


@pytest.mark.parametrize("kind", ["plain", "oblique", "left-handed"])
def test_engine_reads_the_same_voxels(scene, tmp_path, kind):
    """The engine's own reader finds exactly the voxels the panel meant."""
    from e2enet.data.images.volume import Grid
    from e2enet.inference.localisation import roi as engine

    volume = add_volume(scene, kind)
    box = ((3, 4, 5), (20, 11, 9))
    path = tmp_path / "region.mrk.json"
    path.write_text(roi.markupsText(box, volume))
    assert len(json.loads(path.read_text(encoding="utf-8"))["markups"]) == 1
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ axes(kind)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    grid = Grid(
        (28, 24, 18),
        tuple(spacing),
        tuple(matrix[:3, 3]),
        tuple((matrix[:3, :3] / spacing).ravel()),
    )
    z, y, x = engine.parse_roi(str(path)).slices(grid)
    assert (x, y, z) == (slice(3, 20), slice(4, 11), slice(5, 9))
