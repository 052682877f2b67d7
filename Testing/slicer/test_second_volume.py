"""Never the wrong patient: two and three volumes, before, during and after runs."""

import json
import os

import pytest
from E2ENetSegmentationLib.mrml import segmentations
from E2ENetSegmentationLib.refusal import Refused
from harness.bundles import variant
from harness.made import add_case, add_run, add_volume
from harness.mrml import save
from harness.tabs import ExplainTab, FineTuneTab, SegmentTab


def names(scene):
    count = scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    return [scene.GetNthNodeByClass(i, "vtkMRMLSegmentationNode").GetName() for i in range(count)]


def chosen(tab):
    """Names in the selectors, which the parameter node has as well."""
    parameters, ui = tab.parameters, tab.ui
    assert ui.inputSelector.currentNode() is parameters.inputVolume
    assert ui.outputSelector.currentNode() is parameters.outputSegmentation
    nodes = (parameters.inputVolume, parameters.outputSegmentation)
    return tuple(node.GetName() if node is not None else "" for node in nodes)


def test_the_harness_overrules_a_slot_that_sets_a_sibling(tab, scene):
    """As Slicer does: without this the tests below could not fail."""
    first, second = add_volume(scene, name="A"), add_volume(scene, name="B")
    ui, output = tab.ui, add_run(scene, [first])
    tab.choices.release()
    tab.choose_node(ui.inputSelector, first)
    tab.choose_node(ui.outputSelector, output)
    slots = ui.inputSelector._slots["currentNodeChanged(vtkMRMLNode*)"]
    slots.insert(0, lambda: ui.outputSelector.setCurrentNode(None))
    ui.inputSelector.setCurrentNode(second)
    assert tab.parameters.inputVolume is first


def test_three_volumes_one_after_the_other(tab, scene):
    volumes = [add_volume(scene, name=name) for name in "ABC"]
    for volume in volumes:
        tab.choose(volume)
        assert chosen(tab) == (volume.GetName(), "")
        assert not tab.ui.resultsWidget.visible
        assert tab.ui.statusLabel.text == ""
        tab.segment()
        assert chosen(tab) == (volume.GetName(), f"{volume.GetName()} segmentation")
        assert tab.panel.result.volumeNode is volume
        assert tab.ui.resultsWidget.visible
        assert tab.ui.statusLabel.text == f"Done: {volume.GetName()} segmentation."
    assert names(scene) == ["A segmentation", "B segmentation", "C segmentation"]
    for volume in volumes:
        node = segmentations.latestOf(volume)
        assert segmentations.origin(node) == ([volume], "tiny")


def test_back_to_the_first(tab, scene):
    """Its result is there again, and a further run replaces that one, not the other's."""
    first, second = add_volume(scene, name="A"), add_volume(scene, "oblique", name="B")
    for volume in (first, second):
        tab.choose(volume)
        tab.segment()
    other = tab.panel.result
    rows = list(tab.ui.resultsTable._rows)
    tab.choose(first)
    assert chosen(tab) == ("A", "A segmentation")
    assert tab.ui.resultsWidget.visible
    assert tab.ui.resultsTable._rows != rows
    assert tab.panel.result.volumeNode is first
    tab.segment()
    assert names(scene) == ["A segmentation", "B segmentation"]
    tab.choose(second)
    assert tab.panel.result == other


def test_views_show_the_patient_of_the_panel(tab, scene):
    first, second = add_volume(scene, name="A"), add_volume(scene, name="B")
    for volume in (first, second):
        tab.choose(volume)
        tab.segment()
    displays = [segmentations.latestOf(volume).GetDisplayNode() for volume in (first, second)]
    assert [display.GetVisibility() for display in displays] == [0, 1]
    tab.choose(first)
    assert tab.host.shown[-1] is first
    assert [display.GetVisibility() for display in displays] == [1, 0]
    displays[0].SetVisibility(False)  # by a person: it stays so
    tab.choose(second)
    tab.choose(first)
    assert [display.GetVisibility() for display in displays] == [0, 0]
    tab.host.entered = False  # another module is shown: its views are left alone
    tab.choose(second)
    assert tab.host.shown[-1] is first


