"""nnU-Net's raw dataset layout, read as it is."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from e2enet.data.datasets.labels import IGNORE, MISSING, Structures, check_order, parse_structures
from e2enet.data.datasets.tissues import TABLE, Tissues, find_maps, read_tissues
from e2enet.data.images.volume import Volume, check_same_grid, read_channels, read_label
from e2enet.events import BadInput


@dataclass(frozen=True)
class Case:
    """One case: an image file a channel, and the label map's file if there is one."""

    name: str
    images: tuple[Path, ...]
    label: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """A dataset in nnU-Net's raw layout.

    Args:
        folder: where dataset.json lies.
        name: the folder's name, such as "Dataset004_Hippocampus".
        channel_names: one name a channel; "CT" decides the normalisation.
        labels: {name: value}, "background": 0 included, values 0 … n without gaps; of a region,
            the value that it gets in a predicted label map.
        file_ending: such as ".nii.gz".
        cases: the training cases, sorted by name, each with a label unless it was read without
            need of them.
        ignore: the value of voxels that nobody judged, one above the highest label, or None.
        regions: {name: the values of its voxels} where structures are regions that may overlap;
            empty otherwise.
        missing: case -> the structures that nobody drew in it.
        tissues: of a dataset of label maps alone, what their values mean; the only "channel" of a
            case is then its map.
    """

    folder: Path
    name: str
    channel_names: tuple[str, ...]
    labels: dict[str, int]
    file_ending: str
    cases: tuple[Case, ...]
    ignore: int | None = None
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tissues: Tissues | None = None

    @property
    def num_classes(self) -> int:
        """Outputs of a network: the labels, background included, or the regions."""
        return len(self.regions) or len(self.labels)

    @property
    def structures(self) -> Structures:
        """What there is to segment, in the order of a network's outputs."""
        names = [name for name, value in self.labels.items() if value]
        values = self.regions or {name: (self.labels[name],) for name in names}
        order = tuple(self.labels[name] for name in self.regions)
        return Structures(values, self.ignore, order, self.missing)

    @property
    def highest(self) -> int:
        """The highest value of a structure in the label maps."""
        return max(value for values in self.structures.values.values() for value in values)

    @property
    def case_names(self) -> tuple[str, ...]:
        """Names of the training cases, sorted."""
        return tuple(case.name for case in self.cases)

    @property
    def test_cases(self) -> tuple[Case, ...]:
        """The cases of imagesTs, sorted by name; their label is None where labelsTs has none."""
        return _list_cases(self, "imagesTs", "labelsTs", label_needed=False)


