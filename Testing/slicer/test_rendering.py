"""What a person sees: the outline lies where the label is, and the surfaces are in the 3D view."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness import views


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    reason = views.missing()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("pictures")
    script = Path(__file__).with_name("render_result.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True
    )
    assert (folder / "found.json").is_file(), done.stderr[-2000:]
    return json.loads((folder / "found.json").read_text(encoding="utf-8"))


def test_outline_is_where_the_label_is(found):
    assert found["outline_pixels"] > 30
    for seen, wanted in zip(found["outline_centre"], found["wanted_centre"], strict=True):
        assert abs(seen - wanted) * found["millimetres_a_pixel"] < 1.0
    # A sphere of radius 5 voxels, of 1 to 1.5 mm each.
    for extent in found["outline_extent"]:
        assert 8 < extent * found["millimetres_a_pixel"] < 17


def test_both_surfaces_are_in_the_3d_view(found):
    assert found["red_3d"] > 200
    assert found["green_3d"] > 200
