"""Segmenting on a real server from the panel: asked first, followed, cancelled, nothing left."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from harness.made import add_volume
from harness.tabs import RESOURCES
from harness.widgets import Ui


@pytest.fixture
def started(tmp_path, tiny_bundle):
    """(process, address, token, folder) of a server that has the model tiny."""
    folder = tmp_path / "server"
    words = [sys.executable, "-m", "e2enet", "serve"]
    where = ["--folder", str(folder)]
    made = subprocess.run([*words, "token", "ward-3", *where], capture_output=True, check=True)
    process = subprocess.Popen(
        [*words, *where, "--port", "0", "--device", "cpu"],
        env={**os.environ, "E2ENET_MODELS": str(tiny_bundle.parent)},
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    yield process, process.stdout.readline().split()[-1], made.stdout.decode().strip(), folder
    process.terminate()
    assert process.wait(30) in (0, -signal.SIGKILL)
    process.stdout.close()


@pytest.fixture
def served(started):
    """(address, token, folder)."""
    return started[1:]


def name(tab, address, token):
    """As a person does on the page Engine."""
    from E2ENetSegmentationLib.advanced.panel import EnginePanel

    advanced = Ui(RESOURCES / "UI" / "AdvancedTab.ui")
    engine = EnginePanel(advanced, tab.panel.core, tab.host, tab.panel.dependencies)
    advanced.serverEdit.text, advanced.tokenEdit.text = address, token
    engine.cleanup()
    tab.panel.update()


def jobs(folder):
    return list((folder / "jobs").glob("*"))


def test_a_server_is_asked_after_a_yes(tab, scene, served, answers, left_behind):
    ui, (address, token, folder) = tab.ui, served
    assert not ui.serverCheckBox.visible
    tab.choose(add_volume(scene))
    tab.segment()  # on this computer
    here = sitk.GetArrayFromImage(answers[0])
    name(tab, address, token)
    assert ui.serverCheckBox.visible
    assert not ui.serverLabel.visible
    ui.serverCheckBox.click()
    assert "127.0.0.1: the voxels and the geometry" in ui.serverLabel.text
    assert ui.serverCheckBox.toolTip == "127.0.0.1 computes."
    assert ui.serverLabel.visible
    assert not ui.deviceComboBox.enabled
    ui.segmentButton.click()  # asked: no
    assert ui.statusLabel.text == "Nothing was sent."
    assert jobs(folder) == []
    tab.host.answers = [True]
    ui.segmentButton.click()
    command = tab.panel._run._engine._process.command
    assert token not in " ".join(command)
    tab.wait()
    assert ui.statusLabel.text.startswith("Done"), ui.statusLabel.text
    np.testing.assert_array_equal(sitk.GetArrayFromImage(answers[1]), here)
    assert jobs(folder) == []
    assert left_behind() == []


def test_cancel_ends_the_job_there(tab, scene, served, left_behind):
    ui, (address, token, folder) = tab.ui, served
    tab.choose(add_volume(scene))
    name(tab, address, token)
    tab.host.answers = [True]
    ui.serverCheckBox.click()
    ui.segmentButton.click()
    sent = folder / "jobs"
    tab.host.pump(lambda: bool(list(sent.glob("*/case_*"))) or not tab.panel.running)
    ui.cancelButton.click()
    assert ui.statusLabel.text == "Cancelled."
    assert left_behind() == []
    tab.host.pump(lambda: not jobs(folder), seconds=30)
    assert jobs(folder) == []


def test_a_server_that_is_killed(tab, scene, started, left_behind):
    """It is waited for, it may be started again; Cancel leaves the scene as it was."""
    ui, (process, address, token, folder) = tab.ui, started
    tab.choose(add_volume(scene))
    nodes = scene.GetNumberOfNodes()
    name(tab, address, token)
    tab.host.answers = [True]
    ui.serverCheckBox.click()
    ui.segmentButton.click()
    engine = tab.panel._run._engine._process
    sent = folder / "jobs"
    tab.host.pump(lambda: bool(list(sent.glob("*/case_*"))) or not tab.panel.running)
    process.kill()
    tab.host.pump(lambda: "does not answer" in ui.logText.plainText, seconds=60)
    assert tab.panel.running
    ui.cancelButton.click()
    assert ui.statusLabel.text == "Cancelled."
    assert not engine.running
    assert tab.usable
    assert scene.GetNumberOfNodes() == nodes
    assert left_behind() == []


def test_what_the_server_refuses_is_a_sentence(tab, scene, served, left_behind):
    address, _token, folder = served
    tab.choose(add_volume(scene))
    name(tab, address, "e2enet_wrong")
    tab.host.answers = [True]
    tab.ui.serverCheckBox.click()
    tab.segment()
    assert tab.ui.statusLabel.text.startswith("The token is wrong, or was taken back.")
    name(tab, "http://10.1.2.3", "secret")
    tab.host.answers = [True]
    tab.segment()
    assert "is not encrypted" in tab.ui.statusLabel.text
    tab.host.folder = str(folder)
    tab.ui.folderButton.click()
    assert "not on a server" in tab.ui.statusLabel.text
    assert jobs(folder) == []
    assert left_behind() == []
