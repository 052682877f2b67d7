"""nnU-Net's raw layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from e2enet.data.datasets.raw import read_case, read_dataset
from e2enet.data.images.volume import Grid, write_label
from e2enet.events import BadInput

Raw = Callable[..., Path]
SHAPE = (4, 5, 6)


def case(channels: int = 1, label: int = 1) -> tuple[list[np.ndarray], np.ndarray]:
    return [np.ones(SHAPE, np.float32)] * channels, np.full(SHAPE, label, np.uint8)


def edit(folder: Path, **changes: object) -> None:
    path = folder / "dataset.json"
    record = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({k: v for k, v in record.items() if v is not None}))


def test_reads_the_tiny_dataset(tiny_dataset: Path) -> None:
    dataset = read_dataset(tiny_dataset)
    assert dataset.name == "Dataset900_Tiny"
    assert dataset.channel_names == ("MRI",)
    assert dataset.labels == {"background": 0, "sphere": 1, "cube": 2}
    assert dataset.num_classes == 3
    assert dataset.case_names == tuple(f"tiny_{i:03d}" for i in range(6))
    assert [c.name for c in dataset.test_cases] == ["tiny_006", "tiny_007"]
    volumes, label = read_case(dataset, dataset.cases[0])
    assert label is not None
    assert volumes[0].array.shape == label.array.shape


def test_channels_in_order(raw_dataset: Raw) -> None:
    folder = raw_dataset({"b": case(3), "a": case(3)}, channels=("T1", "T2", "FLAIR"))
    dataset = read_dataset(folder)
    assert dataset.channel_names == ("T1", "T2", "FLAIR")
    assert dataset.case_names == ("a", "b")
    assert [p.name for p in dataset.cases[0].images] == [f"a_{i:04d}.nii.gz" for i in range(3)]
    assert dataset.test_cases == ()


def test_older_dataset_json(raw_dataset: Raw) -> None:
    folder = raw_dataset({"a": case()})
    edit(
        folder,
        channel_names=None,
        file_ending=None,
        modality={"0": "CT"},
        labels={"0": "background", "1": "liver"},
    )
    dataset = read_dataset(folder)
    assert dataset.channel_names == ("CT",)
    assert dataset.labels == {"background": 0, "liver": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "a": 2}}, "without gaps"),
        ({"labels": {"background": 0, "all": [1, 2], "core": [2]}}, "regions_class_order"),
        (
            {"labels": {"all": [1, 2], "core": [2]}, "regions_class_order": [2, 1]},
            "a voxel of all would get the value 2",
        ),
        ({"labels": []}, '"labels"'),
        ({"channel_names": {"1": "T1"}}, "numbered 0, 1, 2"),
        ({"channel_names": None}, '"channel_names"'),
        ({"file_ending": 3}, '"file_ending"'),
        ({"file_ending": ".mha"}, r"CASE_0000\.mha"),
        ({"channel_names": {"0": "T1", "1": "T2"}}, r"a_0001\.nii\.gz is missing"),
    ],
)
def test_wrong_dataset_json(raw_dataset: Raw, changes: dict, message: str) -> None:
    folder = raw_dataset({"a": case()})
    edit(folder, **changes)
    with pytest.raises(BadInput, match=message):
        read_dataset(folder)


def test_wrong_folders(raw_dataset: Raw, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no dataset\.json"):
        read_dataset(tmp_path)
    folder = raw_dataset({"a": case(2), "b": case(2)})
    with pytest.raises(BadInput, match="2 channels of a, but"):
        read_dataset(folder)
    edit(folder, channel_names={"0": "T1", "1": "T2"})
    (folder / "labelsTr" / "b.nii.gz").unlink()
    with pytest.raises(BadInput, match=r"case b has no label map b\.nii\.gz"):
        read_dataset(folder)
    (folder / "dataset.json").write_text("{")
    with pytest.raises(BadInput, match="not valid JSON"):
        read_dataset(folder)


def test_cases_are_checked(raw_dataset: Raw) -> None:
    folder = raw_dataset({"a": case(), "b": case(label=5)})
    dataset = read_dataset(folder)
    with pytest.raises(BadInput, match=r"b\.nii\.gz holds the label 5"):
        read_case(dataset, dataset.cases[1])
    elsewhere = Grid(SHAPE[::-1], (1.0, 1.0, 1.0), (50.0, 0.0, 0.0))
    write_label(folder / "labelsTr" / "a.nii.gz", np.ones(SHAPE, np.uint8), elsewhere)
    with pytest.raises(BadInput, match="different grids"):
        read_case(dataset, dataset.cases[0])


def test_the_ignore_label(raw_dataset: Raw) -> None:
    """It is no class, but a label map may hold it."""
    labels = {"background": 0, "thing": 1, "ignore": 2}
    dataset = read_dataset(raw_dataset({"a": case(label=2)}, labels=labels))
    assert dataset.labels == {"background": 0, "thing": 1}
    assert (dataset.num_classes, dataset.ignore) == (2, 2)
    label = read_case(dataset, dataset.cases[0])[1]
    assert label is not None
    assert (label.array == 2).all()


def test_an_ignore_label_that_is_not_the_highest(raw_dataset: Raw) -> None:
    labels = {"background": 0, "ignore": 1, "thing": 2}
    with pytest.raises(BadInput, match="is the highest"):
        read_dataset(raw_dataset({"a": case()}, labels=labels))


def test_regions(raw_dataset: Raw) -> None:
    folder = raw_dataset({"a": case(label=3)})
    labels = {"background": 0, "all": [1, 2, 3], "core": [2, 3], "ignore": 4}
    edit(folder, labels=labels, regions_class_order=[1, 2])
    dataset = read_dataset(folder)
    assert dataset.labels == {"background": 0, "all": 1, "core": 2}
    assert dataset.regions == {"all": (1, 2, 3), "core": (2, 3)}
    assert (dataset.num_classes, dataset.highest, dataset.ignore) == (2, 3, 4)
    assert dataset.structures.order == (1, 2)
    assert read_case(dataset, dataset.cases[0])[1] is not None


def test_missing_labels(raw_dataset: Raw) -> None:
    labels = {"background": 0, "thing": 1, "other": 2}
    folder = raw_dataset({"a": case(), "b": case()}, labels=labels)
    edit(folder, missing_labels={"a": ["other"]})
    dataset = read_dataset(folder)
    assert dataset.missing == {"a": ("other",)}
    assert read_case(dataset, dataset.cases[0])[1] is not None
    edit(folder, missing_labels={"b": ["thing"]})
    dataset = read_dataset(folder)
    with pytest.raises(BadInput, match="nobody drew it there"):
        read_case(dataset, dataset.cases[1])
    edit(folder, missing_labels={"c": ["thing"]})
    with pytest.raises(BadInput, match="names c, which is no case"):
        read_dataset(folder)
