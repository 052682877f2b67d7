"""What a person sees: the outline lies where the label is, and the surfaces are in the 3D view."""

import pytest
from harness import views


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return views.rendered("render_result.py", tmp_path_factory.mktemp("pictures"))


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
