"""A look at a model under way, with the real engine: while it trains, and while it rests."""

import json
import shutil

import pytest
import slicer
from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.models.store import ModelStore
from E2ENetSegmentationLib.mrml import segmentations
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.training.data import pairsInScene
from E2ENetSegmentationLib.training.parameters import TrainParameters
from E2ENetSegmentationLib.training.preview_run import PreviewRun
from E2ENetSegmentationLib.training.run import PAUSED, Training
from harness.made import add_case
from harness.tabs import FineTuneTab, SegmentTab


@pytest.fixture(scope="module")
def _data(tmp_path_factory):
    """A data folder of the user for all tests of this file."""
    folder = tmp_path_factory.mktemp("data")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_DATA_HOME", str(folder))
    patch.setenv("LOCALAPPDATA", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def paused(_data, tiny_bundle, tiny_dataset):
    """A training on a dataset folder, paused after its first epoch; not to be changed."""
    import time

    wanted = TrainParameters(
        str(tiny_dataset), "-", start=str(tiny_bundle), epochs=100, iterations=2, fold="0",
        device="cpu", extra=("--workers", "0"),
    )  # fmt: skip
    training = Training.create("Resting", wanted)
    training.start()
    while training.poll():
        if training.rows:
            training.pause()
        time.sleep(0.02)
    assert training.state == PAUSED
    return training


@pytest.fixture
def rested(paused, models, scene):
    """The same training as another session finds it."""
    return Training.load(paused.folder)


@pytest.fixture
def tab(_data, scene, models, left_behind):
    tab = FineTuneTab()
    tab.length(1000, 2)
    yield tab
    if tab.panel.training is not None:
        tab.panel.training.discard()
    tab.panel.cleanup()


def preview(tab):
    """Click and wait; returns the segmentation."""
    tab.ui.previewButton.click()
    tab.wait(lambda: not tab.panel.preview.running)
    return tab.panel.preview.node


def finish(run):
    import time

    while run.poll():
        time.sleep(0.02)
    return run.result


def names(scene, kind="vtkMRMLSegmentationNode"):
    return [node.GetName() for node in slicer.util.getNodesByClass(kind, scene)]


def test_while_it_trains(tab, scene, left_behind):
    ui = tab.ui
    for name in ("One", "Two"):
        tab.add(add_case(scene, name=name))
    tab.hold_out(1)
    assert not ui.previewWidget.visible
    ui.startButton.click()
    tab.wait(lambda: tab.panel.training.rows)
    assert ui.previewWidget.visible
    assert ui.previewComboBox._items == ["Two"]
    node = preview(tab)
    assert tab.panel.running, tab.said
    rows = len(tab.panel.training.rows)
    prefix, epoch = node.GetName().rsplit(" ", 1)
    assert prefix == "Two preview epoch"
    assert 1 <= int(epoch) <= rows
    assert ui.previewStatusLabel.text == f"{node.GetName()} is in the scene."
    volume = tab.panel.collected.cases[1].volumeNodes[0]
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
    assert node.GetSegmentation().GetNumberOfSegments() == 2
    assert tab.host.shown == [volume]
    assert names(scene, "vtkMRMLScalarVolumeNode") == ["One", "Two"]

    tab.wait(lambda: len(tab.panel.training.rows) > rows + 2)
    again = preview(tab)  # the next one takes the place of the first
    assert node.GetScene() is None
    assert names(scene)[:-1] == ["One segmentation", "Two segmentation"]
    assert int(again.GetName().rsplit(" ", 1)[1]) > int(epoch)
    assert left_behind() == []
    tab.host.answers = [True]
    ui.stopButton.click()
    assert not ui.previewWidget.visible
    assert again.GetScene() is not None  # it stays, but is no truth
    truths = [case.segmentationNode for case in tab.panel.collected.cases]
    assert [segmentation for _volume, segmentation in pairsInScene(scene)] == truths


def start_preview(tab, scene):
    tab.add(add_case(scene))
    tab.ui.startButton.click()
    tab.wait(lambda: tab.ui.previewWidget.visible)
    assert tab.ui.previewComboBox._items == ["Case"]  # nothing is held out: what trains
    tab.ui.previewButton.click()
    assert tab.panel.preview.running
    assert tab.ui.previewButton.text == "Cancel"
    return tab.panel.preview._run._engine


def test_cancel_a_preview(tab, scene, left_behind):
    engine = start_preview(tab, scene)
    tab.ui.previewButton.click()
    assert not engine.running
    assert tab.panel.running
    assert tab.ui.previewStatusLabel.text == "The preview was cancelled."
    assert tab.ui.previewButton.text == "Preview"
    assert names(scene) == ["Case segmentation"]
    assert left_behind() == []


def test_scene_closed_in_the_middle(tab, scene, left_behind):
    engine = start_preview(tab, scene)
    tab.close_scene(scene)
    assert not engine.running
    assert tab.panel.running
    assert "scene was closed" in tab.ui.previewStatusLabel.text
    assert left_behind() == []
    # The case is no longer in the scene; it is read from the training's own files.
    node = preview(tab)
    assert node.GetName().startswith("Case preview epoch"), tab.said
    assert names(scene, "vtkMRMLScalarVolumeNode") == ["Case"]


@pytest.mark.parametrize("how", ["module", "stop"])
def test_ends_with_module_and_training(tab, scene, left_behind, how):
    engine = start_preview(tab, scene)
    if how == "module":
        tab.panel.cleanup()
    else:
        tab.host.answers = [True]
        tab.ui.stopButton.click()
    assert not engine.running
    assert left_behind() == []


def test_a_case_of_a_dataset_folder(rested, scene, left_behind):
    """It is loaded once, lies where its file says, and serves the next preview."""
    import SimpleITK as sitk

    case = rested.cases()[0]
    run = PreviewRun(rested, case, ModelStore())
    run.start()
    result = finish(run)
    assert result.segmentationNode.GetName() == f"{case} preview epoch {run.epoch}"
    (path,) = rested.images(case)
    origin = sitk.ReadImage(str(path)).GetOrigin()
    found = result.volumeNode.GetOrigin()
    assert result.volumeNode.GetName() == case
    assert tuple(found) == pytest.approx((-origin[0], -origin[1], origin[2]))
    again = PreviewRun(rested, case, ModelStore())
    again.start()
    assert finish(again).volumeNode is result.volumeNode
    assert left_behind() == []


def test_no_checkpoint(models, scene, left_behind):
    training = Training.create("Fresh", TrainParameters("/data", "-"))
    assert not training.hasCheckpoint
    with pytest.raises(Refused, match="no checkpoint yet"):
        PreviewRun(training, "a", ModelStore()).start()
    with pytest.raises(Refused, match="cannot be read"):
        training.cases()
    assert left_behind() == []


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda run: (run / "checkpoint.safetensors").write_bytes(b"x"), "cannot be read"),
        (lambda run: (run / "run.json").unlink(), "is not the folder of a training"),
        (lambda run: (run / "plan.json").unlink(), "plan.json"),
    ],
)
def test_damaged_runs(rested, scene, left_behind, damage, sentence, tmp_path):
    shutil.copytree(rested.folder, tmp_path / "Resting")
    training = Training.load(tmp_path / "Resting")
    training.parameters = rested.parameters
    training.parameters = type(rested.parameters)(
        rested.parameters.dataset, str(tmp_path / "Resting" / "Resting")
    )
    damage(training.runFolder)
    run = PreviewRun(training, "tiny_000", ModelStore())
    run.start()
    with pytest.raises(Refused, match=sentence):
        finish(run)
    assert names(scene) == []
    assert names(scene, "vtkMRMLScalarVolumeNode") == []
    assert left_behind() == []