def read_dataset(folder: str | os.PathLike, *, labels_needed: bool = True) -> Dataset:
    """Read dataset.json and list the cases; no image is opened.

    Also takes dataset.json of nnU-Net v1 and of the Medical Segmentation Decathlon ("modality",
    labels as {"1": name}) as long as every channel is a file of its own, and a folder of label maps
    with a table of tissues (`e2enet.data.datasets.tissues`) instead of dataset.json.

    Args:
        folder: where dataset.json lies.
        labels_needed: refuse a training case without label map; its label is None otherwise.

    Raises:
        BadInput: no dataset.json or a field in it is wrong, a case without label or with a
            missing channel, no case at all.
    """
    folder = Path(folder)
    path = folder / "dataset.json"
    if not path.is_file() and (folder / TABLE).is_file():
        return _label_maps(folder)
    if not path.is_file():
        raise BadInput(
            f"{folder} holds no dataset.json.",
            help="Give the folder of a dataset in nnU-Net's raw layout.",
            code="not-a-dataset",
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(record, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is not valid JSON: {error}.", code="bad-dataset-json") from error
    ending = record.get("file_ending", ".nii.gz")
    if not isinstance(ending, str) or not ending.startswith("."):
        raise _wrong(path, "file_ending", "an ending such as .nii.gz")
    labels, structures = _labels(record, path)
    regions = structures.values if structures.order else {}
    name, channels = folder.resolve().name, _channels(record, path)
    dataset = Dataset(
        folder, name, channels, labels, ending, (), structures.ignore, regions, structures.missing
    )
    cases = _list_cases(dataset, "imagesTr", "labelsTr", label_needed=labels_needed)
    if not cases:
        raise BadInput(
            f"{folder / 'imagesTr'} holds no image named CASE_0000{ending}.",
            help="Name images CASE_0000 with the ending that dataset.json gives as file_ending.",
            code="no-cases",
        )
    dataset = replace(dataset, cases=cases)
    known = {case.name for case in (*cases, *dataset.test_cases)}
    if structures.missing and (unknown := sorted(set(structures.missing) - known)):
        raise BadInput(
            f'{path}: "{MISSING}" names {unknown[0]}, which is no case.',
            help="Name cases as their label maps are, without the ending.",
            code="bad-dataset-json",
        )
    return dataset


def read_case(dataset: Dataset, case: Case) -> tuple[list[Volume], Volume | None]:
    """Read all channels of a case, and its label map if it has one, and check them.

    Returns:
        One volume a channel, and the label volume or None.

    Raises:
        BadInput: as `read_image` and `read_label`; channels or label on different grids; a
            label value that dataset.json does not name, or says that nobody drew.
    """
    if dataset.tissues is not None:
        return _read_map(dataset.tissues, case)
    volumes = read_channels(case.images)
    if case.label is None:
        return volumes, None
    label = read_label(case.label)
    check_same_grid(volumes[0], label)
    structures = dataset.structures
    found = {int(value) for value in np.flatnonzero(np.bincount(label.array.ravel()))}
    unknown = found - structures.known
    if unknown:
        values = ", ".join(str(int(v)) for v in sorted(unknown))
        raise BadInput(
            f"{case.label.name} holds the label {values}, which dataset.json does not name.",
            help="Correct the label map, or name the label in dataset.json.",
            code="unknown-label",
        )
    for name in dataset.missing.get(case.name, ()):
        if not dataset.regions and dataset.labels[name] in found:
            raise BadInput(
                f'{case.label.name} holds the label {name}, but "{MISSING}" in dataset.json says '
                "that nobody drew it there.",
                help="Correct one of them.",
                code="unknown-label",
            )
    return volumes, label


def no_label_map(dataset: Dataset, name: str) -> BadInput:
    """The error of a training case without label map."""
    return BadInput(
        f"The training case {name} has no label map {name}{dataset.file_ending}.",
        help="Every training case needs a label map of the same name.",
        code="missing-label",
    )


def _label_maps(folder: Path) -> Dataset:
    """A dataset of label maps alone; its images will be those of an MR of any contrast."""
    tissues = read_tissues(folder / TABLE)
    cases = tuple(
        Case(path.name.removesuffix(".nii.gz"), (path,), path) for path in find_maps(folder)
    )
    if not cases:
        raise BadInput(
            f"{folder} holds a table of tissues, but no label map ending in .nii.gz.",
            help=f"Put the label maps beside {TABLE}, or into labelsTr.",
            code="no-cases",
        )
    name = folder.resolve().name
    return Dataset(folder, name, ("MRI",), tissues.labels, ".nii.gz", cases, tissues=tissues)


def _read_map(tissues: Tissues, case: Case) -> tuple[list[Volume], Volume]:
    """The map's values as an image, and the structures that they belong to as labels."""
    values = read_label(case.images[0])
    tissues.check(values.array, case.images[0].name)
    structures = tissues.table(tissues.structure)[values.array]
    dtype = np.uint8 if structures.max() <= 255 else np.int16
    image = Volume(values.array.astype(np.float32), values.grid, values.name, values.warnings)
    return [image], Volume(structures.astype(dtype), values.grid, values.name)


def _list_cases(
    dataset: Dataset, images: str, labels: str, *, label_needed: bool
) -> tuple[Case, ...]:
    folder = dataset.folder / images
    if not folder.is_dir():
        return ()
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(dataset.file_ending)}")
    channels_of: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = pattern.fullmatch(path.name)
        if match and not path.name.startswith("."):
            channels_of.setdefault(match[1], {})[int(match[2])] = path
    cases = []
    for name, channels in sorted(channels_of.items()):
        expected = range(len(dataset.channel_names))
        missing = [c for c in expected if c not in channels]
        if missing:
            raise BadInput(
                f"{name}_{missing[0]:04d}{dataset.file_ending} is missing in {images}: "
                f"dataset.json names {len(expected)} channels.",
                code="missing-channel",
            )
        if len(channels) > len(expected):
            raise BadInput(
                f"{images} holds {len(channels)} channels of {name}, but dataset.json names "
                f"{len(expected)}.",
                help="Correct channel_names in dataset.json.",
                code="channel-count",
            )
        label: Path | None = dataset.folder / labels / f"{name}{dataset.file_ending}"
        if label is not None and not label.is_file():
            if label_needed:
                raise no_label_map(dataset, name)
            label = None
        cases.append(Case(name, tuple(channels[c] for c in expected), label))
    return tuple(cases)


def _channels(record: dict, path: Path) -> tuple[str, ...]:
    names = record.get("channel_names", record.get("modality"))
    if not isinstance(names, dict) or not names:
        raise _wrong(path, "channel_names", 'names by number, such as {"0": "MRI"}')
    if sorted(names) != sorted(str(i) for i in range(len(names))):
        raise _wrong(path, "channel_names", "numbered 0, 1, 2 …")
    return tuple(str(names[str(i)]) for i in range(len(names)))


def _labels(record: dict, path: Path) -> tuple[dict[str, int], Structures]:
    """{name: value} with the background, and the structures."""
    structures = parse_structures(record, str(path))
    if structures.order:
        check_order(structures, str(path))
        written = dict(zip(structures.values, structures.order, strict=True))
        return {"background": 0, **written}, structures
    labels = record.get("labels")
    if not isinstance(labels, dict) or len(labels) < 2:
        raise _wrong(path, "labels", 'values by name, such as {"background": 0, "liver": 1}')
    try:
        if all(str(key).isdigit() and not isinstance(v, int) for key, v in labels.items()):
            labels = {str(value): int(key) for key, value in labels.items()}
        else:
            labels = {str(key): int(value) for key, value in labels.items()}
    except (TypeError, ValueError) as error:
        raise _wrong(path, "labels", "one number a label") from error
    if sorted(labels.values()) != list(range(len(labels))):
        raise _wrong(path, "labels", f"numbered 0 … {len(labels) - 1} without gaps")
    if labels.get(IGNORE, len(labels) - 1) != len(labels) - 1:
        raise _wrong(path, "labels", f'values in which "{IGNORE}" is the highest')
    ordered = dict(sorted(labels.items(), key=lambda item: item[1]))
    ordered.pop(IGNORE, None)
    return ordered, structures


def _wrong(path: Path, field: str, expected: str) -> BadInput:
    return BadInput(
        f'{path}: "{field}" is missing or wrong; it has to be {expected}.', code="bad-dataset-json"
    )
