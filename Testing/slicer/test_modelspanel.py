"""The Models tab in the thin harness."""

import json
import shutil
from pathlib import Path

import pytest
from E2ENetSegmentationLib.core import Core
from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.models.card import pictureStyle
from E2ENetSegmentationLib.models.panel import ModelsPanel
from harness.host import FakeHost
from harness.tabs import RESOURCES
from harness.widgets import Ui


class Tab:
    def __init__(self):
        self.ui, self.host, self.told = Ui(RESOURCES / "UI" / "ModelsTab.ui"), FakeHost(), []
        self.panel = ModelsPanel(self.ui, Core(), self.host, self.told.append)

    def get(self, button, *answers):
        """Click one of the buttons that install from this computer, and answer what is asked."""
        self.host.answers = list(answers)
        button.click()
        self.host.pump(lambda: not self.panel.running)

    def choose(self, name):
        names = [model.name for model in self.panel.models]
        self.ui.modelsTable.selectRow(names.index(name))


@pytest.fixture
def tab(models, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    return Tab()


def test_details_and_readme(tab):
    assert not tab.ui.exportButton.enabled
    tab.choose("tiny")
    assert "Segments: sphere, cube" in tab.ui.modelDetailsLabel.text
    assert not tab.ui.deleteButton.enabled  # it was not imported
    assert not tab.ui.readmeBrowser.visible
    tab.ui.readmeButton.click()
    assert "Random weights" in tab.ui.readmeBrowser.plainText
    assert tab.ui.readmeBrowser.visible
    assert not tab.ui.pictureLabel.visible  # it has none


def test_the_picture_stands_above_and_only_there(tab):
    tab.choose("hippocampus-mr")
    label = tab.ui.pictureLabel
    assert label.visible
    path = label.styleSheet.split('"')[1]
    assert Path(path).name == "picture.png"
    assert Path(path).is_file()
    tab.ui.readmeButton.click()
    assert "picture.png" not in tab.ui.readmeBrowser.plainText
    assert "## Results" in tab.ui.readmeBrowser.plainText
    assert "patches of" not in tab.ui.readmeBrowser.plainText + tab.ui.modelDetailsLabel.text
    assert "cases it was trained on" in tab.ui.readmeBrowser.plainText
    tab.choose("tiny")
    assert label.styleSheet == ""
    assert not tab.ui.readmeBrowser.visible
    assert pictureStyle(Path('/a "b"/c.png')).startswith('image: url("/a \\"b\\"/c.png")')


def test_licence_size_and_figures_are_on_the_card(tab):
    tab.choose("hippocampus-mr")
    text = tab.ui.modelDetailsLabel.text
    for part in ("Licence: CC BY-SA 4.0", "Size: 2.1 MB", "Dice on 30 cases", "Trained on Task04"):
        assert part in text


def test_export_import_delete(tab, tmp_path):
    tab.choose("tiny")
    tab.host.answers = [str(tmp_path / "out.zip")]
    tab.ui.exportButton.click()
    assert (tmp_path / "out.zip").is_file()
    tab.get(tab.ui.importZipButton, str(tmp_path / "out.zip"))
    assert tab.ui.modelsStatusLabel.text == "Installed: Tiny model with random weights."
    assert tab.told == ["tiny"]
    assert (paths.modelsFolder() / "tiny").is_dir()
    tab.get(tab.ui.importZipButton, str(tmp_path / "out.zip"), False)  # replace it? no
    assert "already installed" in tab.ui.modelsStatusLabel.text
    tab.get(tab.ui.importFolderButton, str(paths.modelsFolder() / "tiny"), True)
    assert tab.ui.modelsStatusLabel.text == "Installed: Tiny model with random weights."


def test_nothing_chosen_in_a_dialog(tab):
    tab.ui.importZipButton.click()
    tab.ui.importFolderButton.click()
    assert tab.told == []


def test_bad_zip_is_one_sentence(tab, tmp_path):
    (tmp_path / "bad.zip").write_text("x")
    tab.get(tab.ui.importZipButton, str(tmp_path / "bad.zip"))
    assert "is not a readable zip" in tab.ui.modelsStatusLabel.text
    assert tab.ui.importZipButton.enabled


def test_folder_of_the_users(tab, tmp_path):
    tab.ui.modelFolderEdit.currentPath = str(tmp_path / "nowhere")
    assert tab.ui.modelsStatusLabel.text.startswith("There is no folder")
    broken = tmp_path / "mine" / "broken"
    broken.mkdir(parents=True)
    (broken / "model.json").write_text("{")
    tab.ui.modelFolderEdit.currentPath = str(tmp_path / "mine")
    assert "broken" in tab.ui.modelsStatusLabel.text
    assert tab.host.settings["modelFolder"] == str(tmp_path / "mine")


def test_a_pack_of_several(tab, models, tmp_path):
    other = tmp_path / "packed" / "other"
    shutil.copytree(models, other)
    content = json.loads((other / "model.json").read_text(encoding="utf-8"))
    content.update(name="other", title="Another model")
    (other / "model.json").write_text(json.dumps(content), encoding="utf-8")
    paths.engineModule("bundle.archive").pack([models, other], tmp_path / "all.zip")
    tab.get(tab.ui.importZipButton, str(tmp_path / "all.zip"))
    assert tab.ui.modelsStatusLabel.text == (
        "Installed: Another model, Tiny model with random weights."
    )
    assert tab.told == ["other"]
    assert tab.panel.model.name == "other"
    assert {"tiny", "other"} <= {model.name for model in tab.panel.models}