def test_chosen_during_a_run(tab, scene):
    first, second = add_volume(scene, name="A"), add_volume(scene, name="B")
    tab.choose(first)
    tab.ui.segmentButton.click()
    tab.choose(second)
    said = []
    tab.host.pump(lambda: said.append(tab.ui.statusLabel.text) or not tab.panel.running)
    assert any(text.startswith("A: ") for text in said)
    assert chosen(tab) == ("B", "")
    assert not tab.ui.resultsWidget.visible
    assert tab.ui.statusLabel.text == "Done: A segmentation. Choose A to see it."
    assert tab.host.jumps == []
    tab.segment()
    assert chosen(tab) == ("B", "B segmentation")
    assert names(scene) == ["A segmentation", "B segmentation"]
    assert segmentations.origin(segmentations.latestOf(first))[0] == [first]
    tab.choose(first)
    assert chosen(tab) == ("A", "A segmentation")
    assert tab.ui.resultsWidget.visible


def test_there_and_back_during_a_run(tab, scene):
    first, second = add_volume(scene, name="A"), add_volume(scene, name="B")
    tab.choose(first)
    tab.ui.segmentButton.click()
    tab.choose(second)
    tab.choose(first)
    tab.wait()
    assert chosen(tab) == ("A", "A segmentation")
    assert tab.ui.resultsWidget.visible


def test_the_volume_of_a_run_is_removed(tab, scene):
    first, second = add_volume(scene, name="A"), add_volume(scene, name="B")
    tab.choose(first)
    tab.ui.segmentButton.click()
    tab.choose(second)
    scene.RemoveNode(first)
    tab.wait()
    assert tab.ui.statusLabel.text == "The volume was removed from the scene during the run."
    assert chosen(tab) == ("B", "")
    assert names(scene) == []


def test_output_of_another_volume_is_asked_for(tab, scene):
    first, second = add_volume(scene, name="A"), add_volume(scene, "oblique", name="B")
    tab.choose(first)
    tab.segment()
    node = tab.panel.result.segmentationNode
    before = tab.panel.result
    tab.choose(second)
    tab.choose_node(tab.ui.outputSelector, node)
    assert not tab.ui.resultsWidget.visible  # they are A's
    tab.ui.segmentButton.click()
    assert "A segmentation was made of another volume, A." in tab.host.asked[-1]
    assert not tab.panel.running
    assert tab.ui.statusLabel.text.startswith("A segmentation was left as it is.")
    tab.choose(first)
    assert tab.panel.result == before
    tab.choose(second)
    tab.choose_node(tab.ui.outputSelector, node)
    tab.host.answers.append(True)
    tab.segment()
    assert segmentations.origin(node) == ([second], "tiny")
    tab.choose(first)
    assert chosen(tab) == ("A", "")


def test_a_failed_run_leaves_no_table(tab, scene, stub, models):
    tab.choose(add_volume(scene, name="A"))
    tab.segment()
    assert tab.ui.resultsWidget.visible
    stub("crash")
    tab.segment()
    assert tab.ui.statusLabel.text.startswith("The engine stopped unexpectedly")
    assert not tab.ui.resultsWidget.visible
    tab.choose(add_volume(scene, name="B"))
    tab.segment()
    assert not tab.ui.resultsWidget.visible
    assert names(scene) == ["A segmentation"]


def test_another_of_the_same_name(tab, scene):
    """A selector of Slicer 5.12 says nothing then; only that it was used."""
    first, second = add_volume(scene, name="Head"), add_volume(scene, "oblique", name="Head")
    tab.choose(first)
    tab.segment()
    tab.ui.inputSelector._node = second
    tab.ui.inputSelector._emit("nodeActivated(vtkMRMLNode*)", second)
    assert tab.parameters.inputVolume is second
    assert chosen(tab) == ("Head", "")
    assert not tab.ui.resultsWidget.visible
    tab.segment()
    assert tab.panel.result.volumeNode is second


