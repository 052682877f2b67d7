"""Volumes made for the tests."""

from __future__ import annotations

import numpy as np


def axes(kind: str) -> np.ndarray:
    """IJK to RAS of a made volume: "plain", "oblique" or "left-handed" (and oblique)."""
    matrix = np.diag([1.0, 1.25, 1.5, 1.0])
    if kind != "plain":
        rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
        if np.linalg.det(rotation) < 0:
            rotation[:, 0] *= -1
        if kind == "left-handed":
            rotation[:, 2] *= -1
        matrix[:3, :3] = rotation @ matrix[:3, :3]
    matrix[:3, 3] = (11.25, -20.5, 30.123456)
    return matrix


def phantom():
    """Image (z, y, x) int16 and its labels: a bright sphere (1) and a brighter cube (2)."""
    z, y, x = np.indices((18, 24, 28))
    labels = np.zeros(z.shape, np.uint8)
    labels[(z - 8) ** 2 + (y - 8) ** 2 + (x - 8) ** 2 < 25] = 1
    labels[6:11, 14:20, 16:22] = 2
    noise = np.random.default_rng(3).normal(0, 20, z.shape)
    return (np.array([100, 300, 500])[labels] + noise).astype(np.int16), labels


def add_volume(scene, kind: str = "plain", name: str = "Phantom", array=None):
    """A made volume in the scene."""
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, phantom()[0] if array is None else array)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(axes(kind)))
    node.CreateDefaultDisplayNodes()
    return node


def add_case(scene, kind: str = "plain", name: str = "Case"):
    """A training case: a made volume with its segmentation of a sphere and a cube."""
    from E2ENetSegmentationLib.models.store import ModelStore
    from E2ENetSegmentationLib.mrml.segmentations import importLabels
    from E2ENetSegmentationLib.training.data import TrainingCase

    volume = add_volume(scene, kind, name)
    labels = ModelStore().open("tiny").labels
    node = importLabels(phantom()[1], volume, labels, modelName="truth", show3D=False)
    return TrainingCase([volume], node)


def add_run(scene, volumes, model: str = "tiny"):
    """A segmentation as the tab Segment leaves it."""
    from E2ENetSegmentationLib.mrml.segmentations import ID_TAG, MADE_BY_TAG, rememberInputs

    run = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Run")
    run.SetReferenceImageGeometryParameterFromVolumeNode(volumes[0])
    rememberInputs(run, volumes)
    identifier = run.GetSegmentation().AddEmptySegment("", "one")
    segment = run.GetSegmentation().GetSegment(identifier)
    segment.SetTag(MADE_BY_TAG, model)
    segment.SetTag(ID_TAG, identifier)
    return run
