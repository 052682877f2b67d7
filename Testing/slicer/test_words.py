"""The engine's sentences in the panel: no options of a command line, no names of our own files."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from E2ENetSegmentationLib.engine.events import spoken
from harness.made import add_volume
from harness.tabs import SegmentTab

ENGINE = Path(__file__).resolve().parents[2] / "engine" / "e2enet"
OPTION = re.compile(r"--[a-z]")


def helps():
    """(code, help) of every BadInput in the engine's source whose help is a plain text."""
    for path in ENGINE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                texts = {
                    keyword.arg: keyword.value.value
                    for keyword in node.keywords
                    if isinstance(keyword.value, ast.Constant)
                }
                if isinstance(texts.get("help"), str):
                    yield str(texts.get("code", "bad-input")), texts["help"]


def test_no_help_of_the_engine_names_an_option():
    found = list(helps())
    assert sum("--" in text for _code, text in found) > 5  # there are some, and they are found
    for code, text in found:
        assert not OPTION.search(spoken(code, "It cannot be done.", text)[1]), text


def test_advice_is_for_the_panel():
    said = spoken("not-located", "Nothing was found.", "Give the region yourself with --roi, or an")
    assert said[0] == "Nothing was found."
    assert "with Place" in said[1]
    said = spoken("location-unsure", "Found with little certainty: give the region with --roi.")
    assert "Place" in said[0]
    assert "--" not in said[0]
    assert spoken("x", "A.", "Close it. Use --device cpu. Wait.") == ("A.", "Close it. Wait.")


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
