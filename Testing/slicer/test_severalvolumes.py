"""Several volumes in one go: checked ones, the files of a folder, the items of a sequence."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from harness.made import add_volume

_NAMES = ("sphere", "cube")


def segmentations(scene):
    return scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")


def test_batch(tab, scene):
    tab.choose(add_volume(scene, name="A"))
    for node in (tab.ui.inputSelector.currentNode(), add_volume(scene, "oblique", name="B")):
        tab.ui.batchSelector.setCheckState(node, 2)
    tab.ui.batchButton.click()
    tab.wait()
    assert tab.ui.statusLabel.text.startswith("Done: 2 volumes.")
    assert segmentations(scene) == 2
    assert [row[0] for row in tab.ui.resultsTable._rows] == [
        "A: sphere",
        "A: cube",
        "B: sphere",
        "B: cube",
    ]


def test_a_batch_of_one_is_a_batch(tab, scene):
    """What is chosen keeps its result; the table says whose the new one is."""
    first, second = add_volume(scene, name="A"), add_volume(scene, "oblique", name="B")
    tab.choose(first)
    tab.segment()
    output = tab.parameters.outputSegmentation
    tab.ui.batchSelector.setCheckState(second, 2)
    tab.ui.batchButton.click()
    tab.wait()
    assert tab.ui.statusLabel.text == "Done: 1 volume."
    assert [row[0] for row in tab.ui.resultsTable._rows] == ["B: sphere", "B: cube"]
    assert tab.ui.resultsWidget.visible
    assert tab.parameters.outputSegmentation is output
    assert output.GetDisplayNode().GetVisibility()
    tab.panel.setParameterNode(tab.parameters)  # another module and back
    assert [row[0] for row in tab.ui.resultsTable._rows] == ["B: sphere", "B: cube"]
    assert tab.ui.statusLabel.text == "Done: 1 volume."
    tab.choose(second)
    assert tab.ui.statusLabel.text == "Done: B segmentation."
    assert tab.parameters.outputSegmentation.GetDisplayNode().GetVisibility()
    assert not output.GetDisplayNode().GetVisibility()


def test_one_of_two_names_its_volume(tab, scene):
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    for node in (empty, add_volume(scene, name="B")):
        tab.ui.batchSelector.setCheckState(node, 2)
    tab.ui.batchButton.click()
    tab.wait()
    assert [row[0] for row in tab.ui.resultsTable._rows] == ["B: sphere", "B: cube"]


def test_a_bad_volume_does_not_stop_the_rest(tab, scene, left_behind):
    broken = np.full((16, 16, 16), np.nan, np.float32)
    nodes = [
        scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty"),  # refused before it starts
        add_volume(scene, name="A"),
        add_volume(scene, name="Broken", array=broken),  # refused by the engine
        add_volume(scene, name="B"),
    ]
    for node in nodes:
        tab.ui.batchSelector.setCheckState(node, 2)
    tab.ui.batchButton.click()
    tab.wait()
    text = tab.ui.statusLabel.text
    assert text.startswith("2 of 4 volumes could not be segmented. Empty: Empty has no voxels.")
    assert "Broken: " in text
    assert text.endswith("Done: 2 volumes.")
    assert "Broken: " in tab.ui.logText.plainText
    assert [row[0] for row in tab.ui.resultsTable._rows] == [
        "A: sphere",
        "A: cube",
        "B: sphere",
        "B: cube",
    ]
    assert segmentations(scene) == 2
    assert tab.ui.progressBar.value == 100
    assert left_behind() == []
    assert tab.ui.batchButton.enabled


@pytest.fixture
def scans(tmp_path):
    """Three images and one that is none."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed, name in enumerate("abd"):
        array = np.random.default_rng(seed).normal(100, 20, (12, 18, 16)).astype(np.float32)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / f"{name}.nii.gz"))
    (folder / "c.nii.gz").write_bytes(b"nothing")
    return folder


def test_a_folder_of_files(tab, scene, scans, left_behind):
    """A bad one does not stop the rest; again computes only what is new."""
    before, output = scene.GetNumberOfNodes(), scans / "tiny-segmentations"
    tab.host.answers = [str(scans)]
    tab.ui.folderButton.click()
    assert tab.panel.running
    tab.wait()
    text = tab.ui.statusLabel.text.replace("\u200b", "")  # where a line may end
    assert text.startswith("1 of 4 volumes could not be segmented. c: ")
    assert text.endswith(f"Done: 3 volumes. The results lie in {output}.")
    assert sorted(path.name for path in output.glob("*.nii.gz")) == [
        f"{name}.nii.gz" for name in "abd"
    ]
    rows = tab.ui.resultsTable._rows
    assert [row[0] for row in rows] == [f"{n}: {label}" for n in "abd" for label in _NAMES]
    assert "scans: Tiny model with random weights; cpu; " in tab.ui.logText.plainText
    assert scene.GetNumberOfNodes() == before
    assert left_behind() == []
    tab.ui.editorButton.click()
    assert tab.ui.statusLabel.text == "The results are files; load one into the scene first."
    written = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    (scans / "c.nii.gz").write_bytes((scans / "b.nii.gz").read_bytes())
    tab.host.answers = [str(scans)]
    tab.ui.folderButton.click()
    tab.wait()
    assert tab.ui.statusLabel.text.startswith("Done: 4 volumes.")
    assert tab.ui.progressBar.value == 100
    after = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    assert written.items() < after.items()


