"""The Fine-tune tab in the thin harness; the engine is the real one on a tiny model."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import slicer
from E2ENetSegmentationLib.core import Core
from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.mrml.segmentations import PREVIEW
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.training.data import (
    TrainingCase,
    ownFolds,
)
from E2ENetSegmentationLib.training.panel import FineTunePanel
from harness.bundles import variant
from harness.host import FakeHost
from harness.made import add_case, add_volume, phantom
from harness.tabs import FineTuneTab

pytestmark = pytest.mark.usefixtures("user_folder")


@pytest.fixture
def tab(scene, models):
    tab = FineTuneTab()
    yield tab
    tab.panel.cleanup()


def test_pairs_are_checked_when_they_are_added(tab, scene):
    ui, case = tab.ui, add_case(scene)
    ui.addCaseButton.click()
    assert ui.trainStatusLabel.text == "Choose a volume for MRI."
    far = add_volume(scene, name="Far")
    matrix = np.eye(4)
    matrix[:3, 3] = 1000
    far.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    tab.add(TrainingCase([far], case.segmentationNode))
    assert ui.trainStatusLabel.text == "Case segmentation does not lie in Far."
    tab.add(case)
    assert ui.casesTable._rows == [["Case", "Case segmentation", False, "fits"]]
    assert ui.mappingTable._rows == [
        ["sphere", "sphere", "of the model"],
        ["cube", "cube", "of the model"],
    ]
    tab.add(case)
    assert "already in the table" in ui.trainStatusLabel.text
    ui.casesTable.selectRow(0)
    ui.removeCaseButton.click()
    assert ui.casesTable._rows == []
    ui.addAllCasesButton.click()
    assert ui.trainStatusLabel.text == "Cases added: 1."


def located(models, folder):
    """A copy of a model that says it finds its region by itself."""
    shutil.copytree(models, folder / "located")
    path = folder / "located" / "model.json"
    model = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**model, "name": "located", "locator": {"x": 1}}), encoding="utf-8")


def test_a_model_to_start_from_is_chosen(scene, models):
    """The first one where nothing was ever chosen; nothing, where a person chose that."""
    tab = FineTuneTab()
    host = FakeHost()
    panel = FineTunePanel(tab.ui, Core(), host, tab.panel.dependencies, print)
    assert panel.base is panel.models[0]
    tab.ui.baseComboBox.currentIndex = 0
    assert host.settings["base"] == ""
    panel.refreshModels()
    assert panel.base is None
    tab.panel.cleanup()


def test_consequences_are_said_at_once(scene, models, tmp_path, monkeypatch):
    located(models, tmp_path / "more")
    monkeypatch.setenv("E2ENET_MODELS", f"{tmp_path / 'more'}{os.pathsep}{models.parent}")
    tab = FineTuneTab("located")
    ui = tab.ui
    assert not ui.consequencesLabel.visible
    tab.add(add_case(scene))
    said = ui.consequencesLabel.text
    assert said.startswith("The new model will find its region by itself")
    assert "Nothing is held out: all cases train (1)" in said
    tab.add(add_case(scene, "oblique", name="Other"))
    tab.hold_out(1)
    assert "Held out to measure on: 1 of 2 cases (Other)." in ui.consequencesLabel.text
    ui.mappingTable._rows[1][1] = "lump"
    ui.mappingTable._emit("itemChanged(QTableWidgetItem*)", None)
    assert ui.mappingTable._rows[1] == ["cube", "lump", "new"]
    said = ui.consequencesLabel.text
    assert "will not find its region by itself" in said
    assert "has no label lump, so nobody knows" in said
    assert "choose sphere or cube for each segment" in said
    ui.mappingTable._rows[1][1] = ""
    ui.mappingTable._emit("itemChanged(QTableWidgetItem*)", None)
    assert ui.mappingTable._rows[1][2] == "left out"
    assert ui.consequencesLabel.text.startswith("The new model will find its region by itself")
    ui.baseComboBox.currentIndex = 0  # from scratch there is nothing to keep
    assert "region" not in ui.consequencesLabel.text
    tab.panel.cleanup()


def test_consequences_of_a_folder(tab, tiny_dataset, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(tiny_dataset, folder)
    ui = tab.ui
    ui.sourceComboBox.currentIndex = 1
    ui.datasetPathEdit.currentPath = str(folder)
    names = sorted(path.name.split(".")[0] for path in (folder / "labelsTr").iterdir())
    assert f"all cases train ({len(names)})" in ui.consequencesLabel.text
    from e2enet.data.datasets.splits import five_folds

    for fold in range(min(5, len(names))):
        ui.foldComboBox.currentIndex = 1 + fold
        count = len(five_folds(names, fold)[1])
        assert f"{count} of {len(names)} cases." in ui.consequencesLabel.text
    splits = [{"train": names[1:], "val": names[:1]}]
    (folder / "splits_final.json").write_text(json.dumps(splits))
    ui.datasetPathEdit.currentPath = str(tmp_path)
    ui.datasetPathEdit.currentPath = str(folder)
    ui.foldComboBox.currentIndex = 1
    assert f"1 of {len(names)} cases ({names[0]})." in ui.consequencesLabel.text
    (folder / "splits_final.json").write_text("{")
    (folder / "dataset.json").write_text("[]")
    ui.foldComboBox.currentIndex = 0
    assert "Nothing is held out" in ui.consequencesLabel.text


def test_cases_come_back_with_the_scene(tab, scene):
    tab.add(add_case(scene))
    tab.hold_out(0)
    again = FineTuneTab(host=tab.host)
    again.panel.setParameterNode(tab.parameters)
    assert again.ui.casesTable._rows == [["Case", "Case segmentation", True, "fits"]]


def test_what_is_missing_is_said(tab, scene):
    tab.ui.nameEdit.text = " "
    tab.ui.startButton.click()
    assert tab.ui.trainStatusLabel.text == "Give the new model a name."
    tab.ui.nameEdit.text = "Mine"
    tab.ui.startButton.click()
    assert tab.ui.trainStatusLabel.text == "Add at least one pair of volume and segmentation."
    tab.ui.sourceComboBox.currentIndex = 1
    assert tab.ui.folderButton.visible
    assert not tab.ui.casesButton.visible
    tab.ui.startButton.click()
    assert tab.ui.trainStatusLabel.text.startswith("Choose a dataset folder")
    assert tab.ui.startButton.enabled


def test_effort_sets_the_numbers(tab):
    assert tab.ui.effortComboBox.currentText == "Custom"  # a number was changed
    tab.ui.effortComboBox.currentIndex = 1
    assert tab.ui.epochsSpinBox.value == 100
    assert tab.ui.rateSpinBox.value == 0.001
    tab.ui.baseComboBox.currentIndex = 0
    assert tab.ui.epochsSpinBox.value == 500
    assert tab.ui.rateSpinBox.value == 0.01
    assert tab.ui.modalityComboBox.enabled


def test_fine_tune_pause_resume_and_use(tab, scene, left_behind):
    """Two cases teach and a third is held out; the new model is in the list at the end."""
    ui = tab.ui
    for kind in ("plain", "oblique", "left-handed"):
        tab.add(add_case(scene, kind, kind))
    tab.hold_out(2)
    ui.startButton.click()
    assert ui.pauseButton.enabled
    assert not ui.startButton.enabled
    tab.wait(lambda: tab.panel.training.rows)
    assert ui.figuresLabel.text == "Dice of the held-out cases:"
    tab.close_scene(scene)  # the training does not mind
    ui.pauseButton.click()
    tab.wait()
    assert ui.trainStatusLabel.text.startswith("Paused") or tab.new
    if not tab.new:
        # Slicer is closed and started again.
        tab.panel.cleanup()
        tab = FineTuneTab()
        ui = tab.ui
        assert ui.unfinishedWidget.visible
        assert ui.unfinishedComboBox.currentText == "Mine"
        ui.resumeUnfinishedButton.click()
        tab.wait()
    assert tab.new == ["Mine"], tab.said
    assert "is in the list of the tab Segment" in ui.trainStatusLabel.text
    assert "Dice of the held-out cases: sphere" in ui.trainStatusLabel.text
    model = Core().store.open("Mine")
    assert model.origin == "imported"
    assert [label.name for label in model.labels] == ["sphere", "cube"]
    provenance = model.content["provenance"]
    assert provenance["metrics"]["of"] == "1 held-out case"
    assert provenance["data"]["cases"] == 2
    names = [row[0] for row in ui.figuresTable._rows]
    assert names[:4] == ["Loss", "Dice sphere", "Dice cube", "Dice sphere, whole cases"]
    assert not list(paths.trainingsFolder().iterdir())
    assert left_behind() == []


def test_nothing_held_out_is_said(tab, scene):
    tab.add(add_case(scene))
    tab.length(1, 1)
    heard, say = [], tab.panel.say
    tab.panel.say = lambda text: (heard.append(text), say(text))
    tab.ui.startButton.click()
    tab.wait()
    assert tab.new == ["Mine"], tab.said
    assert any(text.startswith("Training on CPU") for text in heard), heard
    assert tab.ui.figuresLabel.text.startswith("No case is held out")
    assert "held-out" not in tab.ui.trainStatusLabel.text
    assert len(tab.ui.figuresTable._rows) == 3
    provenance = Core().store.open("Mine").content["provenance"]
    assert provenance["metrics"]["of"] == "patches of training cases"


def test_a_dataset_folders_own_folds(tab, tiny_dataset, tmp_path):
    """What can be held out: fifths, or what the folder's own splits_final.json names."""
    ui = tab.ui
    ui.sourceComboBox.currentIndex = 1
    ui.datasetPathEdit.currentPath = str(tiny_dataset)
    assert ui.foldComboBox._items[1:] == [f"Fifth {n}" for n in range(1, 6)]
    copy = tmp_path / "Dataset900_Own"
    shutil.copytree(tiny_dataset, copy)
    split = {"train": ["tiny_001", "tiny_002"], "val": ["tiny_000"]}
    (copy / "splits_final.json").write_text(json.dumps([split, split]))
    ui.datasetPathEdit.currentPath = str(copy)
    assert ui.foldComboBox._items[1:] == [f"Fold {n} of its own split" for n in range(2)]
    ui.foldComboBox.currentIndex = 2
    tab.length(1, 1)
    ui.startButton.click()
    tab.wait()
    assert tab.new == ["Mine"], tab.said
    assert "Dice of the held-out cases" in ui.trainStatusLabel.text
    for broken in ("[{", "[]", "3", "{}"):
        (copy / "splits_final.json").write_text(broken)
        assert ownFolds(copy) == 0