def test_region_and_channels_go_with_their_volume(scene, models, tmp_path, monkeypatch):
    variant(models, tmp_path / "two", channels=("T1", "T2"))
    monkeypatch.setenv("E2ENET_MODELS", os.pathsep.join(map(str, (models.parent, tmp_path))))
    tab = SegmentTab("two")
    a1, a2, b1 = (add_volume(scene, name=name) for name in ("A1", "A2", "B1"))
    tab.choose(a1)
    selector = tab.ui.channelsWidget._items[0][1]
    tab.choose_node(selector, a2)
    assert list(tab.parameters.extraVolumes) == [a2]
    tab.ui.placeRoiButton.click()
    placed = tab.parameters.roi
    tab.choose(b1)
    assert selector.currentNode() is None
    assert tab.ui.roiSelector.currentNode() is None
    tab.ui.segmentButton.click()
    assert tab.ui.statusLabel.text == "Choose a volume for T2."
    made = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "By hand")
    tab.choose_node(tab.ui.roiSelector, made)  # of no volume: a place in space
    tab.choose(a1)
    assert tab.parameters.roi is made
    tab.choose_node(tab.ui.roiSelector, placed)
    assert tab.parameters.roi is placed


@pytest.fixture
def doubting(models, tmp_path, monkeypatch):
    """The name of a model whose cubes were far larger in training."""
    folder = tmp_path / "more"
    variant(models, folder / "doubting")
    record = json.loads((folder / "doubting" / "model.json").read_text(encoding="utf-8"))
    record["labels"][1]["usual_ml"] = [500.0, 600.0]
    (folder / "doubting" / "model.json").write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.setenv("E2ENET_MODELS", os.pathsep.join(map(str, (models.parent, folder))))
    return "doubting"


def test_a_doubtful_result_leads_with_the_doubt(scene, doubting):
    tab = SegmentTab(doubting)
    tab.choose(add_volume(scene, name="A"))
    tab.segment()
    text = tab.ui.statusLabel.text
    assert text.startswith("This result is doubtful, look at it before you use it: cube measures")
    assert "A segmentation can be corrected in Segment Editor." in text
    assert "Place" in text
    assert "Done" not in text
    rows = tab.ui.resultsTable._rows
    assert rows[1][0] == "⚠ cube"
    assert rows[1][2] == "500.00 – 600.00"
    assert rows[0][0] == "sphere"
    assert tab.ui.resultsTable._marked == [1]
    tab.choose(add_volume(scene, name="B"))
    assert tab.ui.statusLabel.text == ""
    tab.choose(scene.GetFirstNodeByName("A"))
    assert tab.ui.statusLabel.text == text


def test_results_are_those_of_the_segments_now(tab, scene):
    """Also for a panel that was not there when they were made: a scene that was loaded."""
    tab.choose(add_volume(scene, "left-handed", name="A"))
    tab.segment()
    rows = list(tab.ui.resultsTable._rows)
    again = SegmentTab()
    again.bind(tab.parameters)
    assert again.ui.resultsWidget.visible
    assert again.ui.resultsTable._rows == rows
    assert again.ui.statusLabel.text == "Done: A segmentation."
    again.ui.editorButton.click()
    assert again.host.opened[0][1] is tab.panel.result.segmentationNode
    segmentation = tab.panel.result.segmentationNode.GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetNthSegmentID(0))
    again.panel.update()
    assert again.ui.resultsTable._rows == rows[1:]


@pytest.fixture
def explain(scene, models, left_behind, slices):
    tab = ExplainTab()
    yield tab
    tab.panel.cleanup()


