"""nnU-Net's five folds, and a dataset's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from e2enet.data.datasets.raw import Case, Dataset
from e2enet.data.datasets.splits import five_folds, split
from e2enet.events import BadInput


def dataset(folder: Path, own: Any = None) -> Dataset:
    """Cases a … f; `own` is the content of splits_final.json."""
    if own is not None:
        text = own if isinstance(own, str) else json.dumps(own)
        (folder / "splits_final.json").write_text(text, encoding="utf-8")
    cases = tuple(Case(name, ()) for name in "abcdef")
    return Dataset(folder, "D", ("MRI",), {"background": 0, "x": 1}, ".nii.gz", cases)


def test_folds_are_nnunets() -> None:
    """scikit-learn's KFold(5, shuffle=True, random_state=12345) on twelve sorted cases."""
    names = [f"case_{i:02d}" for i in range(12)]
    order = [8, 0, 3, 7, 11, 10, 6, 9, 4, 1, 5, 2]
    sizes = (3, 3, 2, 2, 2)
    start = 0
    held_out = []
    for fold, size in enumerate(sizes):
        training, validation = five_folds(names[::-1], fold)
        assert validation == tuple(names[i] for i in sorted(order[start : start + size]))
        assert sorted(training + validation) == names
        held_out += validation
        start += size
    assert sorted(held_out) == names


def test_other_folds() -> None:
    assert five_folds(["b", "a"], "all") == (("a", "b"), ())
    assert sorted(five_folds(["a", "b", "c"], i)[1][0] for i in range(3)) == ["a", "b", "c"]
    assert five_folds(["a", "b"], "1") == five_folds(["a", "b"], 1)
    for fold in (5, -1, "first"):
        with pytest.raises(BadInput, match="no fold"):
            five_folds([str(i) for i in range(10)], fold)
    with pytest.raises(BadInput, match="single case"):
        five_folds(["a"], 0)


def test_without_a_file_the_folds_are_nnunets(tmp_path: Path) -> None:
    assert split(dataset(tmp_path), "1") == five_folds("abcdef", 1)


def test_a_datasets_own_folds(tmp_path: Path) -> None:
    """Cases may be left out of a fold; "all" takes every one."""
    own = [{"train": ["f", "b"], "val": ["a"]}, {"train": list("abc"), "val": []}]
    found = dataset(tmp_path, own)
    assert split(found, 0) == (("b", "f"), ("a",))
    assert split(found, "1") == (("a", "b", "c"), ())
    assert split(found, "all") == (tuple("abcdef"), ())
    with pytest.raises(BadInput, match=r"no fold 2; .*splits_final.json has the folds 0 … 1"):
        split(found, 2)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ("[{", "not valid JSON"),
        ([], "no list of folds"),
        ({"train": ["a"], "val": ["b"]}, "no list of folds"),
        ([["a"]], 'Fold 0 .* is not an object with "train" and "val"'),
        ([{"train": ["a"]}], '"val" of fold 0 .* is not a list'),
        ([{"train": "ab", "val": ["c"]}], '"train" of fold 0 .* is not a list'),
        ([{"train": ["a", 3], "val": []}], '"train" of fold 0'),
        ([{"train": ["a"], "val": ["z"]}], "names z, which is no case"),
        ([{"train": ["a", "b"], "val": ["b"]}], "has b in both train and val"),
        ([{"train": [], "val": ["b"]}], "no case that trains"),
        ([{"train": ["a"], "val": ["b"]}, {"train": ["y"], "val": []}], "Fold 1 .* names y"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path: Path, own: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        split(dataset(tmp_path, own), 0)
    assert caught.value.code == "bad-splits"
    assert "splits_final.json" in caught.value.message
