"""The panel over the real engine, with a tiny model that is trained here."""

import subprocess
import sys

import numpy as np
import pytest
import slicer
from E2ENetSegmentationLib.core import Core
from E2ENetSegmentationLib.engine.python import interpreter
from E2ENetSegmentationLib.refusal import Refused
from harness.made import add_volume, phantom
from harness.tabs import SegmentTab

TRAINING = (
    "--fold all --sparsity 0.5 --base-channels 8 --levels 3 --patch 16,24,24 --batch-size 2 "
    "--epochs 4 --iterations-per-epoch 25 --lr 0.02 --workers 0 --device cpu"
)


@pytest.fixture(scope="session")
def learned(tiny_dataset, tmp_path_factory):
    """A tiny model that knows bright from dark; 100 steps."""
    bundle = tmp_path_factory.mktemp("learned") / "learned"
    command = [sys.executable, "-m", "e2enet", "train", str(tiny_dataset), "--output", str(bundle)]
    done = subprocess.run(
        [*command, *TRAINING.split(), "--progress", "json"],
        capture_output=True,
        text=True,
        env=interpreter.current().environment(),
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    return bundle


@pytest.fixture
def tab(scene, learned, left_behind, monkeypatch):
    monkeypatch.setenv("E2ENET_MODELS", str(learned.parent))
    tab = SegmentTab("learned")
    yield tab
    tab.panel.cleanup()


def overlap(node, volume):
    """Dice of all segments together; so short a training does not tell sphere from cube."""
    segmentation = node.GetSegmentation()
    found = np.zeros(phantom()[1].shape, bool)
    for index in range(segmentation.GetNumberOfSegments()):
        identifier = segmentation.GetNthSegmentID(index)
        array = slicer.util.arrayFromSegmentBinaryLabelmap(node, identifier, volume)
        if array is not None and array.shape == found.shape:
            found |= array > 0
    wanted = phantom()[1] > 0
    return 2 * (found & wanted).sum() / (found.sum() + wanted.sum())


@pytest.mark.parametrize("kind", ["plain", "left-handed"])
def test_pick_and_click(tab, scene, left_behind, kind):
    volume = add_volume(scene, kind)
    tab.choose(volume)
    tab.segment()
    assert tab.ui.statusLabel.text.startswith("Done"), tab.ui.statusLabel.text
    node = tab.panel.result.segmentationNode
    assert overlap(node, volume) > 0.6
    assert left_behind() == []


def test_cancel_then_again(tab, scene, left_behind):
    tab.choose(add_volume(scene))
    tab.ui.segmentButton.click()
    process = tab.panel._run._engine._process
    tab.host.pump(lambda: process.poll() or not process.running)
    tab.ui.cancelButton.click()
    assert not process.running
    assert left_behind() == []
    tab.ui.placeRoiButton.click()
    tab.segment()
    assert tab.ui.statusLabel.text.startswith("Done"), tab.ui.statusLabel.text


def test_engine_says_what_is_wrong_with_the_voxels(tab, scene):
    array = phantom()[0].astype(np.float32)
    array[:] = np.nan
    tab.choose(add_volume(scene, array=array))
    tab.segment()
    assert not tab.ui.statusLabel.text.startswith(("Done", "Something unexpected"))
    assert tab.usable


def test_from_a_script(scene, learned):
    """What the README shows: a path instead of a name, several volumes in a loop."""
    core = Core()
    nodes = [core.segment(add_volume(scene, name=name), str(learned)) for name in "AB"]
    assert [node.GetName() for node in nodes] == ["A segmentation", "B segmentation"]
    with pytest.raises(Refused, match="no model 'no-such-model'"):
        core.segment(add_volume(scene), "no-such-model")
