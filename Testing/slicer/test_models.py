"""Models: listed without torch, imported after a check, deleted only where they were imported."""

import json
import shutil
import subprocess
import sys
import zipfile

import pytest
from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.models.store import Model, ModelStore
from E2ENetSegmentationLib.refusal import Refused

pytestmark = pytest.mark.usefixtures("user_folder")


def names(store):
    return [model.name for model in store.models()]


def test_lists_what_there_is(models):
    store = ModelStore()
    tiny = next(model for model in store.models() if model.name == "tiny")
    assert tiny.channels == ["MRI"]
    assert [label.name for label in tiny.labels] == ["sphere", "cube"]
    assert tiny.summary()[:2] == ["Modality: MR", "Anatomy: Made shapes"]
    assert tiny.origin == "folder"
    assert not tiny.hasLocator
    assert tiny.fieldOfView() == (16, 16, 16)


def test_field_of_view_undoes_the_transposition(tmp_path):
    plan = {"patch": [10, 20, 30], "spacing": [3, 1, 1], "transpose": [2, 0, 1]}
    # D is canonical x (R), H is z (S), W is y (A)
    assert Model(tmp_path, {"plan": plan}, "folder").fieldOfView() == (30, 30, 20)
    assert Model(tmp_path, {"plan": {}}, "folder").fieldOfView() is None


def test_figures_on_one_line(tmp_path):
    metrics = {"online_dice": {"a": 0.5, "b": None}, "loss": 0.25, "held_out": False}
    model = Model(tmp_path, {"provenance": {"metrics": metrics}}, "folder")
    assert model.metrics() == "online dice a 0.500, loss 0.250"
    model = Model(tmp_path, {"provenance": {"metrics": {**metrics, "of": "2 cases"}}}, "folder")
    assert model.metrics() == "online dice a 0.500, loss 0.250 (2 cases)"
    of = {"provenance": {"metrics": {"loss": 0.5, "of": "patches of training cases"}}}
    assert Model(tmp_path, of, "folder").metrics() == "loss 0.500 (cases it was trained on)"
    assert Model(tmp_path, {}, "folder").metrics() == ""


def test_a_model_from_before_the_end_says_so(tmp_path):
    provenance = {"unfinished": {"epoch": 3, "epochs": 20}}
    model = Model(tmp_path, {"provenance": provenance}, "folder")
    assert model.summary() == ["Unfinished: Epoch 3 of 20; its training was not finished."]
    assert Model(tmp_path, {"provenance": {"unfinished": True}}, "folder").summary() == []


def test_listing_needs_no_torch(models):
    code = (
        f"import sys; sys.path.insert(0, {str(paths.LIB.parent)!r})\n"
        "from E2ENetSegmentationLib.models.store import ModelStore\n"
        "assert ModelStore().models()\n"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('torch', 'monai', 'SimpleITK')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_export_delete(models, tmp_path):
    store = ModelStore()
    archive = store.exportModel(store.open("tiny"), tmp_path / "tiny-model")
    assert archive.name == "tiny-model.zip"
    (imported,) = store.importModels(archive)
    assert imported.path == paths.modelsFolder() / "tiny"
    assert imported.origin == "imported"
    with pytest.raises(Refused, match="already installed"):
        store.importModels(archive)
    store.importModels(archive, overwrite=True)
    store.delete(imported)
    assert not imported.path.exists()
    assert sorted(paths.modelsFolder().iterdir()) == []
    store.importModels(models)
    assert (paths.modelsFolder() / "tiny" / "weights.safetensors").is_file()


def test_only_imported_models_are_deleted(models):
    store = ModelStore()
    with pytest.raises(Refused, match="left alone"):
        store.delete(store.open("tiny"))
    assert models.is_dir()


def test_a_folder_of_the_users(models, tmp_path):
    shutil.copytree(models, tmp_path / "mine" / "other")
    assert "other" in names(ModelStore(str(tmp_path / "mine")))
    assert "other" in names(ModelStore(str(tmp_path / "mine" / "other")))
    assert ModelStore(str(tmp_path / "mine")).open("other").origin == "folder"


def test_broken_models_are_left_out_with_a_sentence(models, tmp_path):
    broken = tmp_path / "mine" / "broken"
    broken.mkdir(parents=True)
    (broken / "model.json").write_text("{not json")
    store = ModelStore(str(tmp_path / "mine"))
    assert "broken" not in names(store)
    assert "broken" in store.problems[0]
    assert "not readable JSON" in store.problems[0]
    with pytest.raises(Refused, match="not readable JSON"):
        store.importModels(broken)
    assert not list(paths.modelsFolder().glob("*"))


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"model.json": "{}", "../../evil.txt": "x"}, "leads outside"),
        ({"a/model.json": "{}", "/etc/evil": "x"}, "leads outside"),
        ({"readme.txt": "x"}, "no model.json"),
        ({"model.json": '{"name": "x"}', "w": "y"}, "lists no files"),
        (
            {"model.json": json.dumps({"name": "x", "files": {"w": {"sha256": "0"}}}), "w": "y"},
            "changed or damaged",
        ),
    ],
)
def test_bad_zips_write_nothing(tmp_path, files, sentence):
    archive = zipped(tmp_path / "bad.zip", files)
    with pytest.raises(Refused, match=sentence):
        ModelStore().importModels(archive)
    assert not list(paths.dataFolder().rglob("*.*"))
    assert not (tmp_path.parent / "evil.txt").exists()


def test_no_zip_at_all(tmp_path):
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(Refused, match="not a readable zip"):
        ModelStore().importModels(tmp_path / "text.zip")
    with pytest.raises(Refused, match="does not exist"):
        ModelStore().importModels(tmp_path / "gone.zip")


def test_changed_folder_is_refused(models, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(models, copy)
    with (copy / "weights.safetensors").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(Refused, match="changed or damaged"):
        ModelStore().importModels(copy)
