"""What is to be segmented: one case from files, a DICOM folder or memory, or a folder of cases."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2enet.data.images.memory import is_image, volumes_of
from e2enet.data.images.naming import image_stem, is_image_name
from e2enet.data.images.volume import Volume
from e2enet.events import BadInput

_CHANNEL = re.compile(r"(.+)_(\d{4})")


@dataclass(frozen=True)
class InputCase:
    """One case: a path for each channel, each a file, a DICOM folder or a zip of one.

    Attributes:
        name: What messages and results call it.
        paths: One a channel; none for images that are in memory.
        series: Which DICOM series each is (`e2enet.data.images.volume.read_image`); empty where
            nothing was said.
        images: In the place of paths.
    """

    name: str
    paths: tuple[Path, ...]
    series: tuple[str, ...] = ()
    images: tuple[Volume, ...] = ()

    @property
    def channels(self) -> tuple[Path | Volume, ...]:
        """What each channel is read from."""
        return self.images or self.paths


def is_case_folder(path: Path) -> bool:
    """Whether a path is a folder of image files (and not of a DICOM series)."""
    return path.is_dir() and bool(_images(path))


def find_case(
    paths: Sequence[str | os.PathLike[str]], series: Sequence[str] | None = None
) -> InputCase:
    """One case from the paths of its channels.

    Args:
        paths: One a channel; a single DICOM folder or zip may hold all of them.
        series: Which DICOM series each channel is.

    Raises:
        BadInput: A path is missing or a dataset's folder, or there are more or fewer series.
    """
    chosen = tuple(Path(path) for path in paths)
    series = tuple(series or ())
    if len(chosen) == 1 and len(series) > 1:
        chosen *= len(series)
    if series and len(series) != len(chosen):
        raise BadInput(
            f"{len(series)} series were chosen for {len(chosen)} inputs.",
            help="Give --series once an input, or one input that holds them all.",
            code="series-count",
        )
    for path in chosen:
        if not path.exists():
            raise BadInput(f"{path} does not exist.", code="missing-file")
        if (path / "dataset.json").is_file():
            folders = [name for name in ("imagesTs", "imagesTr") if (path / name).is_dir()]
            raise BadInput(
                f"{path} is the folder of a dataset, not of images.",
                help=f"Give its {' or '.join(folders)}." if folders else "Give a folder of images.",
                code="dataset-folder",
            )
    case, channel = _split(chosen[0])
    return InputCase(case if channel == 0 else image_stem(chosen[0]), chosen, series)


def case_in_memory(images: Sequence[Any]) -> InputCase:
    """One case from the images of its channels.

    Args:
        images: As `e2enet.data.images.memory.volumes_of` takes them; one may hold several channels.

    Raises:
        BadInput: Something is no image with a grid.
    """
    names = [f"image {number}" if len(images) > 1 else "image" for number in range(len(images))]
    volumes: list[Volume] = []
    for image, name in zip(images, names, strict=True):
        if not is_image(image):
            raise BadInput(
                f"{image} is a path beside images in memory.",
                help="Give files only or images only.",
                code="mixed-inputs",
            )
        volumes += volumes_of(image, name)
    return InputCase(volumes[0].name, (), images=tuple(volumes))


def find_cases(folder: str | os.PathLike[str], channels: int) -> list[InputCase]:
    """The cases in a folder, sorted by name.

    Files are grouped by nnU-Net's names (`CASE_0000.nii.gz`, `CASE_0001.nii.gz`, …); for a model
    with one channel, files without `_0000` are cases of their own. Whether a case has as many
    channels as the model is for the segmentation to say, so that one incomplete case does not
    stop the others.

    Raises:
        BadInput: No images, or two files that would be the same case.
    """
    folder = Path(folder)
    files = _images(folder)
    if not files:
        raise BadInput(
            f"{folder} holds no images.",
            help="Name a folder of NIfTI, NRRD or MHA files.",
            code="no-images",
        )
    firsts = {case for case, channel in map(_split, files) if channel == 0}
    groups: dict[str, list[Path]] = {}
    for file in files:
        case, channel = _split(file)
        grouped = channel is not None and (channels > 1 or case in firsts)
        groups.setdefault(case if grouped else image_stem(file), []).append(file)
    for name, members in groups.items():
        own = {_split(member) if image_stem(member) != name else (name, 0) for member in members}
        if len(own) < len(members):
            given = ", ".join(member.name for member in members)
            raise BadInput(
                f"{folder} holds the case {name} more than once ({given}).",
                help="Keep one of them.",
                code="ambiguous-case",
            )
    return [InputCase(name, tuple(sorted(members))) for name, members in sorted(groups.items())]


def _split(path: Path) -> tuple[str, int | None]:
    """Case and channel of a file named as nnU-Net does; channel None for another name."""
    match = _CHANNEL.fullmatch(image_stem(path))
    return (match[1], int(match[2])) if match else (image_stem(path), None)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_image_name(path) and path.is_file())