def test_image_that_cannot_be_read(rested, scene, left_behind, tmp_path, monkeypatch):
    """What was loaded for a preview that fails is taken away again."""
    (good,) = rested.images(rested.cases()[0])
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no image")
    monkeypatch.setattr(rested, "images", lambda case: [good, bad])
    run = PreviewRun(rested, rested.cases()[0], ModelStore())
    run.start()
    with pytest.raises(Refused, match=r"bad\.nii\.gz cannot be read"):
        finish(run)
    assert names(scene, "vtkMRMLScalarVolumeNode") == []
    assert left_behind() == []


def test_an_engine_that_crashes(tab, rested, stub, left_behind):
    stub("crash")
    tab.panel.preview.setTraining(rested)
    assert preview(tab) is None
    assert tab.ui.previewStatusLabel.text.startswith("The engine stopped unexpectedly")
    assert "boom" in tab.ui.trainLogText.plainText
    assert tab.ui.previewButton.text == "Preview"
    assert left_behind() == []


def test_a_run_that_names_no_cases(tab, rested):
    """Of an older engine: no preview, a line in the log, and the rest of the tab works."""
    record = rested.runFolder / "run.json"
    text = record.read_text(encoding="utf-8")
    content = json.loads(text)
    del content["dataset"]["split"]
    record.write_text(json.dumps(content))
    try:
        tab.panel.preview.setTraining(rested)
        assert not tab.ui.previewWidget.visible
        tab.panel.preview.update()
        assert tab.ui.trainLogText.plainText.count("cannot be read") == 1
    finally:
        record.write_text(text)
    assert paths.trainingsFolder().is_dir()


def test_a_preview_is_never_filled(tab, scene):
    """What Segment makes of the same volume outlives the next preview."""
    start_preview(tab, scene)
    tab.wait(lambda: not tab.panel.preview.running)
    before = tab.panel.preview.node
    case = tab.panel.collected.cases[0]
    scene.RemoveNode(case.segmentationNode)  # what is left is the preview's
    segment = SegmentTab()
    segment.choose(case.volumeNodes[0])
    assert segment.parameters.outputSegmentation is None
    segment.choose_node(segment.ui.outputSelector, before)  # by hand
    segment.segment()
    result = segment.parameters.outputSegmentation
    assert result is not before
    assert segmentations.origin(result)[1] == "tiny"
    preview(tab)
    assert before.GetScene() is None
    assert result.GetScene() is scene
    segment.choose(None)
    segment.choose(case.volumeNodes[0])
    assert segment.parameters.outputSegmentation is result
    segment.panel.cleanup()
