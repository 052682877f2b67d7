"""The Explain tab in the thin harness with the real engine on a tiny bundle."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import slicer
from E2ENetSegmentationLib.explain.colors import legendOf
from E2ENetSegmentationLib.explain.nodes import describe
from E2ENetSegmentationLib.explain.run import ExplainRequest, ExplainRun
from E2ENetSegmentationLib.models.store import ModelStore
from E2ENetSegmentationLib.mrml import volumes
from E2ENetSegmentationLib.refusal import Refused
from harness.bundles import variant
from harness.made import add_run, add_volume, phantom
from harness.mrml import folders, hierarchy_of
from harness.tabs import ExplainTab

DIRECTIONS = ("forward", "upward", "downward")


@pytest.fixture
def tab(scene, models, left_behind, slices):
    return ExplainTab()


def count(scene, kind):
    return scene.GetNumberOfNodesByClass(kind)


def test_lists_what_the_model_has(tab):
    ui = tab.ui
    assert ui.nodeTable._items == ["Stage 1", "Stage 2"]  # three levels
    assert ui.nodeTable._rows == ["Level 0", "Level 1"]
    texts = {place: text for place, (text, _tip) in ui.nodeTable._cells.items()}
    assert texts == {(0, 0): "1:0", (1, 0): "1:1", (0, 1): "2:0"}
    assert tab.panel.node == (1, 0)
    assert ui.directionComboBox._items == ["Dominant", "Forward", "Upward", "Compare"]
    ui.nodeTable.setCurrentCell(1, 0)
    assert tab.panel.node == (1, 1)
    assert ui.directionComboBox._items == ["Dominant", "Forward", "Upward", "Downward", "Compare"]
    assert ui.labelComboBox._items[0] == "Importance (no label)"
    assert not ui.showButton.enabled  # no volume
    assert ui.flowButton.enabled


def test_nodes_are_described(models):
    model = ModelStore().open("tiny")
    model.content["network"]["arguments"]["strides"] = [[1, 2, 2], [2, 2, 2]]
    assert describe(model, (2, 0)) == (
        "Stage 2, level 0: full resolution; takes in forward, upward."
    )
    assert describe(model, (1, 1)) == (
        "Stage 1, level 1: 1 × 2 × 2 coarser (depth × height × width); "
        "takes in forward, upward, downward."
    )
    model.content["network"]["arguments"]["strides"] = [[2, 2, 2], [2, 2, 2], [2, 2, 2]]
    assert "level 2: 4 × coarser;" in describe(model, (1, 2))


def test_the_node_comes_back(tab, monkeypatch):
    tab.ui.nodeTable.setCurrentCell(1, 0)
    assert tab.parameters.explainedNode == "1:1"
    tab.panel.sceneAboutToClose()
    tab.panel.setParameterNode(None)
    tab.ui.nodeTable.setCurrentCell(0, 1)
    tab.panel.setParameterNode(tab.parameters)
    assert tab.panel.node == (1, 1)
    tab.panel.refreshModels()
    assert tab.panel.node == (1, 1)
    monkeypatch.setattr(tab.panel.core.store, "models", lambda: [])
    tab.panel.refreshModels()  # without a model there is no node
    assert tab.panel.node is None
    tab.panel.update()
    assert not tab.ui.flowButton.enabled


def test_show_and_look(tab, scene, slices, left_behind):
    volume = add_volume(scene, "left-handed")
    tab.choose(volume, 1, 1)
    tab.click(tab.ui.showButton)
    text = tab.ui.statusLabel.text
    assert text.startswith("Node 1:1, importance: forward "), tab.ui.logText.plainText
    maps = tab.panel.maps.found
    assert set(maps) == {*DIRECTIONS, "dominant", "compare"}
    assert sum(float(maps[d].GetAttribute("E2ENet.Share")) for d in DIRECTIONS) == pytest.approx(1)
    arrays = {name: slicer.util.arrayFromVolume(node) for name, node in maps.items()}
    assert max(arrays[d].max() for d in DIRECTIONS) == 1.0  # one scale for all directions
    stack = np.stack([arrays[d] for d in DIRECTIONS])
    present = stack.max(0) > 0
    shown = arrays["dominant"] > 0  # where the threshold lets it
    assert (stack.argmax(0) + 1 == arrays["dominant"])[shown].all()
    assert arrays["compare"].shape == (*phantom()[0].shape, 3)
    for node in maps.values():
        assert volumes.sameGrid(node, volume)
    assert slices.GetForegroundVolumeID() == maps["dominant"].GetID()
    assert slices.GetBackgroundVolumeID() == volume.GetID()
    assert left_behind() == []
    assert tab.usable

    for name in ("upward", "compare"):  # no further run
        tab.direction(name)
        assert not tab.panel.running
        assert slices.GetForegroundVolumeID() == maps[name].GetID()
        visible = [n for n, node in maps.items() if legendOf(node).GetVisibility()]
        assert visible == [name]
    strongest = stack.max(0)
    upper = float(maps["forward"].GetAttribute("E2ENet.DisplayRange"))
    for threshold in (70.0, 0.0, 40.0):
        tab.direction("dominant")
        tab.ui.thresholdSlider.value = threshold
        left = slicer.util.arrayFromVolume(maps["dominant"])
        kept = present & (strongest / np.float32(upper) >= threshold / 100)
        assert ((left > 0) == kept).all()
        tab.direction("compare")
        colours = slicer.util.arrayFromVolume(maps["compare"])
        assert not colours[~kept].any()
        assert colours[kept & (strongest > upper / 100)].any(axis=1).all()
    assert 0 < (left > 0).sum() < present.sum()
    tab.direction("forward")
    tab.ui.opacitySlider.value = 30.0
    tab.ui.thresholdSlider.value = 50.0
    display = maps["forward"].GetDisplayNode()
    assert slices.GetForegroundOpacity() == pytest.approx(0.3)
    assert display.GetLowerThreshold() == pytest.approx(upper / 2, rel=1e-3)
    assert display.GetApplyThreshold()
    tab.ui.hideButton.click()
    assert not slices.GetForegroundVolumeID()

    before = count(scene, "vtkMRMLVolumeNode")
    tab.ui.showButton.click()  # it is in the scene already
    assert not tab.panel.running
    assert slices.GetForegroundVolumeID() == maps["forward"].GetID()
    assert count(scene, "vtkMRMLVolumeNode") == before


def test_label_and_group_of_a_run(tab, scene, models):
    volume = add_volume(scene)
    run = add_run(scene, [volume])
    tab.ui.runSelector.setCurrentNode(run)
    assert tab.ui.inputSelector.currentNode() is volume
    assert tab.panel.model.name == "tiny"
    tab.choose(volume, 2, 0, label=1)
    tab.click(tab.ui.showButton)
    name = tab.panel.model.labels[0].name
    assert tab.ui.statusLabel.text.startswith(f"Node 2:0, {name}: "), tab.ui.logText.plainText
    tab.direction("forward")
    tab.ui.rawCheckBox.click()
    grouped = folders(scene)
    assert grouped["Run run"] == [run]
    grouped = grouped["Run run/Explanation"]
    assert "forward raw" in tab.panel.maps.found
    assert {node.GetID() for node in tab.panel.maps.nodes()} <= {n.GetID() for n in grouped}
    assert {"vtkMRMLPlotChartNode", "vtkMRMLTableNode"} <= {n.GetClassName() for n in grouped}
    tab.choose(volume, 1, 0)
    tab.click(tab.ui.showButton)  # another node of the same run: the same folders
    assert set(folders(scene)) == {"Run run", "Run run/Explanation"}
    # Slicer marks a segmentation's item like this and removes it with the segmentation.
    hierarchy = hierarchy_of(scene)
    item = hierarchy.GetItemByDataNode(run)
    hierarchy.SetItemAttribute(item, "VirtualBranch", "1")
    scene.RemoveNode(run)
    hierarchy.RemoveItem(item, False, False)
    assert set(folders(scene)) == {"Run run/Explanation"}


def test_what_is_no_longer_of_the_run_lies_beside_its_volume(tab, scene, models):
    run = add_run(scene, [add_volume(scene)])
    tab.ui.runSelector.setCurrentNode(run)
    tab.choose(add_volume(scene, name="Other"), 2, 0)
    tab.click(tab.ui.showButton)
    assert "Other explanation" in folders(scene)
    tab.click(tab.ui.flowButton)  # of the run's model
    assert "Run run" not in folders(scene)  # the chart is in the scene already


def test_flow_without_a_volume(tab, scene):
    ui, panel = tab.ui, tab.panel
    title = panel.model.title
    tab.click(ui.allFlowsButton)
    assert ui.statusLabel.text == f"The flow into all nodes of {title} is shown."
    final = panel.plot.final
    ui.flowButton.click()  # the node's came with it: no second run
    assert not panel.running
    assert ui.statusLabel.text == f"The flow into node 1:0 of {title} is shown."
    assert tab.host.charts == [final, panel.plot.history]
    ui.nodeTable.setCurrentCell(1, 0)
    ui.allFlowsButton.click()  # the same for every node
    assert not panel.running
    assert tab.host.charts[2:] == [final]
    assert final.GetNumberOfPlotSeriesNodes() == 3
    table = final.GetNthPlotSeriesNode(0).GetTableNode().GetTable()
    names = [table.GetColumnByName("Node").GetValue(i) for i in range(table.GetNumberOfRows())]
    assert names == ["1:0", "1:1", "2:0"]
    for row in range(3):
        shares = [table.GetValueByName(row, d.capitalize()).ToDouble() for d in DIRECTIONS]
        assert sum(shares) == pytest.approx(100, abs=0.01)
    assert count(scene, "vtkMRMLPlotChartNode") == 2


@pytest.mark.parametrize("history", [True, False])
def test_flow_with_and_without_history(tab, scene, models, tmp_path, history, monkeypatch):
    copy = tmp_path / "models" / "other"
    shutil.copytree(models, copy)
    source = copy / "evolution.json"
    content = json.loads(source.read_text(encoding="utf-8")) if source.is_file() else {}
    if not history:
        content = {}
        source.write_text("{}", encoding="utf-8")
    monkeypatch.setenv("E2ENET_MODELS", str(copy.parent))
    tab.panel.refreshModels("other")
    tab.click(tab.ui.flowButton)
    plot = tab.panel.plot
    assert plot is not None, tab.ui.statusLabel.text
    if content.get("history"):
        assert tab.host.charts == [plot.history]
        assert plot.history.GetNumberOfPlotSeriesNodes() == 4  # two directions, each with its L1
    else:
        assert tab.host.charts == [plot.final]
        assert "carries no history" in tab.ui.statusLabel.text
    assert tab.panel.ui.flowButton.enabled


def test_a_dense_model(tab, scene, models, tmp_path, monkeypatch):
    variant(models, tmp_path / "models" / "dense")
    monkeypatch.setenv("E2ENET_MODELS", str(tmp_path / "models"))
    tab.panel.refreshModels("dense")
    tab.choose(add_volume(scene), 1, 1)
    tab.click(tab.ui.showButton)
    assert tab.ui.statusLabel.text.startswith("Node 1:1"), tab.ui.statusLabel.text


def test_a_node_that_does_not_exist(scene, models):
    model = ModelStore().open("tiny")
    request = ExplainRequest([add_volume(scene)], model, node=(3, 0))
    with pytest.raises(Refused, match=r"has no node 3:0; its nodes .* 1:0, 1:1, 2:0"):
        ExplainRun(request).start()


def test_images_that_cannot_be_taken(tab, scene, left_behind):
    tab.choose(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty"))
    tab.click(tab.ui.showButton)
    assert tab.ui.statusLabel.text == "Empty has no voxels."
    assert tab.usable
    blank = add_volume(scene, name="NaN", array=np.full((12, 12, 12), np.nan, np.float32))
    tab.choose(blank)
    tab.click(tab.ui.showButton)
    assert tab.ui.statusLabel.text.count(".") <= 3
    assert "unexpected" not in tab.ui.statusLabel.text
    assert tab.usable
    assert tab.panel.maps is None
    assert left_behind() == []
    assert count(scene, "vtkMRMLPlotChartNode") == 0


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        ("crash", "The engine stopped unexpectedly (exit status 1). The log says more."),
        ("nothing", "The engine's result cannot be read."),
    ],
)
def test_failures_are_one_sentence(tab, scene, stub, left_behind, mode, sentence):
    tab.choose(add_volume(scene))
    stub(mode)
    tab.click(tab.ui.showButton)
    assert tab.ui.statusLabel.text.startswith(sentence)
    assert tab.usable
    assert left_behind() == []
    assert count(scene, "vtkMRMLVolumeNode") == 1


def test_the_engine_refuses(tab, scene, left_behind):
    tab.choose(add_volume(scene, array=np.full((16, 16, 16), np.nan, np.float32)))
    tab.click(tab.ui.showButton)
    assert "NaN" in tab.ui.statusLabel.text
    assert tab.usable
    assert left_behind() == []
    assert count(scene, "vtkMRMLVolumeNode") == 1


@pytest.mark.parametrize("how", ["cancel", "close", "exit", "killed"])
def test_ends_in_the_middle(tab, scene, left_behind, how):
    tab.choose(add_volume(scene))
    tab.ui.showButton.click()
    assert not tab.ui.showButton.enabled
    process = tab.panel._run._engine._process
    if how == "cancel":
        tab.ui.cancelButton.click()
        assert tab.ui.statusLabel.text == "Cancelled."
        assert tab.usable
    elif how == "close":
        tab.panel.sceneAboutToClose()
        assert tab.ui.statusLabel.text == "Cancelled, because the scene was closed."
    elif how == "killed":
        os.kill(process.pid, signal.SIGKILL)
        tab.host.pump(lambda: not tab.panel.running)
        assert tab.ui.statusLabel.text.startswith("The engine was ended from outside")
        assert tab.usable
    else:
        tab.panel.cleanup()
    assert not process.running
    assert not tab.panel.running
    assert left_behind() == []
