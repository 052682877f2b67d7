"""A label map as DICOM SEG on the series it was made from (DICOM PS3.3 A.51), by highdicom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import highdicom as hd
import numpy as np
import pydicom
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from e2enet import __version__
from e2enet.events import BadInput

_MAKER = "E2ENetSegmentation"
_LONG = 64  # characters of a DICOM long string
_SERIES_OFFSET = 1000  # what is derived from series 3 is series 1003
# For a structure without codes, as other programs do: a tissue of the kind tissue.
_TISSUE = {"scheme": "SCT", "code": "85756007", "meaning": "Tissue"}
# Of type 2: a SEG has to have them, but they may be empty, and anonymised series lack them.
_MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


class Structure(Protocol):
    """What is known of one structure: a label of a bundle or of a result."""

    @property
    def value(self) -> int:
        """In the label map."""

    @property
    def values(self) -> tuple[int, ...]:
        """Of a region, all numbers in the label map that belong to it; else empty."""

    @property
    def name(self) -> str:
        """For a person."""

    @property
    def color(self) -> tuple[int, int, int]:
        """Red, green, blue from 0 to 255."""

    @property
    def terminology(self) -> Mapping[str, Any]:
        """Codes as `e2enet.bundle.Label` has them."""


@dataclass(frozen=True)
class Algorithm:
    """What made a segmentation.

    Attributes:
        model, title: Name of the model, and the one for a person.
        weights_sha256: Of its weights.
        edited: Whether a person changed the result since.
    """

    model: str
    title: str
    weights_sha256: str
    edited: bool = False


def make_seg(
    label: np.ndarray,
    structures: Sequence[Structure],
    *,
    files: Sequence[Path],
    spacing: float,
    algorithm: Algorithm,
) -> Dataset:
    """A binary DICOM SEG in the frame of reference of its source, one segment a structure.

    Args:
        label: (z, y, x) label map, on the voxels of the source; of a file of several frames in
            the order of the frames.
        structures: What its values mean; those without a voxel are left out.
        files: The source series in the order of z.
        spacing: Distance of its slices in mm.
        algorithm: What made it.

    Returns:
        The data set, to be written with `save_as`.

    Raises:
        BadInput: Nothing was segmented, or the source lacks what a SEG has to repeat, such as its
            frame of reference.
    """
    there = set(np.unique(label).tolist())
    found = [structure for structure in structures if there & set(numbers_of(structure))]
    if not found:
        raise BadInput(
            "There is nothing to write: no structure has a voxel.",
            help="A DICOM SEG needs at least one segment.",
            code="empty-seg",
        )
    sources = [_read(file) for file in files]
    for source in sources if len(sources) > 1 else ():
        # Repeated in the SEG; the distance is often missing or wrong, and the positions tell it.
        source.SpacingBetweenSlices = spacing
        source.SliceThickness = source.get("SliceThickness") or spacing
    first = sources[0]
    try:
        seg = Segmentation(
            source_images=sources,
            pixel_array=_pixels(label, found),
            segmentation_type="BINARY",
            segment_descriptions=[
                _describe(number, structure, algorithm) for number, structure in enumerate(found, 1)
            ],
            series_instance_uid=hd.UID(),
            series_number=int(first.get("SeriesNumber") or 0) + _SERIES_OFFSET,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=_MAKER,
            manufacturer_model_name=algorithm.model[:_LONG],
            software_versions=__version__,
            device_serial_number=algorithm.weights_sha256[:16] or "0",
            content_description=algorithm.title[:_LONG],
            content_creator_name=f"{_MAKER}^",  # one component only
            content_label="SEGMENTATION",
            series_description=algorithm.title[:_LONG],
        )
    except (AttributeError, ValueError, TypeError, KeyError) as error:
        text = str(error).rstrip(".")
        raise BadInput(
            f"{files[0].name} lacks what a DICOM SEG needs of its source: {text}.",
            help="Export the series again from the archive, with all its attributes.",
            code="dicom-incomplete",
        ) from error
    for item, structure in zip(seg.SegmentSequence, found, strict=True):
        modifier = structure.terminology.get("modifier")
        if modifier:
            kind = item.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(modifier)]
    return seg


def numbers_of(structure: Structure) -> tuple[int, ...]:
    """All numbers in the label map that belong to a structure; of a region several."""
    return tuple(structure.values) or (structure.value,)


def _pixels(label: np.ndarray, found: Sequence[Structure]) -> np.ndarray:
    """Segment numbers (z, y, x), or for regions, which may overlap, (z, y, x, segment)."""
    if any(structure.values for structure in found):
        return np.stack([np.isin(label, numbers_of(one)) for one in found], -1).astype(np.uint8)
    highest = max(int(label.max()), *(structure.value for structure in found))
    numbers = np.zeros(highest + 1, np.uint8 if len(found) < 256 else np.uint16)
    for number, structure in enumerate(found, 1):
        numbers[structure.value] = number
    return numbers[label]


def _read(file: Path) -> Dataset:
    try:
        source = pydicom.dcmread(file, stop_before_pixels=True)
        for name in _MAY_BE_EMPTY:
            if name not in source:
                setattr(source, name, "")
        if "PerFrameFunctionalGroupsSequence" in source:
            _share(source)
        return source
    except (InvalidDicomError, OSError) as error:
        raise BadInput(
            f"{file.name} cannot be read as DICOM: {error}.",
            help="Export the series again.",
            code="damaged-file",
        ) from error


def _share(source: Dataset) -> None:
    """Say once what the frames of a volume say alike, as highdicom wants it."""
    if not source.get("SharedFunctionalGroupsSequence"):
        source.SharedFunctionalGroupsSequence = [Dataset()]
    shared = source.SharedFunctionalGroupsSequence[0]
    frame = source.PerFrameFunctionalGroupsSequence[0]
    for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if name not in shared and name in frame:
            setattr(shared, name, frame[name].value)


def _describe(number: int, structure: Structure, algorithm: Algorithm) -> SegmentDescription:
    terms = structure.terminology
    made_by = hd.AlgorithmIdentificationSequence(
        name=f"E2ENet {algorithm.model}"[:_LONG],
        family=codes.cid7162.ArtificialIntelligence,
        version=__version__,
        source=_MAKER,
    )
    return SegmentDescription(
        segment_number=number,
        segment_label=structure.name[:_LONG],
        segmented_property_category=_code(terms.get("category") or _TISSUE),
        segmented_property_type=_code(terms.get("type") or _TISSUE),
        algorithm_type="SEMIAUTOMATIC" if algorithm.edited else "AUTOMATIC",
        algorithm_identification=made_by,
        tracking_uid=hd.UID(),
        tracking_id=structure.name[:_LONG],
        display_color=hd.color.CIELabColor.from_rgb(*structure.color),
    )


def _code(term: Mapping[str, Any]) -> Code:
    return Code(str(term["code"]), str(term["scheme"]), str(term["meaning"])[:_LONG])


def _concept(term: Mapping[str, Any]) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept.from_code(_code(term))
