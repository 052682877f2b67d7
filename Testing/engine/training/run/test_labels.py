"""Labels of a new model, paired with those of its base."""

from __future__ import annotations

from typing import Any

from e2enet.bundle import Label
from e2enet.training.run.labels import match_labels
from hypothesis import given
from hypothesis import strategies as st


def label(value: int, name: str, code: str = "", modifier: str = "") -> Label:
    return Label(value, name, (1, 2, 3), terminology(code, modifier) if code else {})


def terminology(code: str, modifier: str = "") -> dict[str, Any]:
    found = {"type": {"scheme": "SCT", "code": code}}
    return {**found, "modifier": {"scheme": "SCT", "code": modifier}} if modifier else found


BASE = [label(1, "Anterior"), label(2, "Posterior")]


def test_names_decide_and_not_places() -> None:
    match = match_labels({"background": 0, "posterior": 1, "ANTERIOR": 2}, [], BASE)
    assert match.classes == {0: 0, 1: 2, 2: 1}
    assert (match.new, match.dropped) == ((), ())
    assert match.sentence("m") == (
        "Taken over from m: posterior (there Posterior), ANTERIOR (there Anterior)."
    )


def test_new_and_dropped_ones_are_named() -> None:
    match = match_labels({"background": 0, "Tail": 1, "Anterior": 2}, [], BASE)
    assert match.classes == {0: 0, 2: 1}
    assert (match.new, match.dropped) == (("Tail",), ("Posterior",))
    assert match.sentence("m") == "Taken over from m: Anterior; new: Tail; dropped: Posterior."
    none = match_labels({"background": 0, "Tail": 1}, [], BASE)
    assert none.sentence("m") == (
        "No label is one of m's; new: Tail; dropped: Anterior, Posterior."
    )


def test_blanks_hyphens_and_underscores_are_one() -> None:
    base = [label(1, "left kidney"), label(2, "right-kidney")]
    match = match_labels({"Right_Kidney": 1, "Left  Kidney": 2}, [], base)
    assert match.classes == {0: 0, 1: 2, 2: 1}


def test_a_name_that_metadata_gives_counts_too() -> None:
    match = match_labels({"1a": 1, "1b": 2}, [{"value": 2, "name": "Anterior"}], BASE)
    assert match.classes == {0: 0, 2: 1}


def test_codes_pair_what_names_do_not() -> None:
    base = [label(1, "Leber", "10200004"), label(2, "Niere", "64033007", "7771000")]
    described = [
        {"value": 1, "terminology": terminology("64033007", "7771000")},
        {"value": 2, "terminology": terminology("64033007", "24028007")},
        {"value": 3, "terminology": terminology("10200004")},
    ]
    labels = {"left kidney": 1, "right kidney": 2, "liver": 3}
    match = match_labels(labels, described, base)
    assert match.classes == {0: 0, 1: 2, 3: 1}
    assert match.new == ("right kidney",)


def test_a_code_that_several_share_tells_nothing() -> None:
    base = [label(1, "a", "85756007"), label(2, "b", "85756007")]
    described = [{"value": 1, "terminology": terminology("85756007")}]
    assert match_labels({"c": 1}, described, base).matched == {}
    described += [{"value": 2, "terminology": terminology("85756007")}]
    assert match_labels({"c": 1, "d": 2}, described, base[:1]).matched == {}


@given(st.permutations(["a", "b", "c", "d", "e"]), st.integers(0, 5))
def test_any_order_is_found_again(names: list[str], kept: int) -> None:
    base = [label(number, name) for number, name in enumerate("abcde", 1)]
    new = {name: number for number, name in enumerate(names[:kept], 1)}
    match = match_labels({"background": 0, **new}, [], base)
    for name, value in new.items():
        assert base[match.classes[value] - 1].name == name
    assert sorted([*match.dropped, *match.matched]) == list("abcde")
