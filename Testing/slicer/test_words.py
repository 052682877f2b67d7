"""The engine's sentences in the panel: no options of a command line, no names of our own files."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import slicer
from E2ENetSegmentationLib.ui.panel import breakable
from E2ENetSegmentationLib.words import spoken
from harness.made import add_case, add_volume, phantom
from harness.tabs import FineTuneTab, SegmentTab

ENGINE = Path(__file__).resolve().parents[2] / "engine" / "e2enet"
# Options, commands, places of a dataset, variables of the shell, our own files.
TERMINAL = re.compile(
    r"--[a-z]|`|pip install|e2enet [a-z]+ |TMPDIR|E2ENET_|labelsT|imagesT|\bINPUT\b"
)


def said_by_the_engine():
    """(code, message, help) of every error and warning in the engine's source, what is filled in
    shown as "x"; those of verbs that the panel does not use are left out."""
    others = ("interop", "service", "cluster", "evaluation", "cli", "importing", "analyses")
    for path in ENGINE.rglob("*.py"):
        if set(path.relative_to(ENGINE).parts) & set(others):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = {keyword.arg: _text(keyword.value) for keyword in node.keywords}
            texts = [_text(one) for one in node.args]
            if name == "BadInput" and texts:
                yield given.get("code", "bad-input"), texts[0], given.get("help", "")
            elif name == "warning" and len(texts) == 2:
                yield texts[0], texts[1], ""


def _text(node) -> str:
    """A constant or an f-string, and what is certain of other texts."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _text(part) if isinstance(part, ast.Constant) else "x" for part in node.values
        )
    return ""


def test_nothing_the_engine_says_is_for_a_terminal():
    found = list(said_by_the_engine())
    assert len(found) > 100
    assert sum(bool(TERMINAL.search(m + h)) for _code, m, h in found) > 20  # they are found
    for code, message, help in found:
        for text in spoken(code, message, help):
            assert not TERMINAL.search(text), (code, text)
        assert spoken(code, message, help)[0] or not message, (code, message)


def test_advice_is_for_the_panel():
    said = spoken("not-located", "Nothing was found.", "Give the region yourself with --roi, or an")
    assert said[0] == "Nothing was found."
    assert "with Place" in said[1]
    said = spoken("location-unsure", "Found with little certainty: give the region with --roi.")
    assert "Place" in said[0]
    assert "--" not in said[0]
    assert spoken("x", "A.", "Close it. Use --device cpu. Wait.") == ("A.", "Close it. Wait.")
    long = "9 iterations will take about 3 days. Fewer --epochs or --patch would shorten that."
    said = spoken("long-training", long)
    assert said == (
        "9 iterations will take about 3 days.",
        "Fewer epochs or a graphics card shorten it.",
    )
    assert spoken("x", "--learning-rate is 0; it must be larger.")[0] == (
        "learning rate is 0; it must be larger."
    )


def test_files_have_the_names_of_their_volumes():
    names = {"folder/E2ENetVolume0.nrrd": "Head", "E2ENetVolume0.nrrd": "Head"}
    names["E2ENetVolume0"] = "Head"
    text = "folder/E2ENetVolume0.nrrd, E2ENetVolume0.nrrd and E2ENetVolume0 hold NaN."
    assert spoken("x", text, "", names)[0] == "Head, Head and Head hold NaN."


@pytest.mark.usefixtures("models", "left_behind")
def test_a_refused_volume_is_named(scene):
    tab = SegmentTab()
    tab.choose(add_volume(scene, name="MyHead", array=np.full((16, 16, 16), np.nan, np.float32)))
    tab.segment()
    assert "MyHead" in tab.ui.statusLabel.text
    assert "E2ENetVolume" not in tab.ui.statusLabel.text + tab.ui.logText.plainText


@pytest.mark.usefixtures("models", "left_behind")
def test_a_refused_case_is_named(scene):
    """The dataset of a training has names of its own, which nobody has seen."""
    tab = FineTuneTab()
    case = add_case(scene, name="MyHead")
    tab.add(case)
    tab.add(add_case(scene, name="Other"))
    slicer.util.updateVolumeFromArray(
        case.volumeNodes[0], np.full(phantom()[1].shape, np.nan, np.float32)
    )
    tab.ui.startButton.click()
    tab.wait()
    assert "MyHead" in tab.ui.trainStatusLabel.text, tab.said
    assert "case_0" not in tab.said


def test_long_names_can_be_broken():
    """Or a label, and with it Slicer's panel, would be as wide as the name of a file."""
    name = "sub-01_ses-2_acq-mprage_run-1_T1w"
    text = breakable(f"Done: {name} is half-way on 10.1.2.3:80.")
    assert text.replace("\u200b", "") == f"Done: {name} is half-way on 10.1.2.3:80."
    assert max(map(len, re.split(r"\s|\u200b", text))) < 13
    assert "half-way on 10.1.2.3:80." in text  # short ones stay together
