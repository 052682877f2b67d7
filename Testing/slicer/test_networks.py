"""A training's network: which can be chosen, and a model of slices that becomes one of volumes."""

import json
import time

import pytest
from E2ENetSegmentationLib.core import Core
from E2ENetSegmentationLib.models.store import Model
from E2ENetSegmentationLib.training.networks import choices
from E2ENetSegmentationLib.training.parameters import TrainParameters
from E2ENetSegmentationLib.training.run import FINISHED, Training
from harness.tabs import FineTuneTab

pytestmark = pytest.mark.usefixtures("user_folder")


@pytest.fixture(scope="module")
def slices(tiny_dataset, tmp_path_factory):
    """A model that has learnt on slices, a little."""
    from e2enet.training.train import train

    output = tmp_path_factory.mktemp("flat") / "slices"
    train(
        tiny_dataset, output, epochs=1, iterations_per_epoch=1, base_channels=4, levels=2,
        patch=(1, 16, 16), batch_size=2, device="cpu", workers=0,
    )  # fmt: skip
    return output


def model(path):
    return Model(path, json.loads((path / "model.json").read_text(encoding="utf-8")), "imported")


def test_what_can_be_chosen(scene, models, slices):
    assert [choice.network for choice in choices(None)] == ["e2enet", "omnia", "ds", "dx"]
    assert [choice.transfer for choice in choices(Core().store.open("tiny"))] == [""]
    flat = model(slices)
    assert [choice.transfer for choice in choices(flat)] == ["", "e2enet"]
    flat.content["network"]["kind"] = "OmniaNet"
    assert [choice.transfer for choice in choices(flat)] == ["", "e2enet", "ds", "dx"]
    flat.content["plan"]["flat"] = True  # single images: nobody knows their distance
    assert [choice.transfer for choice in choices(flat)] == [""]


def test_the_panel_offers_them(scene, models):
    tab = FineTuneTab()
    tab.ui.baseComboBox.currentIndex = 0
    assert tab.ui.networkComboBox.enabled
    tab.ui.networkComboBox.currentIndex = 3
    tab.ui.modalityComboBox.currentIndex = 1
    assert "DX-Net" in tab.ui.networkComboBox.currentText
    tab.ui.baseComboBox.currentIndex = 1
    assert not tab.ui.networkComboBox.enabled
    assert tab.ui.networkComboBox.currentText == "As it is"
    tab.panel.cleanup()


def test_the_command_names_the_network():
    words = TrainParameters("d", "o", network="dx").toArguments()
    assert words[words.index("--network") + 1] == "dx"
    assert "--network" not in TrainParameters("d", "o", start="tiny", network="dx").toArguments()


def test_a_model_of_slices_becomes_one_of_volumes(models, slices, tiny_dataset):
    small = ("--patch", "8,16,16", "--workers", "0")
    wanted = TrainParameters(
        str(tiny_dataset), "-", start=str(slices), transfer="e2enet", epochs=1, iterations=1,
        device="cpu", extra=small,
    )  # fmt: skip
    training = Training.create("Deep", wanted)
    training.start()
    until = time.monotonic() + 500
    while training.poll():
        assert time.monotonic() < until
        time.sleep(0.1)
    assert training.state == FINISHED
    content = model(training.bundle).content
    assert content["plan"]["patch"] == [8, 16, 16]
    assert content["provenance"]["from"]["name"] == "start"
    assert content["network"]["arguments"]["shift_groups"] == 3
