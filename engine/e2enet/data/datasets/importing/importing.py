"""From a folder of somebody's to a dataset in nnU-Net's raw layout, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from e2enet.data.datasets.importing.brats import read_brats
from e2enet.data.datasets.importing.camus import read_camus
from e2enet.data.datasets.importing.chaos import read_chaos
from e2enet.data.datasets.importing.found import Found, FoundCase, whole_labels
from e2enet.data.datasets.importing.nifti import read_amos, read_btcv, read_msd
from e2enet.data.images.volume import Grid
from e2enet.data.parallel import map_cases
from e2enet.events import BadInput, Reporter
from e2enet.files import move_folder, output_errors, scratch_folder

DOORS: dict[str, Callable[[Path], Found]] = {
    "msd": read_msd,
    "amos-ct": partial(read_amos, modality="CT"),
    "amos-mr": partial(read_amos, modality="MRI"),
    "btcv": read_btcv,
    "brats": read_brats,
    "camus": read_camus,
    "chaos-ct": partial(read_chaos, part="ct"),
    "chaos-t1": partial(read_chaos, part="t1"),
    "chaos-t2": partial(read_chaos, part="t2"),
}


def import_dataset(
    found: Found,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> dict[str, int]:
    """Write what a door found: imagesTr, labelsTr, imagesTs, labelsTs, dataset.json.

    Args:
        found: of a door.
        source: where it was found, for messages.
        output: the dataset's folder, such as Dataset007_Liver; must not exist.
        workers: processes, each with one case; 0 means in this one.
        reporter: gets progress as stage "import".

    Returns:
        {"training": cases, "test": cases}.

    Raises:
        BadInput: nothing was found, two cases of one name, a file that cannot be used, channels or
            label map on different grids; nothing is left of the output then.
    """
    reporter = reporter or Reporter()
    output = Path(output)
    training = [case for case in found.cases if not case.test]
    if not training:
        raise BadInput(
            f"{source} holds no case with a label map in this layout.",
            help="Give the folder as it was downloaded, and its kind with --kind.",
            code="no-cases",
        )
    names = [case.name for case in found.cases]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadInput(f"{source} holds the case {min(twice)} twice.", code="ambiguous-case")
    if output.exists():
        raise BadInput(
            f"{output} exists; an import overwrites nothing.",
            help="Choose another folder.",
            code="output-exists",
        )
    with output_errors(output), scratch_folder(output.absolute().parent) as scratch:
        folder = scratch / output.name
        for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
            if part[-2:] == "Tr" or len(training) < len(found.cases):
                (folder / part).mkdir(parents=True)
        values = frozenset(found.labels.values())
        map_cases(
            partial(_write_case, folder, values),
            found.cases,
            workers=workers,
            reporter=reporter,
            stage="import",
        )
        record = {
            "channel_names": {str(i): name for i, name in enumerate(found.channel_names)},
            "labels": found.labels,
            "numTraining": len(training),
            "file_ending": ".nii.gz",
            **found.about,
        }
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        (folder / "dataset.json").write_text(text, encoding="utf-8")
        move_folder(folder, output)
    return {"training": len(training), "test": len(found.cases) - len(training)}


def _write_case(folder: Path, values: frozenset[int], case: FoundCase) -> None:
    end = "Ts" if case.test else "Tr"
    first: Grid | None = None
    for number, opener in enumerate(case.channels):
        image = opener()
        grid = Grid.from_image(image)
        if first is not None:
            _same(first, grid, f"channel {number}", case.name)
        first = first or grid
        _write(image, folder / f"images{end}" / f"{case.name}_{number:04d}.nii.gz")
    if case.label is None:
        return
    label = case.label()
    assert first is not None  # every door gives a channel
    _same(first, Grid.from_image(label), "the label map", case.name)
    whole = whole_labels(
        label,
        values,
        f"The label map of {case.name}",
        help="Check which dataset it is, or name all labels.",
    )
    written = sitk.GetImageFromArray(whole.astype(np.uint8))
    # Of the image: the label's own header may be off by a rounding.
    written.SetSpacing(first.spacing_xyz)
    written.SetOrigin(first.origin_xyz)
    written.SetDirection(first.direction)
    _write(written, folder / f"labels{end}" / f"{case.name}.nii.gz")


def _same(first: Grid, other: Grid, what: str, name: str) -> None:
    if difference := first.difference(other):
        raise BadInput(
            f"{what[0].upper() + what[1:]} of {name} lies on another grid than its image: "
            f"{difference}.",
            help="Resample one onto the other first.",
            code="grid-mismatch",
        )


def _write(image: sitk.Image, path: Path) -> None:
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(f"{path.name} could not be written") from error