def test_curves(scene):
    from E2ENetSegmentationLib.training.plots import TrainingPlot

    plot = TrainingPlot("Mine")
    rows = [{"epoch": n, "loss": 1 / n, "dice": {"a": None if n == 1 else 0.5}} for n in (1, 2)]
    plot.update(rows[:1])
    plot.update(rows)
    table = plot.table.GetTable()
    assert [table.GetColumnName(i) for i in range(3)] == ["Epoch", "Loss", "Dice a"]
    assert table.GetNumberOfRows() == 2
    assert plot.chart.GetNumberOfPlotSeriesNodes() == 2
    assert scene.GetNumberOfNodesByClass("vtkMRMLPlotSeriesNode") == 2
    scene.Clear(False)
    assert plot.chart.GetYAxisTitle() == "Loss, Dice of training cases"
    assert not plot.exists
    plot.update(rows)
    assert scene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 1


def test_stop_asks_and_deletes(tab, scene):
    tab.add(add_case(scene))
    tab.length(1000, 50)
    tab.ui.startButton.click()
    assert tab.panel.running
    tab.ui.stopButton.click()  # the answer is no
    assert tab.panel.running
    tab.host.answers = [True]
    tab.ui.stopButton.click()
    assert not tab.panel.running
    assert not list(paths.trainingsFolder().iterdir())
    assert tab.ui.startButton.enabled


