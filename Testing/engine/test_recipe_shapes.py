"""The recipes' data, made small: imported, planned as such data is, and trained for an epoch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.bundle import Bundle
from e2enet.data.datasets.importing.importing import DOORS, import_dataset
from e2enet.data.planning.plan import Plan
from e2enet.training.train import train

RECIPES = Path(__file__).resolve().parents[2] / "engine" / "recipes"
Series = Callable[..., list[Path]]


def save(path: Path, array: np.ndarray, spacing: tuple[float, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def shapes(size: tuple[int, ...], labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image in int16 and labels: a block each, side by side in the last two axes."""
    random = np.random.default_rng(seed)
    label = np.zeros(size, np.uint8)
    columns = int(np.ceil(np.sqrt(labels)))
    height, width = size[-2] // (columns + 1), size[-1] // (columns + 1)
    for value in range(1, labels + 1):
        row, column = divmod(value - 1, columns)
        y, x = (row + 0.5) * height, (column + 0.5) * width
        box = slice(int(y), int(y + height)), slice(int(x), int(x + width))
        label[(..., *box)] = value
    image = 60 * label.astype(float) + random.normal(0, 10, size) + 50
    return image.astype(np.int16), label


def amos(root: Path, series: Series) -> None:
    for number in range(2):
        image, label = shapes((20, 64, 64), 15, number)
        for part in ("Tr", "Va"):
            name = f"amos_{number + (0 if part == 'Tr' else 8):04d}.nii.gz"
            save(root / f"images{part}" / name, image, (0.68, 0.68, 5.0))
            save(root / f"labels{part}" / name, label, (0.68, 0.68, 5.0))
    names = {str(value): f"organ {value}" if value else "background" for value in range(16)}
    (root / "dataset.json").write_text(json.dumps({"labels": names}), encoding="utf-8")


def btcv(root: Path, series: Series) -> None:
    for number in range(2):
        image, label = shapes((24, 64, 64), 13, number)
        for part, name, array in (("img", "img", image), ("label", "label", label)):
            path = root / "RawData" / "Training" / part / f"{name}{number:04d}.nii.gz"
            save(path, array, (0.76, 0.76, 3.0))


def brats(root: Path, series: Series) -> None:
    for number in range(2):
        image, label = shapes((24, 32, 32), 3, number)
        head = np.zeros_like(image)
        head[4:20, 4:28, 4:28] = image[4:20, 4:28, 4:28]  # skull-stripped: most is 0
        image, label = head, np.where(head, label, 0).astype(np.uint8)
        name = f"BraTS_{number}"
        for ending in ("t2f", "t1n", "t1c", "t2w"):
            save(root / name / f"{name}-{ending}.nii.gz", image, (1.0, 1.0, 1.0))
        save(root / name / f"{name}-seg.nii.gz", label, (1.0, 1.0, 1.0))


def camus(root: Path, series: Series) -> None:
    for view in ("2CH", "4CH"):
        image, label = shapes((48, 64), 3, len(view))
        name = root / "database_nifti" / "patient0001" / f"patient0001_{view}_ED"
        save(name.with_name(f"{name.name}.nii.gz"), image, (0.31, 0.31))
        save(name.with_name(f"{name.name}_gt.nii.gz"), label, (0.31, 0.31))


def chaos(root: Path, series: Series) -> None:
    for number in range(2):
        image, label = shapes((18, 64, 64), 4, number)
        case = root / "Train_Sets" / "MR" / str(number) / "T2SPIR"
        written = series(
            case / "DICOM_anon", image, heights=[7.7 * k for k in range(18)], spacing=(1.6, 1.6),
            uid=f"1.2.{number}", modality="MR",
        )  # fmt: skip
        (case / "Ground").mkdir()
        # A mask belongs to the DICOM file at the same place among the names.
        for place, path in enumerate(sorted(written)):
            grey = (63 * label[written.index(path)].astype(int)).astype(np.uint8)
            sitk.WriteImage(sitk.GetImageFromArray(grey), str(case / "Ground" / f"{place:03d}.png"))


@dataclass(frozen=True)
class Recipe:
    """How a recipe's download is made and imported, and what comes of it."""

    make: Callable[[Path, Series], None]
    kind: str
    normalisation: str
    labels: int
    channels: int = 1
    flat: bool = False


RECIPE = {
    "amos": Recipe(amos, "amos-ct", "ct", 15),
    "btcv": Recipe(btcv, "btcv", "ct", 13),
    "brats": Recipe(brats, "brats", "zscore-masked", 3, channels=4),
    "camus": Recipe(camus, "camus", "zscore", 3, flat=True),
    "chaos": Recipe(chaos, "chaos-t2", "zscore", 4),
}


@pytest.mark.parametrize("name", RECIPE)
def test_an_epoch(name: str, tmp_path: Path, dicom_series: Series) -> None:
    wanted, download = RECIPE[name], tmp_path / "download"
    wanted.make(download, dicom_series)
    dataset = tmp_path / "Dataset001_Made"
    import_dataset(DOORS[wanted.kind](download), download, dataset, workers=0)
    if name == "brats":
        _with_regions(dataset)
    depth = 1 if wanted.flat else 8
    done = train(
        dataset, tmp_path / "model", epochs=1, iterations_per_epoch=1, base_channels=4,
        patch=(depth, 32, 32), batch_size=2, levels=3, device="cpu", workers=0,
    )  # fmt: skip
    assert done.state == "finished"
    bundle = Bundle.open(tmp_path / "model")
    plan = Plan.from_dict(bundle.plan)
    assert plan.flat is wanted.flat
    assert len(plan.channels) == wanted.channels
    assert {channel.normalisation for channel in plan.channels} == {wanted.normalisation}
    assert len(bundle.labels) == wanted.labels
    assert bundle.regions is (name == "brats")
    if max(plan.spacing) > 3 * min(plan.spacing) and not plan.flat:
        assert plan.strides[0][0] == 1  # thick slices are halved later than the plane


def _with_regions(dataset: Path) -> None:
    """As the recipe says: its two fields into dataset.json."""
    page = (RECIPES / "brats" / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    path = dataset / "dataset.json"
    record = {**json.loads(path.read_text(encoding="utf-8")), **json.loads(block)}
    path.write_text(json.dumps(record), encoding="utf-8")
