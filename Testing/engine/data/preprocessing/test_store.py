"""Reading preprocessed cases needs numpy and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from e2enet.data.datasets.raw import read_dataset
from e2enet.data.planning.plan import ChannelPlan, Plan
from e2enet.data.preprocessing.cases import preprocess_dataset
from e2enet.data.preprocessing.store import PreprocessedDataset
from e2enet.events import BadInput


@pytest.fixture
def folder(tiny_dataset: Path, tmp_path: Path) -> Path:
    plan = Plan((1.0,) * 3, (0, 1, 2), (16,) * 3, ((2, 2, 2),), 2, (ChannelPlan("MRI"),))
    preprocess_dataset(read_dataset(tiny_dataset), plan, tmp_path, workers=0)
    return tmp_path


def test_nothing_heavy_is_imported(folder: Path) -> None:
    code = (
        "import sys\nfrom e2enet.data.preprocessing.store import PreprocessedDataset\n"
        "data = PreprocessedDataset.open(sys.argv[1])\n"
        "print(len(data), data['tiny_000'].image.ndim, len(data['tiny_000'].points()))\n"
        "print([m for m in ('SimpleITK', 'monai', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["6 4 2", "[]"]


def test_arrays_are_mapped_and_read_only(folder: Path) -> None:
    case = PreprocessedDataset.open(folder)["tiny_001"]
    assert isinstance(case.image, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        case.image[0, 0, 0, 0] = 1


def test_missing_or_damaged(folder: Path) -> None:
    data = PreprocessedDataset.open(folder)
    (folder / "tiny_001.npy").write_bytes(b"no array")
    with pytest.raises(BadInput, match=r"tiny_001\.npy"):
        _ = data["tiny_001"].image
    (folder / "tiny_001.json").unlink()
    with pytest.raises(BadInput, match="not a complete"):
        PreprocessedDataset.open(folder)
    with pytest.raises(BadInput, match="not a complete"):
        PreprocessedDataset.open(folder / "elsewhere")