def test_a_folder_that_is_cancelled_or_holds_nothing(tab, scene, scans, left_behind):
    tab.ui.folderButton.click()  # the dialog was closed
    assert not tab.panel.running
    tab.host.answers = [str(scans)]
    tab.ui.folderButton.click()
    tab.host.pump(lambda: (scans / "tiny-segmentations" / "a.manifest.json").is_file())
    tab.ui.cancelButton.click()
    assert tab.ui.statusLabel.text == "Cancelled; choose the folder again to go on from here."
    assert left_behind() == []
    (scans / "empty").mkdir()
    tab.host.answers = [str(scans / "empty")]
    tab.ui.folderButton.click()
    tab.wait()
    assert "holds no images" in tab.ui.statusLabel.text
    assert tab.ui.folderButton.enabled


def test_what_all_would_meet_stops_at_once(tab, scene, stub, left_behind):
    for name in "AB":
        tab.ui.batchSelector.setCheckState(add_volume(scene, name=name), 2)
    stub("lacking")
    tab.ui.batchButton.click()
    tab.wait()
    assert tab.ui.statusLabel.text.startswith("A Python package of the engine cannot be used")
    assert "B: " not in tab.ui.logText.plainText
    assert segmentations(scene) == 0


def sequence_of(scene, count, broken=None):
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Beats")
    for index in range(count):
        array = np.full((16, 16, 16), np.nan, np.float32) if index == broken else None
        volume = add_volume(scene, "oblique", array=array)
        sequence.SetDataNodeAtValue(volume, str(index))
        scene.RemoveNode(volume)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.AddSynchronizedSequenceNode(sequence)
    return sequence, browser


def test_every_item_of_a_sequence(tab, scene, left_behind):
    sequence, browser = sequence_of(scene, 2)
    volumes = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    tab.ui.sequenceSelector.setCurrentNode(sequence)
    tab.ui.sequenceButton.click()
    tab.wait()
    assert tab.ui.statusLabel.text.startswith("Done: 2 volumes.")
    results = slicer.util.getNodesByClass("vtkMRMLSequenceNode")[-1]
    assert results.GetName() == "Beats segmentation"
    assert results.GetNumberOfDataNodes() == 2
    assert [results.GetNthIndexValue(i) for i in range(2)] == ["0", "1"]
    assert results.GetNthDataNode(1).GetSegmentation().GetNumberOfSegments() == 2
    assert browser.IsSynchronizedSequenceNode(results, True)
    proxy = browser.GetProxyNode(results)
    assert proxy.IsA("vtkMRMLSegmentationNode")
    assert segmentations(scene) == 1
    assert browser.GetProxyNode(sequence) is not None
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == volumes
    assert left_behind() == []


@pytest.mark.parametrize("count", [1, 2])
def test_a_sequence_hands_over_what_is_played(tab, scene, count):
    """Never a node of the sequence's own scene, whose ID is another patient's in the main one."""
    for name in ("Patient A", "Patient B"):
        tab.choose(add_volume(scene, name=name))
        tab.segment()
    output = tab.parameters.outputSegmentation
    sequence, browser = sequence_of(scene, count)
    tab.ui.sequenceSelector.setCurrentNode(sequence)
    tab.ui.sequenceButton.click()
    tab.wait()
    assert tab.parameters.outputSegmentation is output
    rows = [row[0] for row in tab.ui.resultsTable._rows]
    assert rows == [f"Beats {index}: {label}" for index in range(count) for label in _NAMES]
    results = slicer.util.getNodesByClass("vtkMRMLSequenceNode")[-1]
    for button in (tab.ui.statisticsButton, tab.ui.editorButton):
        button.click()
        _module, segmentation, volume = tab.host.opened[-1]
        assert segmentation is browser.GetProxyNode(results)
        assert volume is browser.GetProxyNode(sequence)
        assert segmentation.GetScene() is volume.GetScene() is scene
    scene.RemoveNode(browser)
    opened = list(tab.host.opened)
    tab.ui.editorButton.click()
    assert tab.ui.statusLabel.text.startswith("No sequence browser plays Beats segmentation")
    scene.RemoveNode(sequence)
    tab.ui.editorButton.click()
    assert tab.ui.statusLabel.text.startswith("No sequence browser plays Beats segmentation")
    scene.RemoveNode(results)
    tab.ui.editorButton.click()
    assert tab.ui.statusLabel.text == "There is no result any more; segment again."
    assert tab.host.opened == opened


def test_a_sequence_plays_what_there_is(tab, scene):
    """One item failed: the others play along, and over it lies no other's segmentation."""
    sequence, browser = sequence_of(scene, 3, broken=1)
    tab.ui.sequenceSelector.setCurrentNode(sequence)
    tab.ui.sequenceButton.click()
    tab.wait()
    assert tab.ui.statusLabel.text.startswith("1 of 3 volumes could not be segmented. Beats 1: ")
    results = slicer.util.getNodesByClass("vtkMRMLSequenceNode")[-1]
    assert [results.GetNthIndexValue(index) for index in range(2)] == ["0", "2"]
    assert browser.IsSynchronizedSequenceNode(results, True)
    played = []
    for item in range(3):
        browser.SetSelectedItemNumber(item)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        played.append(browser.GetProxyNode(results).GetSegmentation().GetNumberOfSegments())
    assert played == [2, 0, 2]


def test_sequence_that_is_cancelled(tab, scene):
    sequence, _browser = sequence_of(scene, 2)
    volumes = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    tab.ui.sequenceSelector.setCurrentNode(sequence)
    tab.ui.sequenceButton.click()
    tab.ui.cancelButton.click()
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == volumes
    assert tab.ui.statusLabel.text == "Cancelled."


def test_empty_sequence(tab, scene):
    tab.ui.sequenceSelector.setCurrentNode(
        scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Nothing")
    )
    tab.ui.sequenceButton.click()
    assert tab.ui.statusLabel.text == "Nothing has no items."
