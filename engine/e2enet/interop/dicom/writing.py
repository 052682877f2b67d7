"""From a DICOM series and a model to a DICOM SEG, or from a label map that was made before."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from e2enet.bundle.description import read_label
from e2enet.data.axes import three
from e2enet.data.images.dicom.headers import read_header
from e2enet.data.images.dicom.stacking import open_source
from e2enet.data.images.dicom.zipped import is_zip
from e2enet.data.images.naming import image_stem
from e2enet.data.images.orientation import to_canonical
from e2enet.data.images.volume import Grid, Volume
from e2enet.data.images.volume import read_label as read_label_map
from e2enet.events import BadInput
from e2enet.extras import need_package
from e2enet.files import check_writable, output_errors, replacing
from e2enet.inference.case.result import Outputs, Result
from e2enet.inference.segmenter import segment

if TYPE_CHECKING:
    from e2enet.interop.dicom.seg import Algorithm, Structure

ENDING = ".dcm"
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Written:
    """A DICOM SEG on the disk."""

    path: Path
    series_uid: str
    sop_instance_uid: str


def segment_to_seg(
    inputs: PathLike | Sequence[PathLike],
    model: Any,
    output: PathLike,
    *,
    series: str | Sequence[str] | None = None,
    **options: Any,
) -> tuple[Result, Outputs]:
    """Segment a DICOM series into a DICOM SEG, with volumes and manifest beside it.

    Args:
        inputs, model, series, options: As `e2enet.inference.segment`.
        output: A name that ends in .dcm.

    Raises:
        BadInput: As `segment`; the input is no DICOM, or highdicom is not installed.
    """
    paths = [Path(p) for p in ([inputs] if isinstance(inputs, (str, os.PathLike)) else inputs)]
    outputs = Outputs.of(output, (ENDING,))
    outputs.check(paths)
    _need()
    _check_dicom(paths[0])
    result = segment(paths, model, series=series, **options)
    source = result.manifest["inputs"][0]

    def write(path: Path) -> None:
        volume = Volume(result.label, result.grid, outputs.segmentation.name)
        made_by = _algorithm(result.manifest["model"], edited=False)
        _write(path, volume, result.labels, paths[0], source["series_uid"], made_by)

    return result, result.save_as(outputs, write)


def label_map_to_seg(
    labels: PathLike,
    source: PathLike,
    output: PathLike,
    *,
    manifest: PathLike | None = None,
    series: str | None = None,
) -> Written:
    """Write a label map that was made before as DICOM SEG.

    Args:
        labels: The label map, on the grid of the series.
        source: The DICOM folder, its zip or one file of the series that was segmented.
        output: A name that ends in .dcm.
        manifest: The record of the run, with names, codes and model; by default the one beside the
            label map. `"edited": true` in it says that a person changed the result.
        series: Which series of a folder or zip; by default the one that the manifest names.

    Raises:
        BadInput: The source is no DICOM or lies elsewhere, or a value of the label map is not in
            the manifest.
    """
    target = Path(output)
    if not target.name.lower().endswith(ENDING):
        raise BadInput(
            f"{target} is no name for a DICOM SEG.",
            help=f"Choose a file name that ends in {ENDING}.",
            code="output-format",
        )
    check_writable(target)
    _need()
    _check_dicom(Path(source))
    path = Path(labels)
    record = Path(manifest) if manifest else path.with_name(f"{image_stem(path)}.manifest.json")
    structures, made_by, segmented = _read_manifest(record)
    volume = read_label_map(path)
    named = {value for one in structures for value in (one.value, *one.values)}
    unknown = set(np.unique(volume.array).tolist()) - {0, *named}
    if unknown:
        raise BadInput(
            f"{path.name} holds the label {min(unknown)}, which {record.name} does not name.",
            help="Give the manifest of the run that made it.",
            code="unknown-label",
        )
    with output_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target, ENDING) as temporary:
            written = _write(
                temporary, volume, structures, Path(source), series, made_by, likely=segmented
            )
    return replace(written, path=target)


def _need() -> None:
    need_package("highdicom", "dicom", "Writing DICOM SEG")


def _check_dicom(path: Path) -> None:
    if path.is_file() and not is_zip(path) and read_header(path) is None:
        raise BadInput(
            f"{path.name} is no DICOM image, so that no DICOM SEG can refer to it.",
            help="Give the DICOM series, or choose an output that ends in .nii.gz.",
            code="not-dicom",
        )


def _write(
    path: Path,
    label: Volume,
    structures: Sequence[Structure],
    source: Path,
    series: str | None,
    algorithm: Algorithm,
    *,
    likely: str = "",
) -> Written:
    from e2enet.interop.dicom.seg import make_seg

    with open_source(source, series, likely=likely) as found:
        grid = Grid(
            three(found.size_xyz),
            three(found.spacing_xyz),
            three(found.origin_xyz),
            found.direction,
        )
        array = _on_grid(label, grid, source.name)
        if found.frames:  # in the order of the file
            array = array[np.argsort(found.frames)]
        made = make_seg(
            array,
            structures,
            files=found.files,
            spacing=grid.spacing_xyz[2],
            algorithm=algorithm,
        )
    made.save_as(path)
    return Written(path, str(made.SeriesInstanceUID), str(made.SOPInstanceUID))


def _on_grid(label: Volume, grid: Grid, name: str) -> np.ndarray:
    """The label map on the source's voxels; other programs may count them from another corner."""
    turned, _ = to_canonical(label)
    place, undo = to_canonical(Volume(np.empty(grid.shape, np.uint8), grid))
    difference = turned.grid.difference(place.grid)
    if difference:
        raise BadInput(
            f"{label.name} does not lie on the DICOM series in {name}: {difference}.",
            help="Give the series that was segmented.",
            code="grid-mismatch",
        )
    return undo(turned.array)


def _read_manifest(path: Path) -> tuple[list[Structure], Algorithm, str]:
    """The structures, what made them, and the UID of the series; "" where it was no DICOM."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        structures: list[Structure] = [read_label(entry) for entry in content["labels"]]
        inputs = content.get("inputs") or [{}]
        made_by = _algorithm(content["model"], edited=bool(content.get("edited")))
        return structures, made_by, str(inputs[0].get("series_uid") or "")
    except FileNotFoundError:
        raise BadInput(
            f"{path} does not exist.",
            help="Name the manifest of the run that made the label map.",
            code="missing-file",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path.name} is no manifest of a segmentation: {error!r}.",
            help="Name the .manifest.json that lies beside a result.",
            code="bad-manifest",
        ) from error


def _algorithm(model: Mapping[str, Any], *, edited: bool) -> Algorithm:
    from e2enet.interop.dicom.seg import Algorithm

    name = str(model["name"])
    title = str(model.get("title") or name)
    return Algorithm(name, title, str(model.get("weights_sha256") or ""), edited)
