"""What a person sees of an explanation: each direction in its place and colour over the volume."""

import pytest
from harness import views

GREY = [127, 127, 127]
# Okabe and Ito's green, vermillion and blue.
COLORS = {"forward": [0, 158, 115], "upward": [213, 94, 0], "downward": [0, 114, 178]}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return views.rendered("render_explain.py", tmp_path_factory.mktemp("pictures"))


def near(seen, wanted):
    return max(abs(a - b) for a, b in zip(seen, wanted, strict=True)) <= 12


def test_one_direction_is_in_its_place_alone(found):
    for direction in COLORS:
        for place, color in found[direction].items():
            if place == direction:
                assert color[0] > 240, "the top of the colour map is bright"
                assert color[2] < color[0]
            else:
                assert near(color, GREY), "below the threshold the volume is seen"


@pytest.mark.parametrize("mode", ["dominant", "compare"])
def test_each_direction_has_its_colour(found, mode):
    for direction, color in COLORS.items():
        assert near(found[mode][direction], color)


def test_raw_values_look_the_same(found):
    assert found["forward raw"] == found["forward"]


def test_dominant_obeys_the_threshold(found):
    assert near(found["dominant"]["between"], GREY)


def test_compare_leaves_the_rest_clear(found):
    assert near(found["compare"]["between"], GREY)


def test_hidden(found):
    assert all(near(color, GREY) for color in found["hidden"].values())


def test_legend_is_in_the_picture(found):
    assert found["legend_pixels"]["forward"] > 50
    assert found["legend_pixels"]["compare"] > 50
