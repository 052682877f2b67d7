"""What a door finds in a folder: cases, and how their files become channels and a label map."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from e2enet.data.images.reading import open_image
from e2enet.events import BadInput

Opener = Callable[[], sitk.Image]


@dataclass(frozen=True)
class FoundCase:
    """One case.

    Args:
        name: what its files will be called.
        channels: each opens one channel.
        label: opens the label map; None for a case without.
        test: whether it goes to imagesTs.
    """

    name: str
    channels: tuple[Opener, ...]
    label: Opener | None = None
    test: bool = False


@dataclass(frozen=True)
class Found:
    """A dataset in somebody's folder.

    Args:
        channel_names: one a channel.
        labels: {name: value}, values 0 … n.
        cases: in any order.
        about: more for dataset.json, such as the licence.
    """

    channel_names: tuple[str, ...]
    labels: dict[str, int]
    cases: list[FoundCase]
    about: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Image:
    """Opens an image file, a DICOM folder, or one volume of a 4D file.

    Args:
        path: of the file or folder.
        volume: index along the fourth axis, or None for a 3D file.
    """

    path: Path
    volume: int | None = None

    def __call__(self) -> sitk.Image:
        if self.volume is None:
            return open_image(self.path).image
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(self.path))
        try:
            reader.ReadImageInformation()
            size = reader.GetSize()
            if len(size) != 4 or not self.volume < size[3]:
                raise BadInput(
                    f"{self.path} holds no channel {self.volume}.", code="missing-channel"
                )
            reader.SetExtractSize([*size[:3], 0])
            reader.SetExtractIndex([0, 0, 0, self.volume])
            return reader.Execute()
        except RuntimeError as error:
            raise BadInput(f"{self.path} cannot be read.", code="unreadable") from error


@dataclass(frozen=True)
class Renumbered:
    """Opens a label map whose values mean something else there.

    Args:
        source: opens the original.
        values: original value -> ours; 0 stays 0, and others are refused.
        help: what to do about others.
    """

    source: Image
    values: Mapping[int, int]
    help: str

    def __call__(self) -> sitk.Image:
        image = self.source()
        theirs = whole_labels(image, {0, *self.values}, str(self.source.path), self.help)
        ours = np.zeros(theirs.shape, np.uint8)
        for old, new in self.values.items():
            ours[theirs == old] = new
        renumbered = sitk.GetImageFromArray(ours)
        renumbered.CopyInformation(image)
        return renumbered


def whole_labels(image: sitk.Image, values: Collection[int], what: str, help: str) -> np.ndarray:
    """A label map's values as whole numbers (D, H, W).

    Args:
        image: the label map.
        values: those that it may hold.
        what: the map, for the message.
        help: what to do about other values.

    Raises:
        BadInput: a value that is none of them.
    """
    array = sitk.GetArrayFromImage(image)
    with np.errstate(invalid="ignore"):  # NaN, which is near no whole number
        whole = np.rint(array).astype(np.int64)
    known = np.isclose(array, whole, rtol=0, atol=1e-3) & np.isin(whole, list(values))
    if not known.all():
        odd = np.unique(array[~known])[:3]
        raise BadInput(
            f"{what} holds {', '.join(f'{v:g}' for v in odd)}, which is none of the labels of this "
            "dataset.",
            help=help,
            code="unknown-label",
        )
    return whole


def check_labels(folder: Path, cases: Sequence[FoundCase]) -> None:
    """Refuse a case without a label map among cases with one: it would become a test case."""
    bare = [case.name for case in cases if case.label is None]
    if bare and len(bare) < len(cases):
        raise BadInput(
            f"{folder} holds label maps, but none of {bare[0]}.",
            help="Download the case again, or move cases to test on to a folder of their own.",
            code="missing-label",
        )


def folders(path: Path) -> list[Path]:
    """The folders in a folder, numbers in their order, hidden ones left out."""
    if not path.is_dir():
        return []
    return sorted((p for p in path.iterdir() if p.is_dir() and p.name[0] != "."), key=natural)


def files(path: Path, pattern: str) -> list[Path]:
    """The files of a folder that match, numbers in their order, hidden ones left out."""
    return sorted((p for p in path.glob(pattern) if p.name[0] != "."), key=natural)


def natural(path: Path) -> list[tuple[int, int | str]]:
    """Sorts a2 before a10."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]
