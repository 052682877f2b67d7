"""Models from the internet: a real server on this computer, and the program beside Slicer."""

import hashlib
import json
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from E2ENetSegmentationLib.core import Core
from E2ENetSegmentationLib.engine import paths
from E2ENetSegmentationLib.models.fetching import Fetch
from E2ENetSegmentationLib.models.panel import ModelsPanel
from E2ENetSegmentationLib.refusal import Refused
from harness.host import FakeHost
from harness.server import serving
from harness.tabs import RESOURCES
from harness.widgets import Ui


@pytest.fixture
def server(models, user_folder, tmp_path, monkeypatch):
    """It serves an index of two models with a sample, /tiny.zip, and the models' folders."""
    monkeypatch.setenv("E2ENET_CACHE", str(tmp_path / "cache"))
    www = tmp_path / "www"
    shutil.copytree(models, www / "tiny")
    shutil.copytree(paths.extensionResources() / "Models" / "abdomen-mr", www / "other")
    renamed(www / "other", "other", "Another model")
    (www / "head.nii.gz").write_bytes(b"head")
    paths.engineModule("bundle.index").write_index(www, {"other": www / "head.nii.gz"})
    paths.engineModule("bundle.archive").pack(models, www / "tiny.zip")
    with serving(www) as server:
        yield server