def test_engine_that_refuses(tab, scene):
    case = add_case(scene)
    slicer.util.updateVolumeFromArray(
        case.volumeNodes[0], np.full(phantom()[1].shape, np.nan, np.float32)
    )
    tab.add(case)
    tab.ui.startButton.click()
    tab.wait()
    name = case.volumeNodes[0].GetName()
    assert tab.ui.trainStatusLabel.text.startswith(f"{name} holds no finite voxel")
    assert tab.ui.trainStatusLabel.text in tab.ui.trainLogText.plainText
    assert tab.ui.startButton.enabled
    assert tab.new == []


def test_engine_that_is_killed(tab, scene):
    tab.add(add_case(scene))
    tab.length(1000, 50)
    tab.ui.startButton.click()
    os.kill(tab.panel.training._engine.pid, signal.SIGKILL)
    tab.wait()
    assert tab.ui.trainStatusLabel.text.startswith("The engine was ended from outside")
    assert tab.ui.startButton.enabled


class vtkMRMLMultiVolumeNode(slicer.vtkMRMLScalarVolumeNode):
    """The wheel slicer-core lacks this class; Slicer's is a scalar volume node by inheritance too.

    A Python subclass keeps the C++ class's name, so the two questions about it are answered here.
    """

    def GetClassName(self):
        return "vtkMRMLMultiVolumeNode"

    def IsA(self, name):
        return name == self.GetClassName() or super().IsA(name)


