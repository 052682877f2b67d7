"""Names of segments by the standard terminology: parts of one structure can be told apart."""

from types import SimpleNamespace

from E2ENetSegmentationLib.models.store import ModelStore
from E2ENetSegmentationLib.mrml.segmentations import importLabels
from E2ENetSegmentationLib.mrml.terminology import segmentNames
from harness.made import add_volume, phantom


def label(value, name, meaning="", modifier=""):
    terms = {"type": {"meaning": meaning}} if meaning else {}
    terms |= {"modifier": {"meaning": modifier}} if modifier else {}
    return SimpleNamespace(value=value, name=name, terminology=terms, values=())


def test_sides_and_parts():
    labels = [
        label(1, "Left Anterior", "Hippocampus", "Left"),
        label(2, "Left Posterior", "Hippocampus", "Left"),
        label(3, "Right Anterior", "Hippocampus", "Right"),
        label(4, "Right Posterior", "Hippocampus", "Right"),
        label(5, "Spleen", "Spleen"),
        label(6, "Mine"),
    ]
    assert list(segmentNames(labels, True).values()) == [
        "Hippocampus, left, anterior",
        "Hippocampus, left, posterior",
        "Hippocampus, right, anterior",
        "Hippocampus, right, posterior",
        "Spleen",
        "Mine",
    ]
    assert segmentNames(labels, False)[1] == "Left Anterior"


def test_names_that_say_nothing_more():
    labels = [label(1, "Left", "Kidney", "Left"), label(2, "Second left", "Kidney", "Left")]
    assert segmentNames(labels, True) == {1: "Left", 2: "Kidney, left, second"}


def test_no_two_segments_of_the_shipped_model_share_a_name(scene):
    model = ModelStore().open("hippocampus-mr")
    names = segmentNames(model.labels, True)
    assert len(set(names.values())) == len(model.labels)
    node = importLabels(
        phantom()[1],
        add_volume(scene),
        model.labels,
        modelName="x",
        standardNames=True,
        show3D=False,
    )
    segmentation = node.GetSegmentation()
    found = [segmentation.GetNthSegment(i).GetName() for i in range(2)]
    assert found == list(names.values())