def test_an_explanation_of_one_volume_only(explain, scene, slices):
    tab = explain
    first, second = add_volume(scene, name="A"), add_volume(scene, "oblique", name="B")
    runs = [add_run(scene, [volume]) for volume in (first, second)]
    tab.choose_node(tab.ui.runSelector, runs[0])
    assert tab.parameters.inputVolume is first
    tab.click(tab.ui.showButton)
    assert slices.GetForegroundVolumeID()
    assert tab.ui.statusLabel.text.startswith("Importance, stage 1, level 0")
    tab.choose(second)  # after a run
    assert tab.parameters.inputVolume is second
    assert tab.ui.inputSelector.currentNode() is second
    assert tab.ui.runSelector.currentNode() is None
    assert not slices.GetForegroundVolumeID()
    assert tab.ui.statusLabel.text == ""
    assert not tab.ui.hideButton.enabled
    tab.ui.showButton.click()
    tab.choose(first)  # during a run
    tab.host.pump(lambda: not tab.panel.running)
    assert tab.parameters.inputVolume is first
    assert not slices.GetForegroundVolumeID()
    assert tab.ui.statusLabel.text.startswith("The maps of B are in the scene")
    tab.choose_node(tab.ui.runSelector, runs[1])  # brings its volume along
    assert tab.parameters.inputVolume is second
    assert tab.ui.inputSelector.currentNode() is second
    tab.ui.showButton.click()
    assert not tab.panel.running
    assert slices.GetBackgroundVolumeID() == second.GetID()


def test_both_tabs_follow_one_parameter_node(scene, models, left_behind, slices):
    segment, explain = SegmentTab(), ExplainTab()
    explain.choices.release()
    explain.bind(segment.parameters)
    first, second = add_volume(scene, name="A"), add_volume(scene, name="B")
    segment.choose(first)
    segment.segment()
    explain.choose_node(explain.ui.runSelector, segment.panel.result.segmentationNode)
    segment.choose(second)
    assert explain.ui.inputSelector.currentNode() is second
    assert explain.ui.runSelector.currentNode() is None
    assert segment.parameters.outputSegmentation is None
    explain.choose_node(explain.ui.runSelector, segmentations.latestOf(first))
    assert segment.ui.inputSelector.currentNode() is first
    assert segment.parameters.outputSegmentation is segmentations.latestOf(first)
    assert segment.ui.resultsWidget.visible


def test_results_come_back_with_the_scene(tab, scene, tmp_path):
    tab.choose(add_volume(scene, "oblique", name="A"))
    tab.segment()
    rows = list(tab.ui.resultsTable._rows)
    save(scene, tmp_path)
    tab.close_scene(scene)
    assert tab.ui.statusLabel.text == ""
    assert not tab.ui.resultsWidget.visible
    tab.forget()
    assert scene.Connect()
    again = SegmentTab()
    again.choose(scene.GetFirstNodeByName("A"))
    assert chosen(again) == ("A", "A segmentation")
    assert again.ui.resultsTable._rows == rows
    assert again.ui.statusLabel.text == "Done: A segmentation."


def test_a_scene_under_way_is_left_alone(tab, scene):
    """While it is loaded, its choices come before its nodes are whole."""
    volume = add_volume(scene, name="A")
    output = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Later")
    scene.StartState(scene.ImportState)
    tab.parameters.outputSegmentation = output
    tab.parameters.inputVolume = volume
    scene.EndState(scene.ImportState)
    assert chosen(tab) == ("A", "Later")
    other = add_volume(scene, name="B")
    tab.choose(other)
    assert chosen(tab) == ("B", "")


@pytest.mark.parametrize("kind", [SegmentTab, ExplainTab, FineTuneTab])
def test_busy_from_the_first_click(
    scene, models, user_folder, left_behind, slices, monkeypatch, tmp_path, kind
):
    """An installation lets clicks through: they change nothing."""
    tab, asked = kind(), []
    if kind is FineTuneTab:
        tab.add(add_case(scene))
        button, click = tab.ui.startButton, tab.panel.onStart
    else:
        tab.choose(add_volume(scene, name="A"))
        is_segment = kind is SegmentTab
        button = tab.ui.segmentButton if is_segment else tab.ui.showButton
        click = tab.panel.onSegment if is_segment else tab.panel.onShow

    def install(*_args):
        asked.append(1)
        assert not button.enabled
        click()
        raise Refused("No network.")

    monkeypatch.setattr(tab.panel.dependencies, "ensure", install)
    button.click()
    assert asked == [1]
    assert not tab.panel.running
    assert button.enabled  # and can be clicked again
    tab.panel.cleanup()