def test_4d_volume_is_refused(tab, scene):
    case = add_case(scene)
    moving = vtkMRMLMultiVolumeNode()
    moving.SetName("Beating heart")
    scene.AddNode(moving)
    moving.SetAndObserveImageData(case.volumeNodes[0].GetImageData())
    tab.add(TrainingCase([moving], case.segmentationNode))
    assert tab.ui.trainStatusLabel.text.startswith("Beating heart is a 4D volume.")
    assert tab.ui.casesTable._rows == []


def test_one_bad_pair_does_not_keep_the_others_away(tab, scene):
    add_case(scene, name="Good")
    bad = add_case(scene, name="Bad")
    bad.volumeNodes[0].SetAndObserveImageData(None)
    add_case(scene, name="Fine")
    tab.ui.addAllCasesButton.click()
    assert tab.ui.trainStatusLabel.text == "Cases added: 2. Bad has no voxels."
    assert [row[0] for row in tab.ui.casesTable._rows] == ["Good", "Fine"]


@pytest.fixture
def more(models, tmp_path, monkeypatch):
    """A folder whose models can be chosen beside the tiny one."""
    folder = tmp_path / "more"
    folder.mkdir()
    monkeypatch.setenv("E2ENET_MODELS", f"{folder}{os.pathsep}{models.parent}")
    return folder


def test_a_base_with_two_channels(scene, models, more):
    variant(models, more / "two", channels=("T1", "T2"))
    tab = FineTuneTab("two")
    ((text, selector),) = tab.ui.caseChannelsWidget._items
    assert (tab.ui.caseVolumeLabel.text, text) == ("T1:", "T2:")
    case = add_case(scene)
    tab.add(case)
    assert tab.ui.trainStatusLabel.text == "Choose a volume for T2."
    selector.setCurrentNode(add_volume(scene, name="Second"))
    tab.add(case)
    assert tab.ui.casesTable._rows == [["Case, Second", "Case segmentation", False, "fits"]]
    again = FineTuneTab("two", host=tab.host)  # the setting names it: the module opens with it
    again.panel.setParameterNode(tab.parameters)
    assert again.ui.casesTable._rows == tab.ui.casesTable._rows


def test_a_base_that_cannot_be_shown(scene, models, more, monkeypatch):
    """The module opens all the same, and says why."""
    shutil.copytree(models, more / "broken")
    path = more / "broken" / "model.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content.update(name="broken", plan={}, network={"kind": "E2ENet", "arguments": None})
    path.write_text(json.dumps(content), encoding="utf-8")
    tab = FineTuneTab("broken")
    assert tab.ui.networkComboBox._items == ["As it is"]
    tab.add(add_case(scene))
    tab.ui.startButton.click()
    tab.wait()
    assert tab.ui.trainStatusLabel.text == 'The plan lacks the field "spacing".', tab.said
    tab.host.answers = [True]
    tab.ui.stopButton.click()  # what failed makes room for another of its name
    assert not list(paths.trainingsFolder().iterdir())
    monkeypatch.setattr(FakeHost, "volumeSelector", lambda *_args: 1 / 0)
    variant(models, more / "two", channels=("T1", "T2"))
    tab = FineTuneTab("two")
    assert tab.ui.trainStatusLabel.text.startswith("Something unexpected happened")


def test_previews_are_no_truth(tab, scene):
    add_case(scene, name="Good")
    add_case(scene, name="Seen").segmentationNode.SetAttribute(PREVIEW, "1")
    tab.ui.addAllCasesButton.click()
    assert [row[0] for row in tab.ui.casesTable._rows] == ["Good"]


def test_a_volume_does_not_teach_and_measure(tab, scene):
    case = add_case(scene)
    other = add_case(scene, name="Other").segmentationNode
    tab.add(case)
    tab.add(TrainingCase(case.volumeNodes, other))
    tab.hold_out(1)
    tab.ui.startButton.click()
    assert tab.ui.trainStatusLabel.text == (
        "Case is held out and trains as well; hold out all of its cases, or none."
    )
    assert not tab.panel.running
    assert not list(paths.trainingsFolder().glob("*"))


