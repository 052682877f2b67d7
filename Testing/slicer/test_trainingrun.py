"""What Fine-tune keeps in a folder: a dataset of the scene, a training and its record."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import slicer
from E2ENetSegmentationLib.core import Core
from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.engine.alive import startOf
from E2ENetSegmentationLib.refusal import Refused
from E2ENetSegmentationLib.training.data import (
    labelValues,
    proposedLabel,
    writeDataset,
)
from E2ENetSegmentationLib.training.parameters import TrainParameters
from E2ENetSegmentationLib.training.run import PAUSED, Training, unfinished
from harness.made import add_case, phantom

pytestmark = pytest.mark.usefixtures("user_folder")


def test_dataset_of_the_scene(scene, models, tmp_path):
    cases = [add_case(scene, kind, kind) for kind in ("left-handed", "oblique")]
    cases[1].heldOut = True
    mapping = {"sphere": "sphere", "cube": "lump"}
    base = Core().store.open("tiny")
    values = writeDataset(tmp_path / "set", cases, mapping, ["MRI"], base)
    assert values == {"sphere": 1, "lump": 2}
    import SimpleITK as sitk

    label = sitk.ReadImage(str(tmp_path / "set" / "labelsTr" / "case_000.nrrd"))
    image = sitk.ReadImage(str(tmp_path / "set" / "imagesTr" / "case_000_0000.nrrd"))
    assert (sitk.GetArrayFromImage(label) == phantom()[1]).all()
    assert np.allclose(label.GetDirection(), image.GetDirection())
    from e2enet.data.datasets.raw import read_dataset
    from e2enet.data.datasets.splits import split

    written = read_dataset(tmp_path / "set")
    assert written.case_names == ("case_000", "case_001")
    assert split(written, "0") == (("case_000",), ("case_001",))
    metadata = json.loads((tmp_path / "set" / "metadata.json").read_text(encoding="utf-8"))
    lump = next(entry for entry in metadata["labels"] if entry["name"] == "lump")
    assert lump["color"] == [128, 174, 128]
    assert lump["terminology"]["type"] == {"scheme": "SCT", "code": "85756007", "meaning": "Tissue"}
    assert metadata["modality"] == "MR"


def test_labels_of_the_base_are_kept_whole(models):
    base = Core().store.open("tiny").labels
    assert labelValues({"a": "cube"}, base) == {"sphere": 1, "cube": 2}
    assert labelValues({"a": "cube", "b": "new"}, base) == {"cube": 1, "new": 2}
    assert proposedLabel("SPHERE", base) == "sphere"
    assert proposedLabel("Left sphere", base) == "Left sphere"


def test_a_result_that_was_corrected_teaches_the_labels_of_its_model():
    """In a whole head a structure has its side before its name."""
    base = Core().store.open("hippocampus-mr")
    assert base.sides == ["Left", "Right"]
    taught = [
        proposedLabel(name, base.labels, base.sides)
        for name in ("Left Anterior", "Right posterior", "Anterior", "Left amygdala")
    ]
    assert taught == ["Anterior", "Posterior", "Anterior", "Left amygdala"]


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
    cases, mapping = [add_case(scene)], {"sphere": "sphere", "cube": "cube"}
    change(cases, mapping)
    with pytest.raises(Refused, match=sentence):
        writeDataset(tmp_path / "set", cases, mapping, ["MRI"])
    assert not (tmp_path / "set").exists()


@pytest.fixture
def training(models, tiny_dataset):
    """A training that takes its time; nothing is started yet."""
    wanted = TrainParameters(str(tiny_dataset), "-", start="tiny", epochs=1000, device="cpu")
    training = Training.create("Slow", wanted)
    yield training
    training.cancel()


def test_killed_training_is_offered(training):
    training.start()
    assert training.running
    assert unfinished() == []  # it is alive
    training._engine._process.kill()  # not ours to notice: the record still says running
    found = unfinished()
    assert [t.title for t in found] == ["Slow"]
    with pytest.raises(Refused, match="already there"):
        Training.create("Slow", training.parameters)
    found[0].discard()
    assert unfinished() == []


def test_the_base_is_named_until_there_is_a_checkpoint(training, tmp_path):
    """By its name where it is no longer in its place; afterwards nobody asks for it."""
    lost = str(tmp_path / "moved" / "tiny")
    training.parameters = replace(training.parameters, start=lost, resume=True)
    arguments = training._toArguments()
    assert arguments[arguments.index("--from") + 1] == "tiny"
    training.runFolder.mkdir(parents=True)
    (training.runFolder / "checkpoint.safetensors").touch()
    arguments = training._toArguments()
    assert "--from" not in arguments
    assert "--network" not in arguments


def test_pause_before_there_is_anything_to_keep(training):
    training.start()
    training.pause()
    assert not training.running
    assert training.state == PAUSED


def test_broken_record_is_passed_over(tmp_path):
    folder = paths.trainingsFolder() / "broken"
    folder.mkdir(parents=True)
    (folder / "training.json").write_text("{")
    assert unfinished() == []
    with pytest.raises(Refused, match="cannot be read"):
        Training.load(folder)


def test_number_of_another_process_hides_no_training(scene, models, tmp_path):
    """After a restart the number of the engine that was cut off may be anybody's."""
    training = Training.create("Cut off", TrainParameters(dataset="-", output="-"))
    training.folder.mkdir(parents=True)
    record = {"title": "Cut off", "state": "running", "titles": {}, "rows": []}
    record["parameters"] = {"dataset": "-", "output": "-"}
    path = training.folder / "training.json"
    mine = {"pid": os.getpid(), "started": startOf(os.getpid())}
    path.write_text(json.dumps({**record, **mine}), encoding="utf-8")
    assert unfinished() == []  # it runs
    path.write_text(json.dumps({**record, **mine, "started": "before"}), encoding="utf-8")
    assert [found.title for found in unfinished()] == ["Cut off"]
