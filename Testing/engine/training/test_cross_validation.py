"""Five folds of a tiny dataset: runs, held-out predictions, going on, the ensemble, bad input."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.bundle import Bundle
from e2enet.bundle.results import recorded
from e2enet.data.datasets.raw import read_dataset
from e2enet.data.datasets.splits import all_splits
from e2enet.evaluation.evaluate import evaluate
from e2enet.evaluation.record import record_cross_validation
from e2enet.events import BadInput
from e2enet.inference import segment
from e2enet.training import cross_validation
from e2enet.training.cross_validation import cross_validate

SMALL = {
    "epochs": 1, "iterations_per_epoch": 2, "base_channels": 4, "levels": 2,
    "patch": (16, 16, 16), "batch_size": 2, "device": "cpu", "workers": 0,
}  # fmt: skip


def few(tiny_dataset, folder, names):
    """A dataset of these cases alone."""
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    for name in names:
        shutil.copy(tiny_dataset / "imagesTr" / f"{name}_0000.nii.gz", folder / "imagesTr")
        shutil.copy(tiny_dataset / "labelsTr" / f"{name}.nii.gz", folder / "labelsTr")
    shutil.copy(tiny_dataset / "dataset.json", folder)
    return folder


@pytest.fixture(scope="module")
def dataset(tiny_dataset, tmp_path_factory):
    """Three cases and two folds of its own, which is quicker than five."""
    names = ["tiny_000", "tiny_001", "tiny_002"]
    folder = few(tiny_dataset, tmp_path_factory.mktemp("cv") / "Dataset902_Few", names)
    splits = [{"train": names[:1], "val": names[1:]}, {"train": names[1:], "val": names[:1]}]
    (folder / "splits_final.json").write_text(json.dumps(splits), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def done(dataset, tmp_path_factory):
    """A cross-validation that was interrupted after its first fold, and went on."""
    folder = tmp_path_factory.mktemp("cv") / "out"
    patch = pytest.MonkeyPatch()

    def fail(*arguments, **options):
        raise KeyboardInterrupt

    patch.setattr(cross_validation, "_predict", fail)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(dataset, folder, **SMALL)
    patch.undo()
    first = (folder / "fold_0" / "weights.safetensors").stat().st_mtime_ns
    assert not (folder / "fold_1").exists()
    found = cross_validate(dataset, folder, **SMALL)
    assert (folder / "fold_0" / "weights.safetensors").stat().st_mtime_ns == first
    return found


def test_every_case_is_held_out_once_and_predicted_by_its_own_fold(done, dataset):
    assert done.state == "finished"
    info = read_dataset(dataset)
    predicted = sorted(path.name for path in (done.folder / "held_out").glob("*.nii.gz"))
    assert predicted == [f"{name}.nii.gz" for name in info.case_names]
    training, held_out = all_splits(info)[1]
    model = Bundle.open(done.folder / "fold_1").model
    case = next(case for case in info.cases if case.name == held_out[0])
    own = segment(case.images[0], done.folder / "fold_1")
    kept = sitk.GetArrayFromImage(
        sitk.ReadImage(
            str(done.folder / "held_out" / predicted[info.case_names.index(held_out[0])])
        )
    )
    np.testing.assert_array_equal(kept, own.label)
    assert model["provenance"]["epochs"] == 1
    assert held_out[0] not in training


def test_the_summary_is_that_of_the_predictions(done, dataset):
    summary = json.loads((done.folder / "cross_validation.json").read_text(encoding="utf-8"))
    again = evaluate(done.folder / "held_out", dataset / "labelsTr")
    assert summary["mean_dice"] == pytest.approx(again.mean())
    assert summary["dice"] == pytest.approx(
        {name: again.of_structure(name) for name in ("sphere", "cube")}
    )
    assert [len(fold["held_out"]) for fold in summary["folds"]] == [2, 1]
    assert (done.folder / "report" / "report.html").is_file()


def test_the_folds_segment_together(done, tiny_dataset, tmp_path):
    image = tiny_dataset / "imagesTs" / "tiny_006_0000.nii.gz"
    result = segment(image, done.folder, output=tmp_path / "out.nii.gz", save_probabilities=True)
    assert len(result.manifest["options"]["ensemble"]) == 2
    members = [
        segment(image, done.folder / f"fold_{k}", save_probabilities=True).probabilities
        for k in range(2)
    ]
    mean = np.mean([np.asarray(one, np.float32) for one in members], axis=0)
    np.testing.assert_allclose(np.asarray(result.probabilities, np.float32), mean, atol=2e-3)


def test_the_card_of_a_model_like_the_folds_says_what_they_reached(done, tmp_path):
    shutil.copytree(done.folder / "fold_0", tmp_path / "model")
    bundle = record_cross_validation(
        Bundle.open(tmp_path / "model"), done.evaluation, list(done.folds)
    )
    (entry,) = recorded(bundle)
    assert entry["cases"] == ["tiny_000", "tiny_001", "tiny_002"]
    assert (entry["folds"], entry["fold_iterations"]) == (2, 2)
    assert entry["mean"]["Dice"] == pytest.approx(done.evaluation.mean(), abs=1e-6)
    readme = (bundle.path / "README.md").read_text(encoding="utf-8")
    assert (
        "3 cases of Dataset902_Few/labelsTr in 2 folds, each segmented by a network like this one "
        "that had not seen it (trained for 2 iterations), without mirroring"
    ) in readme


def test_folds_of_another_network_or_dataset_say_nothing_of_a_model(done, tiny_bundle, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    with pytest.raises(BadInput, match="is another network than tiny"):
        record_cross_validation(Bundle.open(tmp_path / "tiny"), done.evaluation, list(done.folds))
    shutil.copytree(done.folder / "fold_0", tmp_path / "elsewhere")
    path = tmp_path / "elsewhere" / "model.json"
    path.write_text(path.read_text(encoding="utf-8").replace("Dataset902_Few", "Dataset1_Other"))
    with pytest.raises(BadInput, match="was trained on Dataset902_Few, fold_0 on Dataset1"):
        record_cross_validation(
            Bundle.open(tmp_path / "elsewhere"), done.evaluation, list(done.folds)
        )


def test_another_dataset_or_a_folder_of_something_else(done, tiny_dataset, tmp_path):
    with pytest.raises(BadInput, match="is no cross-validation of"):
        cross_validate(tiny_dataset, done.folder, **SMALL)
    with pytest.raises(BadInput, match="is no cross-validation of"):
        cross_validate(tiny_dataset, tmp_path, **SMALL)


def test_folds_that_were_trained_on_are_predicted_and_evaluated_anew(done, dataset, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(done.folder, folder)
    kept = (folder / "held_out" / "tiny_000.manifest.json").read_text(encoding="utf-8")
    cross_validate(dataset, folder, **SMALL)
    assert (folder / "held_out" / "tiny_000.manifest.json").read_text(encoding="utf-8") == kept
    longer = cross_validate(dataset, folder, **{**SMALL, "epochs": 2})
    for number, names in enumerate((("tiny_001", "tiny_002"), ("tiny_000",))):
        weights = Bundle.open(folder / f"fold_{number}").weights_sha256()
        for name in names:
            manifest = json.loads(
                (folder / "held_out" / f"{name}.manifest.json").read_text("utf-8")
            )
            assert manifest["model"]["weights_sha256"] == weights
    again = evaluate(folder / "held_out", dataset / "labelsTr")
    assert longer.evaluation.mean() == pytest.approx(again.mean(), nan_ok=True)
    report = json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8"))
    told = {case: one["sphere"]["prediction_ml"] for case, one in report["cases"].items()}
    assert told == {case: one["sphere"].predicted_ml for case, one in again.cases.items()}


def test_the_report_follows_a_reference_that_was_corrected(done, dataset, tmp_path):
    own, folder = tmp_path / dataset.name, tmp_path / "out"
    shutil.copytree(dataset, own)
    cross_validate(own, folder, **SMALL)
    before = json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8"))
    path = str(own / "labelsTr" / "tiny_000.nii.gz")
    label = sitk.ReadImage(path)
    sitk.WriteImage(sitk.Cast(label > 1, sitk.sitkUInt8) * 2, path)
    found = cross_validate(own, folder, **SMALL).evaluation
    after = json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert before["cases"]["tiny_000"]["sphere"]["reference_ml"] > 0
    assert after["cases"]["tiny_000"]["sphere"]["reference_ml"] == 0
    assert found.cases["tiny_000"]["sphere"].reference_ml == 0


def test_other_settings_are_refused(done, dataset):
    with pytest.raises(BadInput, match="started with"):
        cross_validate(dataset, done.folder, **{**SMALL, "seed": 3})


def test_two_cases_are_too_few(tiny_dataset, tmp_path):
    two = few(tiny_dataset, tmp_path / "two", ["tiny_000", "tiny_001"])
    with pytest.raises(BadInput, match="has 2 cases; 5 folds need at least 5"):
        cross_validate(two, tmp_path / "out", **SMALL)
    assert not (tmp_path / "out").exists()


def test_a_case_held_out_twice(tiny_dataset, tmp_path):
    names = ["tiny_000", "tiny_001"]
    two = few(tiny_dataset, tmp_path / "two", names)
    fold = {"train": names[:1], "val": names[1:]}
    (two / "splits_final.json").write_text(json.dumps([fold, fold]), encoding="utf-8")
    with pytest.raises(BadInput, match="holds tiny_001 out twice"):
        cross_validate(two, tmp_path / "out", **SMALL)
