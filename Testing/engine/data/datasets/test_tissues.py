"""Tables of tissues: what a label map is made of, and every fault named before training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from e2enet.data.datasets.raw import read_case, read_dataset
from e2enet.data.datasets.tissues import read_tissues
from e2enet.events import BadInput

ROWS = [
    (0, 0, 0, "background"),
    (24, 1, 0, "fluid"),
    (3, 2, 3, "left cortex"),
    (42, 2, 42, "right cortex"),
    (17, 3, 17, "left hippocampus"),
    (53, 4, 53, "right hippocampus"),
    (170, 3, 17, "left hippocampus"),  # two values of one structure
]


def table(path: Path, rows: list[tuple[int, int, int, str]] = ROWS) -> Path:
    fields = ("value", "tissue", "label", "name")
    values = [dict(zip(fields, row, strict=True)) for row in rows]
    path.write_text(json.dumps({"values": values}), encoding="utf-8")
    return path


@pytest.fixture
def maps(tmp_path: Path, save: Callable[..., Path]) -> Callable[..., Path]:
    """A folder of label maps with a table."""

    def make(*arrays: Any, rows: list[tuple[int, int, int, str]] = ROWS) -> Path:
        folder = tmp_path / "maps"
        for k, array in enumerate(arrays):
            save(folder / f"map_{k}.nii.gz", np.asarray(array, np.int16))
        folder.mkdir(exist_ok=True)
        table(folder / "labels.json", rows)
        return folder

    return make


def block(*values: int) -> np.ndarray:
    array = np.zeros((6, 7, 8), np.int16)
    for k, value in enumerate(values):
        array[1:4, 1:5, k + 1] = value
    return array


def test_structures_are_numbered_in_the_order_of_their_labels(tmp_path: Path) -> None:
    tissues = read_tissues(table(tmp_path / "labels.json"))
    assert tissues.labels == {
        "background": 0,
        "left cortex": 1,
        "left hippocampus": 2,
        "right cortex": 3,
        "right hippocampus": 4,
    }
    assert tissues.structure == {0: 0, 24: 0, 3: 1, 42: 3, 17: 2, 53: 4, 170: 2}
    assert tissues.tissue[170] == tissues.tissue[17] == 3
    assert tissues.table(tissues.structure)[[170, 24, 42]].tolist() == [2, 0, 3]


def test_a_folder_of_label_maps_is_a_dataset(maps: Callable[..., Path]) -> None:
    dataset = read_dataset(maps(block(3, 42, 17, 53, 170, 24), block(3, 42)))
    assert dataset.case_names == ("map_0", "map_1")
    assert dataset.num_classes == 5
    (values,), label = read_case(dataset, dataset.cases[0])
    assert label is not None
    assert values.array[2, 2, 1:7].tolist() == [3, 42, 17, 53, 170, 24]
    assert label.array[2, 2, 1:7].tolist() == [1, 3, 2, 4, 2, 0]
    assert label.grid == values.grid


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (block(3, 42, 99), "map_0.nii.gz holds the value 99, which labels.json does not name"),
        (block(), "map_0.nii.gz holds the value 0 and nothing else"),
    ],
)
def test_a_map_that_cannot_be_used_is_named(
    maps: Callable[..., Path], array: np.ndarray, sentence: str
) -> None:
    dataset = read_dataset(maps(array))
    with pytest.raises(BadInput, match=sentence):
        read_case(dataset, dataset.cases[0])


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (ROWS[:5], "names left hippocampus, but not the same structure of the other side"),
        ([*ROWS, (5, 5, 17, "left horn")], "calls the label 17 both left hippocampus and left"),
        ([*ROWS, (5, 5, 18, "left hippocampus")], "gives two labels the same name"),
        ([*ROWS, ROWS[2]], "names a value twice"),
        (ROWS[:2], "names no structure to segment"),
        ([*ROWS, (-5, 5, 0, "odd")], "holds a number below 0 for odd"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(
    tmp_path: Path, rows: list[tuple[int, int, int, str]], sentence: str
) -> None:
    with pytest.raises(BadInput, match=sentence):
        read_tissues(table(tmp_path / "labels.json", rows))


@pytest.mark.parametrize("text", ["{", "[]", '{"values": [{"value": 1}]}', '{"values": 3}'])
def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(BadInput, match="cannot be read as a table of tissues"):
        read_tissues(tmp_path / "labels.json")


def test_a_table_without_maps_is_refused(maps: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match="no label map"):
        read_dataset(maps())