def renamed(folder, name, title):
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    content.update(name=name, title=title)
    (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")


class Tab:
    def __init__(self, index=""):
        self.ui, self.host, self.told = Ui(RESOURCES / "UI" / "ModelsTab.ui"), FakeHost(), []
        self.host.settings["modelIndex"] = index
        self.panel = ModelsPanel(self.ui, Core(), self.host, self.told.append)

    @property
    def said(self):
        return self.ui.modelsStatusLabel.text

    @property
    def where(self):
        return {m.name: row[3] for m, row in zip(self.panel.models, self.rows, strict=True)}

    @property
    def rows(self):
        return self.ui.modelsTable._rows

    def choose(self, name):
        names = [model.name for model in self.panel.models]
        self.ui.modelsTable.selectRow(names.index(name))

    def click(self, button):
        button.click()
        self.host.pump(lambda: not self.panel.running)
        return self.said

    def install(self, address, digest=""):
        self.ui.addressEdit.text, self.ui.hashEdit.text = address, digest
        return self.click(self.ui.installModelButton)


def test_the_program_needs_no_package_of_the_engine(server):
    """Nothing but the engine's own folder is on its path."""
    from E2ENetSegmentationLib.engine.python import interpreter

    python = interpreter.current()
    environment = python.environment([paths.engineFolder()])
    assert environment["PYTHONPATH"] == os.fspath(paths.engineFolder())
    run = Fetch("catalogue", index=server.at("index.json"), folder=str(server.folder / "pictures"))
    finish(run)
    assert [entry["name"] for entry in run.result["entries"]] == ["other", "tiny"]
    (picture,) = (server.folder / "pictures").iterdir()
    assert hashlib.sha256(picture.read_bytes()).hexdigest() == picture.stem
    assert run.result["entries"][0]["picture"] == str(picture)
    assert run.result["entries"][1]["picture"] == ""


def finish(run):
    run.start()
    end = time.monotonic() + 60
    while run.poll():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_nothing_is_asked_of_the_internet_before_a_click(server):
    tab = Tab(server.at("index.json"))
    tab.panel.refresh()
    assert server.asked == []
    assert "other" not in tab.where


def test_look_install_and_try(server):
    tab = Tab(server.at("index.json"))
    assert tab.click(tab.ui.onlineButton) == "Can be installed: Another model."
    assert tab.where["other"] == "online"
    assert tab.where["tiny"] == "your folder"  # the same version is here
    tab.choose("other")
    assert tab.rows[-1][:3] == ["Another model", "MR", "3.6 MB"]
    assert not tab.ui.exportButton.enabled
    assert not tab.ui.deleteButton.enabled
    assert not tab.ui.readmeButton.enabled
    text = tab.ui.modelDetailsLabel.text
    for part in ("Licence: CC BY-SA 4.0", "Dice on 3 cases", "liver", "Trained on T2-SPIR"):
        assert part in text
    assert tab.ui.pictureLabel.visible
    tab.click(tab.ui.sampleButton)
    assert tab.said == "The sample is loaded; segment it in the tab Segment."
    ((kind, path),) = tab.host.opened
    assert kind == "volume"
    assert path.endswith("head.nii.gz")
    assert Path(path).read_bytes() == b"head"
    assert tab.click(tab.ui.installOfferButton) == "Installed: Another model."
    assert tab.told == ["other"]
    assert tab.where["other"] == "installed"
    assert tab.panel.model.name == "other"
    assert tab.ui.deleteButton.enabled
    assert not tab.ui.installOfferButton.enabled
    assert tab.click(tab.ui.onlineButton) == "Everything that is offered is here already."
    tab.host.answers = [True]
    tab.ui.deleteButton.click()
    assert tab.where["other"] == "online"  # it can be had again


def test_another_version_takes_the_place_when_a_person_says_so(server, tmp_path):
    tab = Tab(server.at("index.json"))
    tab.click(tab.ui.onlineButton)
    tab.choose("other")
    tab.click(tab.ui.installOfferButton)
    installed = paths.modelsFolder() / "other"
    before = (installed / "model.json").read_bytes()
    shutil.rmtree(server.folder / "other")
    shutil.copytree(server.folder / "tiny", server.folder / "other")
    renamed(server.folder / "other", "other", "Another model, again")
    (server.folder / "tiny.zip").unlink()  # a list has each model once
    paths.engineModule("bundle.index").write_index(server.folder)
    tab.ui.indexEdit.text = server.at("index.json")
    tab.click(tab.ui.onlineButton)
    offered = [row for row in tab.rows if row[3] == "online, another version"]
    assert [row[0] for row in offered] == ["Another model, again"]
    tab.ui.modelsTable.selectRow(tab.rows.index(offered[0]))
    assert "already installed" in tab.click(tab.ui.installOfferButton)  # No to the question
    assert (installed / "model.json").read_bytes() == before
    tab.ui.modelsTable.selectRow(tab.rows.index(offered[0]))
    tab.host.answers = [True]
    assert tab.click(tab.ui.installOfferButton) == "Installed: Another model, again."
    assert (installed / "model.json").read_bytes() != before
    assert len(tab.host.asked) == 2


def test_offline_is_one_sentence(server):
    index = server.at("index.json")
    server.shutdown()
    server.server_close()
    tab = Tab(index)
    said = tab.click(tab.ui.onlineButton)
    assert "cannot be reached" in said
    assert said.endswith("Check the connection and the proxy, or install from a file.")
    assert "127.0.0.1" not in said
    assert tab.ui.onlineButton.enabled
    assert "tiny" in tab.where


def test_an_address_with_its_hash(server):
    tab = Tab()
    assert not tab.ui.installModelButton.enabled
    address, digest = server.at("tiny.zip").split("#sha256=")
    server.cuts = [1000, 0]
    assert "broke" in tab.install(address, digest)
    assert tab.install(address, digest) == "Installed: Tiny model with random weights."
    assert server.asked[-1] == ("/tiny.zip", "bytes=1000-")
    assert tab.host.asked == []
    assert (paths.modelsFolder() / "tiny").is_dir()
    assert "is not the file that was meant" in tab.install(address, "0" * 64)
    assert "has 64 digits" in tab.install(address, "12")
    assert "is no address" in tab.install("file:///etc/passwd", digest)
    assert "not encrypted" in tab.install(address) or tab.host.asked
    tab.host.answers = [False]
    count = len(server.asked)
    tab.install("https://host/model.zip")
    assert "Without a SHA-256" in tab.host.asked[-1]
    assert len(server.asked) == count


def test_cancel_keeps_what_came(server):
    size = (server.folder / "tiny.zip").stat().st_size
    server.cuts, server.hold = [size - 500], threading.Event()
    tab = Tab()
    tab.ui.addressEdit.text = server.at("tiny.zip")
    tab.ui.installModelButton.click()
    parts = paths.modelsFolder()
    tab.host.pump(lambda: any(p.stat().st_size > size // 2 for p in parts.rglob("*.part")))
    assert tab.ui.cancelInstallButton.visible
    tab.ui.cancelInstallButton.click()
    assert tab.said == "Cancelled; another click goes on from here."
    assert not tab.ui.cancelInstallButton.visible
    server.hold.set()
    server.hold = None
    assert tab.install(server.at("tiny.zip")).startswith("Installed")
    assert str(server.asked[-1][1]).startswith("bytes=")


def test_the_index_is_a_setting(server, tmp_path):
    tab = Tab()
    assert tab.ui.indexEdit.text.startswith("https://")
    tab.ui.indexEdit.text = str(server.folder)  # a network drive
    assert tab.host.settings["modelIndex"] == str(server.folder)
    tab.click(tab.ui.onlineButton)
    tab.choose("other")
    assert tab.click(tab.ui.installOfferButton) == "Installed: Another model."
    assert server.asked == []
    tab.ui.indexEdit.text = tab.panel._defaultIndex
    assert tab.host.settings["modelIndex"] == ""


def test_a_page_that_is_no_index(server):
    (server.folder / "index.json").write_text("<html>Log in</html>", encoding="utf-8")
    tab = Tab(server.at("index.json"))
    said = tab.click(tab.ui.onlineButton)
    assert "is no index of models" in said
    assert "e2enet" not in said


def test_the_sample_of_a_shipped_model(server):
    tab = Tab()
    tab.choose("tiny")
    assert not tab.ui.sampleButton.enabled
    tab.choose("hippocampus-mr")
    tab.ui.sampleButton.click()
    assert tab.host.opened == [("SampleData", "MNI152Head")]


def test_results_are_those_that_were_measured(models):
    model = Core().store.open("tiny")
    entry = {
        "references": "Task/labelsTs",
        "cases": ["a", "b"],
        "tta": True,
        "mean_by_label": {"sphere": {"Dice": 0.9123}, "cube": {"Dice": None}},
    }
    folds = {**entry, "references": "Task/labelsTr", "tta": False, "folds": 5}
    content = {**model.content, "results": [entry, folds, "typed by hand", {"cases": 3}]}
    assert replace(model, content=content).results() == [
        "Dice on 2 cases of Task/labelsTs, with mirroring: sphere 0.912",
        "Dice on 2 cases of Task/labelsTr, in 5 folds: sphere 0.912",
    ]
    assert replace(model, content={**content, "results": "very good"}).results() == []


def test_a_killed_program_is_a_sentence(server, monkeypatch):
    run = Fetch("no such work")
    with pytest.raises(Refused, match="stopped unexpectedly"):
        finish(run)
