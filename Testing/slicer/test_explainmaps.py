"""Importance maps in the scene, made by the real engine on tiny bundles."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from E2ENetSegmentationLib.explain.colors import legendOf
from E2ENetSegmentationLib.explain.run import ExplainRun
from E2ENetSegmentationLib.mrml import volumes
from E2ENetSegmentationLib.refusal import Refused
from harness.bundles import variant
from harness.made import add_run, add_volume, axes
from harness.mrml import folders, save
from harness.tabs import ExplainTab


@pytest.fixture
def tab(scene, models, left_behind, slices):
    return ExplainTab()


def test_raw_values_are_those_of_the_engine(tab, scene, slices, monkeypatch):
    written = {}
    load = ExplainRun._load

    def reading(run):
        load(run)
        for entry in run._read("explain.json")["volumes"]:
            if entry["kind"] == "raw":
                path = run._output / entry["path"]
                written[entry["direction"]] = volumes.readPart(path, run.request.volumeNodes[0])

    monkeypatch.setattr(ExplainRun, "_load", reading)
    tab.choose(add_volume(scene, "oblique"), 1, 1)
    tab.click(tab.ui.showButton)
    assert not tab.ui.rawCheckBox.enabled  # the dominant direction has none
    tab.direction("upward")
    assert tab.ui.rawCheckBox.enabled
    tab.ui.rawCheckBox.click()
    assert not tab.panel.running
    node = tab.panel.maps.found["upward raw"]
    assert slices.GetForegroundVolumeID() == node.GetID()
    assert legendOf(node).GetTitleText() == "Coarser scale, raw"
    assert legendOf(node).GetVisibility()
    array, matrix = written["upward"]
    assert np.allclose(slicer.util.arrayFromVolume(node), array, rtol=1e-5)
    assert np.allclose(volumes.ijkToRas(node), matrix, atol=1e-5)
    scene.RemoveNode(node)  # somebody deletes it
    tab.direction("forward")
    tab.direction("upward")
    assert tab.panel.maps.found["upward raw"].GetScene() is scene
    tab.ui.rawCheckBox.click()
    assert slices.GetForegroundVolumeID() == tab.panel.maps.found["upward"].GetID()


@pytest.mark.parametrize("kind", ["plain", "oblique", "left-handed"])
def test_a_part_of_a_volume_is_read_in_its_place(scene, tmp_path, kind):
    volume = add_volume(scene, kind)
    array, path = slicer.util.arrayFromVolume(volume), tmp_path / "part.nrrd"

    def write(values, shift):
        """With SimpleITK, in LPS, as the engine does."""
        matrix = np.diag([-1, -1, 1, 1]) @ axes(kind)
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        image = sitk.GetImageFromArray(values.astype(np.float32))
        image.SetSpacing(spacing.tolist())
        image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin((matrix @ [*shift, 1])[:3].tolist())
        sitk.WriteImage(image, str(path))

    write(array[2:7, 3:9, 4:15], (4, 3, 2))
    found, matrix = volumes.readPart(path, volume)
    assert np.array_equal(found, array[2:7, 3:9, 4:15])
    assert np.allclose(matrix @ [0, 0, 0, 1], axes(kind) @ [4, 3, 2, 1], atol=1e-3)
    assert np.allclose(matrix[:3, :3], axes(kind)[:3, :3])
    with pytest.raises(Refused, match="does not lie on the grid of Phantom"):
        volumes.readResult(path, volume)
    for shift in ((4.5, 3, 2), (-1, 3, 2), (20, 3, 2)):  # between voxels, and outside
        write(array[2:7, 3:9, 4:15], shift)
        with pytest.raises(Refused, match="does not lie on the grid of Phantom"):
            volumes.readPart(path, volume)


def test_maps_are_of_these_weights_and_this_region(tab, scene, models, tmp_path, monkeypatch):
    copy = tmp_path / "models" / "tiny"
    shutil.copytree(models, copy)
    monkeypatch.setenv("E2ENET_MODELS", str(copy.parent))
    tab.panel.refreshModels("tiny")
    volume = add_volume(scene)
    tab.choose(volume, 2, 0)
    tab.click(tab.ui.showButton)
    first = tab.panel.maps
    tab.ui.showButton.click()
    assert not tab.panel.running
    shutil.rmtree(copy)
    variant(models, copy)  # same name, other weights
    tab.direction("compare")
    tab.click(tab.ui.showButton)
    assert tab.panel.maps.nodes() != first.nodes()
    assert first.exists  # what was there stays, to be compared
    region = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Box")
    region.SetCenter(*(axes("plain") @ [14, 12, 9, 1])[:3])
    region.SetSize(18, 18, 18)
    tab.ui.roiSelector.setCurrentNode(region)
    tab.ui.showButton.click()
    assert tab.panel.running  # a region makes other maps
    tab.ui.cancelButton.click()
    (copy / "weights.safetensors").unlink()
    tab.ui.showButton.click()
    assert "are missing" in tab.ui.statusLabel.text


def test_comes_back_with_the_scene(tab, scene, tmp_path):
    tab.choose(add_volume(scene), 1, 1)
    tab.click(tab.ui.showButton)
    kept = tab.panel.maps.found["forward"]
    colours = kept.GetDisplayNode().GetColorNode()
    array = slicer.util.arrayFromVolume(kept).copy()
    name = kept.GetName()
    save(scene, tmp_path)
    tab.forget()
    scene.Clear(False)
    assert scene.Connect()
    tab.bind()
    node = slicer.util.getNode(name)
    assert np.array_equal(slicer.util.arrayFromVolume(node), array)
    assert node.GetDisplayNode().GetColorNode().GetNumberOfColors() == colours.GetNumberOfColors()
    assert name in {n.GetName() for n in folders(scene)["Phantom explanation"]}
    tab.choose(slicer.util.getNode("Phantom"), 1, 1)
    tab.ui.showButton.click()
    assert not tab.panel.running  # found, not computed again
    assert tab.ui.statusLabel.text.startswith("Importance, stage 1, level 1")


def test_a_model_of_two_channels(scene, slices, models, left_behind, tmp_path, monkeypatch):
    variant(models, tmp_path / "models" / "two", channels=("T1", "T2"))
    monkeypatch.setenv("E2ENET_MODELS", str(tmp_path / "models"))
    tab = ExplainTab("two")
    assert tab.ui.inputLabel.text == "T1:"
    assert [text for text, _selector in tab.ui.channelsWidget._items] == ["T2:"]
    first, second = add_volume(scene, name="A"), add_volume(scene, name="B")
    tab.choose(first, 1, 1)
    tab.ui.showButton.click()
    assert tab.ui.statusLabel.text == "Choose a volume for T2."
    selector = tab.ui.channelsWidget._items[0][1]
    selector.setCurrentNode(add_volume(scene, "oblique", name="C"))
    tab.ui.showButton.click()
    assert "C does not lie on the grid of A." in tab.ui.statusLabel.text
    selector.setCurrentNode(second)
    tab.click(tab.ui.showButton)
    assert tab.ui.statusLabel.text.startswith("Importance, "), tab.ui.logText.plainText
    assert slices.GetBackgroundVolumeID() == first.GetID()
    tab.ui.showButton.click()
    assert not tab.panel.running
    selector.setCurrentNode(first)  # other volumes, other maps
    tab.ui.showButton.click()
    assert tab.panel.running
    tab.ui.cancelButton.click()
    assert left_behind() == []
    # A segmentation remembers all of its volumes.
    tab.ui.runSelector.setCurrentNode(add_run(scene, [second, first], "two"))
    assert tab.ui.inputSelector.currentNode() is second
    assert selector.currentNode() is first
