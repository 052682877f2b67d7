"""The Explain tab in the thin harness with the real engine on a tiny bundle."""

import json
import os
import shutil
import signal
import subprocess

import numpy as np
import pytest
import slicer
from E2ENetSegmentationLib.explain.colors import legendOf
from E2ENetSegmentationLib.explain.nodes import describe
from E2ENetSegmentationLib.explain.run import ExplainRequest, ExplainRun
from E2ENetSegmentationLib.models.store import ModelStore
from E2ENetSegmentationLib.mrml import roi, volumes
from E2ENetSegmentationLib.refusal import Refused
from harness.bundles import variant
from harness.made import add_run, add_volume, phantom
from harness.mrml import folders, hierarchy_of
from harness.tabs import ExplainTab

DIRECTIONS = ("forward", "upward", "downward")
SCALES = ("Same", "Coarser", "Finer")  # their names for a person


@pytest.fixture
def tab(scene, models, left_behind, slices):
    return ExplainTab()


def region_of(node, volume):
    """First and last voxel (i, j, k) of the volume that a map is of; it shares its voxels."""
    matrix = np.linalg.inv(volumes.ijkToRas(volume)) @ volumes.ijkToRas(node)
    first = matrix[:3, 3]
    assert np.allclose(matrix[:3, :3], np.eye(3), atol=1e-4)
    assert np.allclose(first, np.rint(first), atol=1e-3)
    last = np.rint(first) + node.GetImageData().GetDimensions()
    return tuple(np.rint(first).astype(int).tolist()), tuple(last.astype(int).tolist())


def count(scene, kind):
    return scene.GetNumberOfNodesByClass(kind)


def test_lists_what_the_model_has(tab):
    ui = tab.ui
    assert ui.nodeTable._items == ["Stage 1", "Stage 2"]  # three levels
    assert ui.nodeTable._rows == ["Level 0", "Level 1"]
    tips = {place: tip for place, (_text, tip) in ui.nodeTable._cells.items()}
    assert set(tips) == {(0, 0), (1, 0), (0, 1)}
    assert tab.panel.node == (1, 0)
    assert ui.nodeTextLabel.text == tips[0, 0]
    shown = ["Strongest scale", "Same scale", "Coarser scale", "All scales"]
    assert ui.directionComboBox._items == shown
    ui.nodeTable.setCurrentCell(1, 0)
    assert tab.panel.node == (1, 1)
    assert ui.nodeTextLabel.text == tips[1, 0]
    assert ui.directionComboBox._items == [*shown[:3], "Finer scale", "All scales"]
    assert ui.labelComboBox._items[0] == "All that it reads"
    assert not ui.showButton.enabled  # no volume
    assert ui.flowButton.enabled


def test_nodes_are_described(models):
    model = ModelStore().open("tiny")
    model.content["network"]["arguments"]["strides"] = [[1, 2, 2], [2, 2, 2]]
    assert describe(model, (2, 0)) == (
        "Stage 2, level 0: full resolution. It reads the same and the coarser scale."
    )
    assert describe(model, (1, 1)) == (
        "Stage 1, level 1: 1 × 2 × 2 coarser (depth × height × width). "
        "It reads the same, the coarser and the finer scale."
    )
    model.content["network"]["arguments"]["strides"] = [[2, 2, 2], [2, 2, 2], [2, 2, 2]]
    assert "level 2: 4 × coarser." in describe(model, (1, 2))


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
    assert text.startswith("Importance, stage 1, level 1: same scale "), tab.ui.logText.plainText
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
    first, last = region_of(maps["forward"], volume)
    for node in maps.values():
        assert region_of(node, volume) == (first, last)
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
    assert display.GetApplyThreshold()
    assert slices.GetForegroundOpacity() == pytest.approx(0.3)
    assert display.GetLowerThreshold() == pytest.approx(upper / 2, rel=1e-3)
    tab.ui.thresholdSlider.value = 0.0
    assert 0 < display.GetLowerThreshold() < 1e-3  # what was not looked at is clear, not black
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
    said = f"{name}, stage 2, level 0: same scale "
    assert tab.ui.statusLabel.text.startswith(said), tab.ui.logText.plainText
    tab.direction("forward")
    tab.ui.rawCheckBox.click()
    grouped = folders(scene)
    assert grouped["Run run"] == [run]
    grouped = grouped["Run run/Explanation"]
    assert "forward raw" in tab.panel.maps.found
    assert {node.GetID() for node in tab.panel.maps.nodes()} <= {n.GetID() for n in grouped}
    tab.ui.flowButton.click()
    grouped = folders(scene)["Run run/Explanation"]
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


