"""The Fusion tab in the thin harness with the real engine on a tiny bundle."""

import json
import shutil

import numpy as np
import pytest
import slicer
from E2ENetSegmentationLib import fusionrun, fusionview
from E2ENetSegmentationLib.models import ModelStore
from E2ENetSegmentationLib.segmentations import MADE_BY_TAG
from harness.made import add_volume, phantom
from harness.tabs import FusionTab

DIRECTIONS = ("forward", "upward", "downward")


@pytest.fixture
def slices(scene):
    """The composite node of a slice view, which the thin scene lacks."""
    return scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode", "Red")


@pytest.fixture
def tab(scene, models, left_behind, slices):
    return FusionTab()


def count(scene, kind):
    return scene.GetNumberOfNodesByClass(kind)


def children(scene):
    """Folders and the names of the nodes in them."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    found, items = {}, []
    from vtk import vtkIdList

    items = vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    for index in range(items.GetNumberOfIds()):
        item = items.GetId(index)
        node = hierarchy.GetItemDataNode(item)
        if node is not None:
            parent = hierarchy.GetItemName(hierarchy.GetItemParent(item))
            found.setdefault(parent, []).append(node)
    return found


def test_lists_what_the_model_has(tab):
    ui = tab.ui
    assert ui.stageComboBox._items == ["1", "2"]  # three levels
    assert ui.levelComboBox._items == ["0", "1"]
    assert ui.directionComboBox._items == ["Dominant", "Forward", "Upward", "Compare"]
    ui.levelComboBox.currentIndex = 1
    assert ui.directionComboBox._items == ["Dominant", "Forward", "Upward", "Downward", "Compare"]
    ui.stageComboBox.currentIndex = 1
    assert ui.levelComboBox._items == ["0"]
    assert ui.labelComboBox._items[0] == "Importance (no label)"
    assert not ui.showButton.enabled  # no volume
    assert ui.flowButton.enabled


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
    present = arrays["dominant"] > 0
    assert (stack.argmax(0) + 1 == arrays["dominant"])[present].mean() > 0.999
    assert arrays["compare"].shape == (*phantom()[0].shape, 3)
    for node in maps.values():
        assert fusionview.volumes.sameGrid(node, volume)
    assert slices.GetForegroundVolumeID() == maps["dominant"].GetID()
    assert slices.GetBackgroundVolumeID() == volume.GetID()
    assert left_behind() == []
    assert tab.usable

    for name in ("upward", "compare"):  # no further run
        tab.direction(name)
        assert not tab.panel.running
        assert slices.GetForegroundVolumeID() == maps[name].GetID()
        visible = [n for n, node in maps.items() if fusionview.legendOf(node).GetVisibility()]
        assert visible == [name]
    tab.direction("forward")
    tab.ui.opacitySlider.value = 30.0
    tab.ui.thresholdSlider.value = 50.0
    display = maps["forward"].GetDisplayNode()
    assert slices.GetForegroundOpacity() == pytest.approx(0.3)
    upper = float(maps["forward"].GetAttribute("E2ENet.DisplayRange"))
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
    run = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Run")
    run.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    identifier = run.GetSegmentation().AddEmptySegment("", "one")
    run.GetSegmentation().GetSegment(identifier).SetTag(MADE_BY_TAG, "tiny")
    tab.ui.runSelector.setCurrentNode(run)
    assert tab.ui.inputSelector.currentNode() is volume
    assert tab.panel.model.name == "tiny"
    tab.choose(volume, 2, 0, label=1)
    tab.click(tab.ui.showButton)
    name = tab.panel.model.labels[0].name
    assert tab.ui.statusLabel.text.startswith(f"Node 2:0, {name}: "), tab.ui.logText.plainText
    grouped = children(scene)["Run fusion"]
    assert {node.GetID() for node in tab.panel.maps.nodes()} <= {n.GetID() for n in grouped}
    assert {"vtkMRMLPlotChartNode", "vtkMRMLTableNode"} <= {n.GetClassName() for n in grouped}


def test_comes_back_with_the_scene(tab, scene, tmp_path):
    tab.choose(add_volume(scene), 1, 1)
    tab.click(tab.ui.showButton)
    kept = tab.panel.maps.found["forward"]
    colours = kept.GetDisplayNode().GetColorNode()
    array = slicer.util.arrayFromVolume(kept).copy()
    name = kept.GetName()
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLStorableNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLStorableNode")
        if not node.GetSaveWithScene() or node.GetHideFromEditors():
            continue
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
        if storage is not None:
            storage.SetFileName(str(tmp_path / f"{index}.{storage.GetDefaultWriteFileExtension()}"))
            assert storage.WriteData(node), node.GetName()
    scene.SetURL(str(tmp_path / "scene.mrml"))
    scene.SetRootDirectory(str(tmp_path))
    assert scene.Commit()
    tab.panel.sceneAboutToClose()
    scene.Clear(False)
    assert scene.Connect()
    node = slicer.util.getNode(name)
    assert np.array_equal(slicer.util.arrayFromVolume(node), array)
    assert node.GetDisplayNode().GetColorNode().GetNumberOfColors() == colours.GetNumberOfColors()
    assert name in {n.GetName() for n in children(scene)["Phantom fusion"]}
    tab.choose(slicer.util.getNode("Phantom"), 1, 1)
    tab.ui.showButton.click()
    assert not tab.panel.running  # found, not computed again
    assert tab.ui.statusLabel.text.startswith("Node 1:1")


def test_flow_without_a_volume(tab, scene):
    tab.click(tab.ui.flowButton)
    panel = tab.panel
    assert tab.ui.statusLabel.text.startswith("The flow of "), tab.ui.logText.plainText
    assert tab.host.charts == [panel.plot.chart]
    final = panel.plot.final
    assert final.GetNumberOfPlotSeriesNodes() == 3
    table = final.GetNthPlotSeriesNode(0).GetTableNode().GetTable()
    names = [table.GetColumnByName("Node").GetValue(i) for i in range(table.GetNumberOfRows())]
    assert names == ["1:0", "1:1", "2:0"]
    for row in range(3):
        shares = [table.GetValueByName(row, d.capitalize()).ToDouble() for d in DIRECTIONS]
        assert sum(shares) == pytest.approx(100, abs=0.01)
    tab.click(tab.ui.flowButton)  # again: the same chart, no second run
    assert count(scene, "vtkMRMLPlotChartNode") == len({final, panel.plot.chart})


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
        assert plot.chart is plot.history
        assert plot.history.GetNumberOfPlotSeriesNodes() == 4  # two directions, each with its L1
    else:
        assert plot.chart is plot.final
        assert "carries no history" in tab.ui.statusLabel.text
    assert tab.panel.ui.flowButton.enabled


def test_a_dense_model(tab, scene, tmp_path, monkeypatch):
    from e2enet.bundle import write_bundle
    from e2enet.dsff import Connections

    bundle = fusionrun.paths.engineModule("bundle").Bundle.open("tiny")
    network, _connections = bundle.load_network()
    model = {k: v for k, v in bundle.model.items() if k not in ("files", "network")}
    model["name"] = "dense"
    write_bundle(
        tmp_path / "dense",
        network=network,
        connections=Connections.dense(network),
        model=model,
        history={},
        readme="",
    )
    monkeypatch.setenv("E2ENET_MODELS", str(tmp_path))
    tab.panel.refreshModels("dense")
    tab.choose(add_volume(scene), 1, 1)
    tab.click(tab.ui.showButton)
    assert tab.ui.statusLabel.text.startswith("Node 1:1"), tab.ui.statusLabel.text


def test_a_node_that_does_not_exist(scene, models):
    request = fusionrun.FusionRequest(ModelStore().open("tiny"), [add_volume(scene)], (3, 0))
    with pytest.raises(fusionrun.Refused, match=r"has no node 3:0; its nodes .* 1:0, 1:1, 2:0"):
        fusionrun.FusionRun(request).start()


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
        ("killed", "The engine was ended from outside"),
        ("crash", "The engine stopped unexpectedly (exit status 1). The log says more."),
        ("refuse", "The image is odd. Take another."),
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


@pytest.mark.parametrize("how", ["cancel", "close", "exit"])
def test_ends_in_the_middle(tab, scene, stub, left_behind, how):
    tab.choose(add_volume(scene))
    stub("hang")
    tab.ui.showButton.click()
    assert not tab.ui.showButton.enabled
    tab.host.pump(lambda: tab.ui.statusLabel.text.startswith("Segmenting"))
    process = tab.panel._run._engine._process
    if how == "cancel":
        tab.ui.cancelButton.click()
        assert tab.ui.statusLabel.text == "Cancelled."
        assert tab.usable
    elif how == "close":
        tab.panel.sceneAboutToClose()
        assert tab.ui.statusLabel.text == "Cancelled, because the scene was closed."
    else:
        tab.panel.cleanup()
    assert not process.running
    assert not tab.panel.running
    assert left_behind() == []
