"""What a door finds in a folder: cases, and how their files become channels and a label map."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
        values: original value -> ours; others become 0.
    """

    source: Opener
    values: Mapping[int, int]

    def __call__(self) -> sitk.Image:
        # Rounding takes no whole numbers, as which most label maps are stored.
        image = sitk.Cast(sitk.Round(sitk.Cast(self.source(), sitk.sitkFloat32)), sitk.sitkInt16)
        # Above what any of the values is, so that a value already changed is not changed again.
        raised = sitk.ChangeLabel(image, {old: 1000 + new for old, new in self.values.items()})
        return sitk.Cast(sitk.Threshold(raised, 1000, 32767, 1000) - 1000, sitk.sitkUInt8)


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