@pytest.fixture
def evolved(tab, models, tmp_path, monkeypatch):
    """The tiny model with a history of two records, chosen."""
    copy = tmp_path / "models" / "evolved"
    shutil.copytree(models, copy)
    path = copy / "evolution.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    start = content["history"][0]
    content["history"] = [start, {**start, "iteration": 10}]
    path.write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setenv("E2ENET_MODELS", str(copy.parent))
    tab.panel.refreshModels("evolved")
    return copy


@pytest.fixture
def no_engine(monkeypatch):
    """Nothing is installed, and nobody may start a process."""

    def refuse(*_args, **_options):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.mark.usefixtures("evolved", "no_engine")
def test_charts_need_neither_volume_nor_engine(tab, scene):
    ui, panel = tab.ui, tab.panel
    title = panel.model.title
    ui.allFlowsButton.click()
    assert ui.statusLabel.text == f"Shown: the connections into all parts of {title}."
    final = panel.plot.final
    assert tab.host.charts == [final]
    assert final.GetNumberOfPlotSeriesNodes() == 3
    table = final.GetNthPlotSeriesNode(0).GetTableNode().GetTable()
    names = [table.GetColumnByName("Node").GetValue(i) for i in range(table.GetNumberOfRows())]
    assert names == ["stage 1, level 0", "stage 1, level 1", "stage 2, level 0"]
    for row in range(3):
        shares = [table.GetValueByName(row, f"{d} scale").ToDouble() for d in SCALES]
        assert sum(shares) == pytest.approx(100, abs=0.01)
    ui.flowButton.click()
    assert ui.statusLabel.text == f"Shown: the connections of {title} into stage 1, level 0."
    assert tab.host.charts[-1] is panel.plot.history
    assert final.GetScene() is None  # replaced, not added to
    assert count(scene, "vtkMRMLPlotChartNode") == 2
    ui.nodeTable.setCurrentCell(1, 0)
    ui.flowButton.click()
    assert count(scene, "vtkMRMLPlotChartNode") == 3
    assert not panel.running


@pytest.mark.usefixtures("evolved")
def test_a_chart_during_a_run(tab, scene):
    tab.choose(add_volume(scene))
    tab.ui.showButton.click()
    said = tab.ui.statusLabel.text
    tab.ui.flowButton.click()
    assert tab.panel.running
    assert tab.ui.statusLabel.text == said
    assert tab.host.charts == [tab.panel.plot.history]


@pytest.mark.usefixtures("no_engine")
def test_lines_of_a_node_and_what_cannot_be_drawn(tab, evolved):
    tab.ui.flowButton.click()
    chart = tab.panel.plot.history
    assert tab.host.charts == [chart]
    names = [chart.GetNthPlotSeriesNode(i).GetName() for i in range(4)]
    assert names == [f"{d} scale{w}" for d in SCALES[:2] for w in ("", ", by weight")]
    for content, problem in (("{}", "carries no record"), ('{"history": [{}]}', "is damaged")):
        (evolved / "evolution.json").write_text(content, encoding="utf-8")
        tab.ui.flowButton.click()
        assert problem in tab.ui.statusLabel.text
        assert tab.host.charts == [chart]
        assert tab.ui.flowButton.enabled


def test_one_record_has_no_lines(tab):
    tab.ui.flowButton.click()
    assert tab.host.charts == [tab.panel.plot.final]
    assert "all parts" in tab.ui.statusLabel.text


def test_maps_take_memory_of_the_region_alone(tab, scene):
    volume = add_volume(scene, "left-handed")
    region = roi.fitRoi(volume, (12.0, 12.0, 12.0))
    low, high = roi.voxelBox(region, volume)
    tab.choose(volume, 1, 1)
    tab.ui.roiSelector.setCurrentNode(region)
    tab.click(tab.ui.showButton)
    for node in tab.panel.maps.nodes():
        first, last = region_of(node, volume)
        assert all(a >= b for a, b in zip(first, low, strict=True))
        assert all(a <= b for a, b in zip(last, high, strict=True))
    sizes = [node.GetImageData().GetNumberOfPoints() for node in (tab.panel._map(), volume)]
    assert sizes[0] < sizes[1] / 8


def test_a_dense_model(tab, scene, models, tmp_path, monkeypatch):
    variant(models, tmp_path / "models" / "dense")
    monkeypatch.setenv("E2ENET_MODELS", str(tmp_path / "models"))
    tab.panel.refreshModels("dense")
    tab.choose(add_volume(scene), 1, 1)
    tab.click(tab.ui.showButton)
    assert "stage 1, level 1" in tab.ui.statusLabel.text


def test_a_node_that_does_not_exist(scene, models):
    model = ModelStore().open("tiny")
    request = ExplainRequest([add_volume(scene)], model, node=(3, 0))
    with pytest.raises(Refused, match="has nothing at stage 3, level 0"):
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
