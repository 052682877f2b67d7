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


def sequence_of(scene, count):
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Beats")
    for index in range(count):
        volume = add_volume(scene, "oblique")
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
