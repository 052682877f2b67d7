"""The Fine-tune tab in the thin harness; the engine is the real one on a tiny model."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from E2ENetSegmentationLib import dependencies, paths, trainingdata, trainingrun
from E2ENetSegmentationLib.core import Core
from E2ENetSegmentationLib.finetunepanel import FineTunePanel
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.segmentations import importLabels
from E2ENetSegmentationLib.trainingdata import TrainingCase
from harness.host import FakeHost
from harness.made import add_volume, phantom
from harness.widgets import Ui

RESOURCES = Path(paths.LIB).parent / "Resources"


def parameters():
    return SimpleNamespace(
        trainingVolumes=[], trainingSegmentations=[], trainingHeldOut=[], trainingLabels={}
    )


class Tab:
    """The panel with its widgets and its host."""

    def __init__(self, host=None):
        self.ui, self.host = Ui(RESOURCES / "UI" / "FineTuneTab.ui"), host or FakeHost()
        self.new = []
        self.panel = FineTunePanel(
            self.ui,
            Core(),
            self.host,
            dependencies.Dependencies(RESOURCES, self.host),
            self.new.append,
        )
        self.parameters = parameters()
        self.panel.setParameterNode(self.parameters)
        names = ["", *(model.name for model in self.panel.models)]
        self.ui.baseComboBox.currentIndex = names.index("tiny")
        self.host.settings["trainArguments"] = "--workers 0"
        self.ui.nameEdit.text = "Mine"
        self.ui.epochsSpinBox.value = 2
        self.ui.iterationsSpinBox.value = 2

    def add(self, case):
        self.ui.caseVolumeSelector.setCurrentNode(case.volumeNodes[0])
        self.ui.caseSegmentationSelector.setCurrentNode(case.segmentationNode)
        self.ui.addCaseButton.click()

    def hold_out(self, row):
        self.ui.casesTable._rows[row][2] = True
        self.ui.casesTable._emit("itemChanged(QTableWidgetItem*)", None)

    def wait(self, until=None):
        self.host.pump(until or (lambda: not self.panel.running), 300)


@pytest.fixture(autouse=True)
def _user_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))


@pytest.fixture
def tab(scene, models):
    tab = Tab()
    yield tab
    tab.panel.cleanup()


def made_case(scene, kind="plain", name="Case"):
    """A volume with its segmentation of a sphere and a cube."""
    from E2ENetSegmentationLib.models import ModelStore

    volume = add_volume(scene, kind, name)
    labels = ModelStore().open("tiny").labels
    node = importLabels(phantom()[1], volume, labels, modelName="truth", show3D=False)
    return TrainingCase([volume], node)


def test_dataset_of_the_scene(scene, models, tmp_path):
    cases = [made_case(scene, kind, kind) for kind in ("left-handed", "oblique")]
    cases[1].heldOut = True
    mapping = {"sphere": "sphere", "cube": "lump"}
    base = Core().store.open("tiny")
    values = trainingdata.writeDataset(tmp_path / "set", cases, mapping, ["MRI"], base)
    assert values == {"sphere": 1, "lump": 2}
    import SimpleITK as sitk

    label = sitk.ReadImage(str(tmp_path / "set" / "labelsTr" / "case_000.nrrd"))
    image = sitk.ReadImage(str(tmp_path / "set" / "imagesTr" / "case_000_0000.nrrd"))
    assert (sitk.GetArrayFromImage(label) == phantom()[1]).all()
    assert np.allclose(label.GetDirection(), image.GetDirection())
    assert (tmp_path / "set" / "labelsTs" / "case_001.nrrd").is_file()
    from e2enet.data.datasets import read_dataset

    assert read_dataset(tmp_path / "set").case_names == ("case_000",)
    metadata = json.loads((tmp_path / "set" / "metadata.json").read_text(encoding="utf-8"))
    lump = next(entry for entry in metadata["labels"] if entry["name"] == "lump")
    assert lump["color"] == [128, 174, 128]
    assert lump["terminology"]["type"] == {"scheme": "SCT", "code": "85756007", "meaning": "Tissue"}
    assert metadata["modality"] == "MR"


def test_labels_of_the_base_are_kept_whole(models):
    base = Core().store.open("tiny").labels
    assert trainingdata.labelValues({"a": "cube"}, base) == {"sphere": 1, "cube": 2}
    assert trainingdata.labelValues({"a": "cube", "b": "new"}, base) == {"cube": 1, "new": 2}
    assert trainingdata.proposedLabel("SPHERE", base) == "sphere"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda cases, mapping: mapping.update(sphere="", cube=""), "at least one segment a label"),
        (lambda cases, mapping: setattr(cases[0], "heldOut", True), "one case has to train"),
        (
            lambda cases, mapping: cases[0].segmentationNode.GetSegmentation().RemoveAllSegments(),
            "has no segments",
        ),
        (
            lambda cases, mapping: slicer.mrmlScene.RemoveNode(cases[0].volumeNodes[0]),
            "case 1 was removed",
        ),
    ],
)
def test_cases_that_cannot_teach(scene, models, tmp_path, change, sentence):
    cases, mapping = [made_case(scene)], {"sphere": "sphere", "cube": "cube"}
    change(cases, mapping)
    with pytest.raises(Refused, match=sentence):
        trainingdata.writeDataset(tmp_path / "set", cases, mapping, ["MRI"])
    assert not (tmp_path / "set").exists()


def test_pairs_are_checked_when_they_are_added(tab, scene):
    ui, case = tab.ui, made_case(scene)
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
    assert ui.mappingTable._rows == [["sphere", "sphere"], ["cube", "cube"]]
    tab.add(case)
    assert "already in the table" in ui.trainStatusLabel.text
    ui.casesTable.selectRow(0)
    ui.removeCaseButton.click()
    assert ui.casesTable._rows == []
    ui.addAllCasesButton.click()
    assert ui.trainStatusLabel.text == "Added 1 cases."


def test_cases_come_back_with_the_scene(tab, scene):
    tab.add(made_case(scene))
    tab.hold_out(0)
    again = Tab(tab.host)
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
        tab.add(made_case(scene, kind, kind))
    tab.hold_out(2)
    ui.startButton.click()
    assert ui.pauseButton.enabled
    assert not ui.startButton.enabled
    tab.wait(lambda: tab.panel.training.rows)
    # The scene goes away in the middle; the training does not mind.
    tab.panel.setParameterNode(None)
    tab.panel.sceneAboutToClose()
    scene.Clear(False)
    tab.panel.setParameterNode(parameters())
    ui.pauseButton.click()
    tab.wait()
    assert ui.trainStatusLabel.text.startswith("Paused") or tab.new
    if not tab.new:
        # Slicer is closed and started again.
        tab.panel.cleanup()
        host = FakeHost()
        again = Tab(host)
        assert again.ui.unfinishedWidget.visible
        assert again.ui.unfinishedComboBox.currentText == "Mine"
        again.ui.resumeUnfinishedButton.click()
        again.wait()
        tab, ui = again, again.ui
    assert tab.new == ["Mine"], ui.trainStatusLabel.text + ui.trainLogText.plainText
    assert "is in the list of the tab Segment" in ui.trainStatusLabel.text
    assert "Dice of the held-out cases: sphere" in ui.trainStatusLabel.text
    model = Core().store.open("Mine")
    assert model.origin == "imported"
    assert [label.name for label in model.labels] == ["sphere", "cube"]
    assert [row[0] for row in ui.figuresTable._rows][:3] == ["Loss", "Dice sphere", "Dice cube"]
    assert not list(paths.trainingsFolder().iterdir())
    assert left_behind() == []


def test_curves(scene):
    from E2ENetSegmentationLib.plots import TrainingPlot

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
    assert not plot.exists
    plot.update(rows)
    assert scene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 1


@pytest.fixture
def training(tmp_path, stub):
    """A training whose engine is the stub; it never comes to an epoch."""
    from E2ENetSegmentationLib.parameters import TrainParameters

    return trainingrun.Training.create("Hang", TrainParameters("/data", "-"))


def test_killed_training_is_offered(tab, training, stub):
    stub("hang")
    training.start()
    assert training.running
    assert trainingrun.unfinished() == []  # it is alive
    training._engine._process.kill()  # not ours to notice: the record still says running
    found = trainingrun.unfinished()
    assert [t.title for t in found] == ["Hang"]
    with pytest.raises(Refused, match="already there"):
        trainingrun.Training.create("Hang", training.parameters)
    found[0].discard()
    assert trainingrun.unfinished() == []


def test_pause_before_the_first_epoch(training, stub):
    stub("hang")
    training.start()
    training.pause()
    assert not training.running
    assert training.state == trainingrun.PAUSED


def test_stop_asks_and_deletes(tab, scene, stub):
    stub("hang")
    tab.add(made_case(scene))
    tab.ui.startButton.click()
    assert tab.panel.running
    tab.ui.stopButton.click()  # the answer is no
    assert tab.panel.running
    tab.host.answers = [True]
    tab.ui.stopButton.click()
    assert not tab.panel.running
    assert not list(paths.trainingsFolder().iterdir())
    assert tab.ui.startButton.enabled


def test_engine_that_fails(tab, scene, stub):
    stub("refuse")
    tab.add(made_case(scene))
    tab.ui.startButton.click()
    tab.wait()
    assert tab.ui.trainStatusLabel.text == "The image is odd. Take another."
    assert tab.ui.startButton.enabled


def test_broken_record_is_passed_over(tmp_path):
    folder = paths.trainingsFolder() / "broken"
    folder.mkdir(parents=True)
    (folder / "training.json").write_text("{")
    assert trainingrun.unfinished() == []
    with pytest.raises(Refused, match="cannot be read"):
        trainingrun.Training.load(folder)
