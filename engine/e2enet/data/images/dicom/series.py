"""The series in a folder, and which of them is meant."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2enet.data.images.dicom.headers import Header, read_header
from e2enet.events import BadInput

AUTO = "auto"
_MR = ("MR", "MRI")
# Segmentations, structure sets, reports, presentation states, key objects, doses, registrations.
_DERIVED = ("SEG", "RTSTRUCT", "SR", "PR", "KO", "RTDOSE", "RTPLAN", "REG")


@dataclass(frozen=True)
class Series:
    """The images of one series, in the order of their files."""

    headers: tuple[Header, ...]

    @property
    def uid(self) -> str:
        """Series Instance UID."""
        return self.headers[0].uid

    @property
    def frames(self) -> int:
        """Number of images, those in files of several frames included."""
        return sum(header.frames for header in self.headers)

    def describe(self) -> str:
        """The series for a person: number, modality, description, number of files."""
        first = self.headers[0]
        text = " ".join(part for part in (first.modality, first.description) if part)
        number = f"series {first.number}: " if first.number else ""
        count = len(self.headers)
        files = f"{count} file{'s' if count > 1 else ''}, such as {first.path.name}"
        return f"{number}{text or 'unnamed'} ({files})"

    @property
    def modality(self) -> str:
        """Modality of its images; "" where they do not say."""
        return self.headers[0].modality

    @property
    def is_image(self) -> bool:
        """Whether it is not made from images: no segmentation, structure set or report."""
        return self.modality not in _DERIVED

    def fits(self, modality: str) -> bool:
        """Whether it is of this modality ("" for any)."""
        wanted = modality.upper()
        return not wanted or self.modality == wanted or (self.modality, wanted) == _MR

    def is_volume_for(self, modality: str) -> bool:
        """Whether it can be what a model for this modality ("" for any) is given."""
        placed = all(header.rows is not None or header.frames > 1 for header in self.headers)
        scout = any(header.localizer for header in self.headers)
        return self.fits(modality) and self.is_image and placed and not scout and self.frames > 1


def find_series(folder: Path, *, below: bool = True) -> list[Series]:
    """The series of images in a folder.

    Args:
        folder: Where the files lie.
        below: Also in the folders below it.

    Raises:
        BadInput: One of their files is damaged.
    """
    found: dict[str, list[Header]] = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(folders) if below else []
        for file in sorted(files):
            header = read_header(Path(parent, file))
            if header is not None:
                found.setdefault(header.uid, []).append(header)
    return [Series(tuple(headers)) for headers in found.values()]


def choose_series(
    found: Sequence[Series], name: str, *, wanted: str | None = None, modality: str = ""
) -> Series:
    """The one series that is meant.

    Args:
        found: The series there are; of those that are no images none is meant.
        name: What messages call the place they lie in.
        wanted: A series' number, a part of its description, or its UID. None or "auto": the only
            one that is a volume of the modality.
        modality: "MR", "CT", or "" for any.

    Raises:
        BadInput: No series of images, several that are meant, or images of several patients.
    """
    images = [series for series in found if series.is_image]
    if not images:
        only = f", only {', '.join(sorted({series.modality for series in found}))}"
        raise BadInput(
            f"{name} holds no DICOM series{' of images' + only if found else ''}.",
            help="Give an image file, or the folder in which the DICOM files lie.",
            code="no-dicom",
        )
    if wanted is None or wanted.casefold() == AUTO:
        _refuse_several_patients(images, name)
        volumes = [series for series in images if series.is_volume_for(modality)]
        meant = images if len(images) == 1 else volumes or images
    else:
        meant = _named(images, wanted)
        if not meant:
            raise BadInput(
                f"{name} holds no series {wanted!r}, but {len(images)} DICOM series: "
                f"{_listed(images)}.",
                help="Name one by its number, a part of its description or its UID.",
                code="no-such-series",
            )
    if len(meant) > 1:
        which = "DICOM series" if len(meant) == len(images) else "DICOM series that may be meant"
        raise BadInput(
            f"{name} holds {len(meant)} {which}: {_listed(meant)}.",
            help="Choose one with --series: its number, a part of its description or its UID; or "
            "give the path of one of its files.",
            code="several-series",
        )
    _refuse_several_patients(meant, name)
    return meant[0]


def series_of(path: Path) -> Series:
    """The series that one DICOM file belongs to, from the file's folder.

    Raises:
        BadInput: The file is no DICOM image.
    """
    for series in find_series(path.parent, below=False):
        if any(header.path.samefile(path) for header in series.headers):
            if not series.is_image:
                raise BadInput(
                    f"{path.name} is a DICOM {series.modality}, no image.",
                    help="Give the series that it was made from; a segmentation can be exported "
                    "as NIfTI, such as by 3D Slicer.",
                    code="no-dicom",
                )
            return series
    raise BadInput(f"{path.name} is no DICOM image.", code="no-dicom")


def _named(found: Sequence[Series], wanted: str) -> list[Series]:
    """The series with this UID, number, description, or part of a description: the first hit."""
    text = wanted.strip().casefold()
    firsts = [(series, series.headers[0]) for series in found]
    for hits in (
        [series for series, first in firsts if first.uid == text],
        [series for series, first in firsts if first.number and first.number == text],
        [series for series, first in firsts if first.description.casefold() == text],
        [series for series, first in firsts if text and text in first.description.casefold()],
    ):
        if hits:
            return hits
    return []


def _refuse_several_patients(found: Sequence[Series], name: str) -> None:
    patients = {header.patient for series in found for header in series.headers}
    if len(patients) > 1:
        raise BadInput(
            f"{name} holds images of {len(patients)} patients: {_listed(found)}.",
            help="Put each patient into a folder of their own, or choose a series with --series.",
            code="several-patients",
        )


def _listed(found: Sequence[Series]) -> str:
    return "; ".join(series.describe() for series in found)
