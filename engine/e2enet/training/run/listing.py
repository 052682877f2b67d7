"""Trainings in a folder: how far they are, what they take on the disk, and which can go."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from e2enet.events import BadInput
from e2enet.files import output_errors
from e2enet.folders import cache_folder
from e2enet.locks import in_use, is_used
from e2enet.training.run.settings import RUN, Run, is_product

_ENDING = ".run"


@dataclass(frozen=True)
class RunState:
    """A training as it lies on the disk.

    Args:
        folder: OUTPUT.run.
        state: "running", "finished", "unfinished" or "damaged".
        dataset: what it trains on.
        epoch, epochs: finished ones, and those of the whole training.
        dice: mean online Dice of the last epoch.
        bytes: of the folder.
    """

    folder: Path
    state: str
    dataset: str
    epoch: int
    epochs: int
    dice: float | None
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "folder": str(self.folder)}


def find_runs(folder: Path) -> list[RunState]:
    """All trainings in a folder and those below it, by path.

    Raises:
        BadInput: no such folder.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder.", code="missing-file")
    return [run_state(path) for path in sorted(_run_folders(folder))]


def run_state(folder: Path) -> RunState:
    """The state of the training in a folder; a damaged one is described as such."""
    size = folder_bytes(folder)
    try:
        run = Run.load(folder)
    except BadInput:
        return RunState(folder, "damaged", "", 0, 0, None, size)
    rows = _rows(folder)
    last = rows[-1] if rows else {}
    if in_use(folder):
        state = "running"
    else:
        product = folder.with_name(folder.name.removesuffix(_ENDING))
        state = "finished" if is_product(product, run) else "unfinished"
    dice = last.get("mean_dice") or None
    return RunState(
        folder,
        state,
        run.dataset["name"],
        int(last.get("epoch") or 0),
        run.settings.epochs,
        None if dice is None else float(dice),
        size,
    )


def prunable(runs: Iterable[RunState]) -> list[Path]:
    """Folders of trainings that have come to their end: their bundles need them no more."""
    return [run.folder for run in runs if run.state == "finished"]


def preprocessed_folders() -> list[Path]:
    """Preprocessed datasets in the cache that no training reads; they can be made again."""
    folder = cache_folder() / "preprocessed"
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_used(path))


def delete(folder: Path) -> None:
    """Delete a folder. Raises BadInput when the system refuses."""
    with output_errors(folder, "Check who may write there."):
        shutil.rmtree(folder)


def folder_bytes(folder: Path) -> int:
    """What the files of a folder take; one that goes away meanwhile takes nothing."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(path) / name).stat().st_size
            except OSError:
                continue
    return total


def _run_folders(folder: Path) -> Iterator[Path]:
    for path, folders, names in os.walk(folder):
        if RUN in names and path.endswith(_ENDING):
            yield Path(path)
            folders.clear()
        folders[:] = [name for name in folders if not name.startswith(".")]


def _rows(folder: Path) -> list[dict[str, str]]:
    try:
        with (folder / "metrics.csv").open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except OSError:
        return []