def test_the_labels_of_another_base_are_kept(scene, models, more):
    """They come back with the scene; another modality changes none of them."""
    variant(models, more / "sided", locator={"boxes": [{"name": "Left"}, {"name": "Right"}]})
    tab = FineTuneTab("sided")
    tab.ui.baseComboBox.currentIndex = 0
    case = add_case(scene)
    segmentation = case.segmentationNode.GetSegmentation()
    for index, name in enumerate(("Left sphere", "Right cube")):
        segmentation.GetNthSegment(index).SetName(name)
    tab.add(case)
    tab.ui.mappingTable._rows[1][1] = "lump"
    tab.ui.mappingTable._emit("itemChanged(QTableWidgetItem*)", None)
    tab.ui.modalityComboBox.currentIndex = 1
    assert [row[1] for row in tab.ui.mappingTable._rows] == ["Left sphere", "lump"]
    names = ["", *(model.name for model in tab.panel.models)]
    tab.ui.baseComboBox.currentIndex = names.index("sided")
    for _again in range(2):
        assert tab.ui.mappingTable._rows == [
            ["Left sphere", "sphere", "of the model"],
            ["Right cube", "cube", "of the model"],
        ]
        tab.panel.setParameterNode(tab.parameters)


def test_a_name_that_was_taken_meanwhile(tab, scene, models):
    tab.add(add_case(scene))
    tab.length(1, 1)
    tab.ui.startButton.click()
    for name in ("Mine", "Mine-2"):
        shutil.copytree(models, paths.modelsFolder() / name)
    tab.wait()
    assert tab.new == ["Mine-3"], tab.said
    said = tab.ui.trainStatusLabel.text
    assert "Mine 3 is in the list of the tab Segment." in said
    assert "Meanwhile another model has the name Mine." in said
    model = Core().store.open("Mine-3")
    assert (model.title, model.content["name"]) == ("Mine 3", "Mine-3")
    assert not list(paths.trainingsFolder().iterdir())
    assert not tab.ui.resumeButton.enabled


def test_a_finished_training_that_could_not_be_installed(tab, scene, monkeypatch):
    """Disk full, say: it waits, in this session and in the next, and Resume installs it."""
    tab.add(add_case(scene))
    tab.length(1, 1)
    store = tab.panel.core.store

    def full(source):
        raise Refused("The disk is full.")

    monkeypatch.setattr(store, "importModels", full)
    tab.ui.startButton.click()
    tab.wait()
    assert tab.ui.trainStatusLabel.text == "The disk is full."
    assert tab.ui.stopButton.enabled
    tab.ui.resumeButton.click()
    tab.wait()
    assert tab.ui.trainStatusLabel.text == "The disk is full."
    again = FineTuneTab()
    again.ui.resumeUnfinishedButton.click()
    again.wait()
    assert again.new == ["Mine"], again.said
    assert not list(paths.trainingsFolder().iterdir())


def test_a_base_that_moves_while_a_training_rests(scene, models, more):
    variant(models, more / "second")
    tab = FineTuneTab("second")
    tab.length(1000, 2)
    tab.add(add_case(scene))
    tab.ui.startButton.click()
    tab.wait(lambda: tab.panel.training.rows)
    tab.ui.pauseButton.click()
    tab.wait()
    rows = len(tab.panel.training.rows)
    shutil.rmtree(more / "second")
    tab.ui.resumeButton.click()
    tab.wait(lambda: not tab.panel.running or len(tab.panel.training.rows) > rows)
    assert tab.panel.running, tab.said
    tab.panel.cleanup()


def test_a_base_that_is_deleted(scene, models, more):
    """The widgets are those of a start from scratch, and it is said."""
    variant(models, more / "second")
    tab = FineTuneTab("second")
    ui = tab.ui
    ui.effortComboBox.currentIndex = 0
    assert ui.rateSpinBox.value == 0.001
    assert not ui.sparsitySpinBox.enabled
    shutil.rmtree(more / "second")
    tab.panel.refreshModels()
    assert ui.baseComboBox.currentIndex == 0
    assert ui.trainStatusLabel.text == (
        "Second is no longer there; a new training begins from scratch."
    )
    assert ui.rateSpinBox.value == 0.01
    assert ui.sparsitySpinBox.enabled
    assert ui.modalityComboBox.enabled
    assert tab.host.settings["base"] == ""


def test_nothing_of_a_stopped_training_stays(tab, scene):
    tab.add(add_case(scene))
    tab.length(1000, 2)
    tab.ui.startButton.click()
    tab.wait(lambda: tab.panel.training.rows)
    assert tab.ui.plotButton.visible
    tab.host.answers = [True]
    tab.ui.stopButton.click()
    ui = tab.ui
    assert not any(w.visible for w in (ui.figuresLabel, ui.figuresTable, ui.plotButton))
    assert tab.panel.plot is None
