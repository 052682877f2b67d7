"""The Segment tab in the thin harness, driven as a person would, over the real scene."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from E2ENetSegmentationLib.mrml import segmentations as made
from harness.bundles import variant
from harness.made import add_volume, axes
from harness.tabs import SegmentTab


def segmentations(scene):
    return scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")


def test_pick_and_click(tab, scene, answers, left_behind):
    ui = tab.ui
    assert not ui.segmentButton.enabled
    assert ui.segmentButton.toolTip == "Choose a volume first."
    volume = add_volume(scene)
    view = scene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    tab.choose(volume)
    assert ui.segmentButton.enabled
    ui.segmentButton.click()
    assert ui.cancelButton.enabled
    assert ui.progressBar.visible
    assert not ui.segmentButton.enabled
    heard, feed = [], tab.panel._overall.feed
    tab.panel._overall.feed = lambda event: (feed(event), heard.append(tab.panel._overall.text))
    tab.wait()
    assert any(text.startswith("Segmenting on CPU") for text in heard)
    assert ui.statusLabel.text.startswith("Done: Phantom segmentation.")
    labels = sitk.GetArrayFromImage(answers[0])
    assert tab.usable
    assert not ui.progressBar.visible
    assert ui.resultsWidget.visible
    counted = [(labels == value).sum() * 1.0 * 1.25 * 1.5 / 1000 for value in (1, 2)]
    assert ui.resultsTable._rows == [
        ["sphere", f"{counted[0]:.2f}", ""],
        ["cube", f"{counted[1]:.2f}", ""],
    ]
    assert ui.outputSelector.currentNode() is tab.panel.result.segmentationNode
    assert set(tab.host.shown) == {volume}
    slices = slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())[:3, 3]
    i, j, k = np.linalg.solve(axes("plain"), [*slices, 1])[:3].round().astype(int)
    assert labels[k, j, i] == 1 + (counted[1] > counted[0])  # inside the larger one
    assert left_behind() == []
    ui.statisticsButton.click()
    ui.editorButton.click()
    assert [entry[0] for entry in tab.host.opened] == ["SegmentStatistics", "SegmentEditor"]


def test_3d_comes_and_goes_after_a_run(tab, scene):
    tab.choose(add_volume(scene))
    tab.segment()
    node = tab.panel.result.segmentationNode
    display, segmentation = node.GetDisplayNode(), node.GetSegmentation()
    assert display.GetVisibility3D()
    tab.ui.show3DCheckBox.click()
    assert not display.GetVisibility3D()
    assert not segmentation.ContainsRepresentation("Closed surface")
    display.SetVisibility2D(False)  # what a person hid stays so
    tab.ui.show3DCheckBox.click()
    assert display.GetVisibility3D()
    assert segmentation.ContainsRepresentation("Closed surface")
    assert not display.GetVisibility2D()
    tab.choose(add_volume(scene, name="Other"))  # nothing is shown of it
    tab.ui.show3DCheckBox.click()
    assert segmentation.ContainsRepresentation("Closed surface")


def test_the_image_is_seen_inside_the_outlines(tab, scene):
    tab.choose(add_volume(scene))
    tab.segment()
    display = tab.panel.result.segmentationNode.GetDisplayNode()
    assert display.GetVisibility2DOutline()
    assert not display.GetVisibility2DFill()
    display.SetVisibility2DFill(True)  # what a person set stays so
    tab.segment()
    assert display.GetVisibility2DFill()


def test_choices_are_kept(tab, scene, models):
    tab.ui.mirroringCheckBox.click()
    tab.ui.deviceComboBox.currentIndex = 1
    again = SegmentTab(host=tab.host)
    assert tab.host.settings["mirroring"] == "1"
    assert again.ui.deviceComboBox.currentText == "CPU"
    assert again.panel.model.name == "tiny"


def test_cancel_and_start_again(tab, scene, left_behind):
    tab.choose(add_volume(scene))
    tab.ui.segmentButton.click()
    process = tab.panel._run._engine._process
    tab.ui.cancelButton.click()
    assert process.exitCode not in (None, 0)
    assert tab.ui.statusLabel.text == "Cancelled."
    assert tab.usable
    assert left_behind() == []
    assert segmentations(scene) == 0
    tab.segment()
    assert tab.ui.statusLabel.text.startswith("Done")


def test_scene_closed_in_the_middle(tab, scene, left_behind):
    tab.choose(add_volume(scene))
    tab.ui.segmentButton.click()
    process = tab.panel._run._engine._process
    tab.close_scene(scene)
    assert tab.ui.statusLabel.text == "Cancelled, because the scene was closed."
    assert not tab.panel.running
    assert not process.running
    assert left_behind() == []
    tab.choose(add_volume(scene))
    tab.segment()
    assert tab.ui.statusLabel.text.startswith("Done")


def test_slicer_exits_in_the_middle(tab, scene, left_behind):
    tab.choose(add_volume(scene))
    tab.ui.segmentButton.click()
    process = tab.panel._run._engine._process
    tab.panel.cleanup()
    assert not process.running
    assert left_behind() == []


def test_killed_from_outside(tab, scene, left_behind):
    tab.choose(add_volume(scene))
    tab.ui.segmentButton.click()
    os.kill(tab.panel._run._engine.pid, signal.SIGKILL)
    tab.wait()
    assert tab.ui.statusLabel.text.startswith("The engine was ended from outside")
    assert tab.usable
    assert segmentations(scene) == 0
    assert left_behind() == []


def test_the_engine_refuses(tab, scene, left_behind):
    tab.choose(add_volume(scene, array=np.full((16, 16, 16), np.nan, np.float32)))
    tab.segment()
    assert "NaN" in tab.ui.statusLabel.text
    assert tab.ui.statusLabel.text in tab.ui.logText.plainText
    assert tab.usable
    assert segmentations(scene) == 0
    assert left_behind() == []


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        ("crash", "The engine stopped unexpectedly (exit status 1). The log says more."),
        ("othergrid", "The engine's result does not lie on the grid of Phantom."),
    ],
)
def test_failures_are_one_sentence(tab, scene, stub, left_behind, mode, sentence):
    tab.choose(add_volume(scene))
    stub(mode)
    tab.segment()
    assert tab.ui.statusLabel.text.startswith(sentence)
    assert sentence in tab.ui.logText.plainText
    if mode == "crash":
        assert "boom" in tab.ui.logText.plainText
        assert "not an event {" in tab.ui.logText.plainText
    assert tab.usable
    assert segmentations(scene) == 0
    assert left_behind() == []


def test_an_unexpected_error_is_a_sentence_too(tab, scene, monkeypatch, left_behind):
    def broken(*args, **options):
        raise KeyError("boom")

    monkeypatch.setattr(made, "importLabels", broken)
    tab.choose(add_volume(scene))
    tab.segment()
    assert tab.ui.statusLabel.text.startswith("Something unexpected happened: 'boom'.")
    assert "Traceback" in tab.ui.logText.plainText
    assert tab.usable
    assert left_behind() == []


def test_region_outside_the_volume(tab, scene):
    tab.choose(add_volume(scene))
    tab.ui.placeRoiButton.click()
    node = tab.ui.roiSelector.currentNode()
    assert node.IsA("vtkMRMLMarkupsROINode")
    assert node.GetSize() == (16, 16, 16)  # the model's field of view
    node.SetCenter(900, 0, 0)
    tab.ui.segmentButton.click()
    assert "lies outside Phantom" in tab.ui.statusLabel.text
    assert tab.usable


def test_region_reaches_the_engine(tab, scene, monkeypatch):
    seen = []
    from E2ENetSegmentationLib.engine import run

    original = run.engineCommand

    def remember(arguments):
        where = arguments[arguments.index("--roi") + 1]
        seen.append(json.loads(Path(where).read_text(encoding="utf-8")))
        return original(arguments)

    monkeypatch.setattr(run, "engineCommand", remember)
    tab.choose(add_volume(scene))
    tab.ui.placeRoiButton.click()
    tab.segment()
    assert len(seen[0]["markups"]) == 1


def test_volume_without_voxels(tab, scene):
    tab.choose(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty"))
    tab.ui.segmentButton.click()
    assert tab.ui.statusLabel.text == "Empty has no voxels."
    assert tab.usable
    tab.ui.placeRoiButton.click()
    assert tab.ui.statusLabel.text == "Choose a volume with voxels first."


def test_one_selector_a_channel(scene, models, tmp_path, monkeypatch):
    variant(models, tmp_path / "two", channels=("T1", "T2"))
    variant(models, tmp_path / "finding", locator={"template": "x"})
    monkeypatch.setenv("E2ENET_MODELS", os.pathsep.join(map(str, (models.parent, tmp_path))))
    tab = SegmentTab()
    assert not tab.ui.channelsWidget.visible
    tab.panel.selectModel("two")
    assert tab.ui.inputLabel.text == "T1:"
    assert [text for text, _selector in tab.ui.channelsWidget._items] == ["T2:"]
    tab.panel.selectModel("finding")
    assert tab.ui.roiSelector.noneDisplay == "Automatic"
    tab.panel.selectModel("two")
    tab.choose(add_volume(scene, name="A"))
    tab.ui.segmentButton.click()
    assert tab.ui.statusLabel.text == "Choose a volume for T2."
    other = add_volume(scene, "oblique", name="B")
    tab.ui.channelsWidget._items[0][1].setCurrentNode(other)
    tab.ui.segmentButton.click()
    assert "B does not lie on the grid of A." in tab.ui.statusLabel.text
    second = add_volume(scene, name="C")
    tab.ui.channelsWidget._items[0][1].setCurrentNode(second)
    tab.segment()
    assert tab.ui.statusLabel.text.startswith("Done")
    assert tab.parameters.extraVolumes == [second]
    tab.panel.selectModel("tiny")
    assert not tab.ui.channelsWidget.visible
    assert not tab.ui.batchButton.enabled


def test_no_model_at_all(scene, monkeypatch):
    monkeypatch.setattr("E2ENetSegmentationLib.models.store.ModelStore.models", lambda self: [])
    tab = SegmentTab()
    tab.choose(add_volume(scene))
    assert not tab.ui.segmentButton.enabled
    assert tab.ui.modelInfoLabel.text == "There is no model."


def test_nothing_found_leaves_the_slices(scene, blind, left_behind):
    tab = SegmentTab(blind)
    tab.choose(add_volume(scene))
    tab.segment()
    assert tab.ui.statusLabel.text.startswith("Nothing was found in Phantom. See whether")
    assert tab.host.jumps == []


def test_no_to_an_installation(tab, scene, monkeypatch):
    monkeypatch.delenv("E2ENET_PYTHON")
    tab.choose(add_volume(scene))
    tab.ui.segmentButton.click()
    assert "numba" in tab.host.asked[0]
    assert "torch" not in tab.host.asked[0]
    assert tab.ui.statusLabel.text.startswith("Without its Python packages")
    assert tab.usable


def test_the_harness_finds_typos(tab):
    with pytest.raises(AttributeError):
        tab.ui.segmentButton.enable = True
    with pytest.raises(KeyError):
        tab.ui.segmentButton.connect("click()", print)
    with pytest.raises(TypeError):
        tab.ui.statusLabel.text = 3


@pytest.fixture
def two(scene, models, tmp_path, monkeypatch):
    """The tab with a second model of the first one's title."""
    variant(models, tmp_path / "second")
    monkeypatch.setenv("E2ENET_MODELS", os.pathsep.join(map(str, (models.parent, tmp_path))))
    tab = SegmentTab()
    yield tab
    tab.panel.cleanup()


def test_another_model_leaves_a_result(two, scene):
    two.choose(add_volume(scene, name="A"))
    two.segment()
    first = two.parameters.outputSegmentation
    two.panel.selectModel("second")
    two.segment()
    second = two.parameters.outputSegmentation
    assert second is not first
    assert made.origin(first) == (*made.origin(second)[:1], "tiny")
    assert made.origin(second)[1] == "second"
    text = "A segmentation stays as it is: it was corrected, or made by another model."
    assert text in two.ui.statusLabel.text
    assert first.GetSegmentation().GetNumberOfSegments() == 2
    two.segment()
    assert two.parameters.outputSegmentation is second
    assert segmentations(scene) == 2


def test_what_is_shown_after_a_refresh_is_chosen(two, scene):
    """A model that was installed or trained; that two have one title does not matter."""
    two.panel.refreshModels("second")
    assert two.panel.model.name == two.parameters.model == two.host.settings["model"] == "second"
    two.panel.refreshModels()
    two.panel.setParameterNode(two.parameters)
    assert two.panel.model.name == "second"
