"""BraTS, the Brain Tumor Segmentation challenge (Menze et al., IEEE TMI 2015), from 2017."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from e2enet.data.datasets.importing.found import (
    Found,
    FoundCase,
    Image,
    Renumbered,
    check_labels,
    files,
    folders,
)
from e2enet.events import BadInput

# What a file's name ends in: to 2022, from 2023.
_CHANNELS = {
    "FLAIR": ("flair", "t2f"), "T1": ("t1", "t1n"), "T1c": ("t1ce", "t1c"), "T2": ("t2", "t2w"),
}  # fmt: skip
# Case 355 of 2020 was published with W39_1998.09.19_Segm.nii.
_FILES = {
    ending: what
    for what, endings in {**_CHANNELS, "label map": ("seg", "Segm")}.items()
    for ending in endings
}
_FILE = re.compile(rf".+[_-]({'|'.join(_FILES)})\.nii(\.gz)?")
_LABELS = {"background": 0, "oedema": 1, "necrosis": 2, "enhancing tumour": 3}
# Only in these is 4 the enhancing tumour. In other folders it may be the resection cavity of 2024.
_TO_2022 = re.compile(r"brats(17|18|19|20|2021)_", re.IGNORECASE)
_HELP = (
    "Enhancing tumour is 4 in folders with a name of 2017 to 2022, such as BraTS20_Training_001, "
    "and 3 in all others. Label maps with a resection cavity, as of 2024, cannot be imported."
)


def read_brats(folder: Path) -> Found:
    """A folder a case, a file a channel.

    Values become 1 oedema, 2 necrosis, 3 enhancing (there 2, 1 and 4, or 3 from 2023), so that each
    region is its value and those above: whole tumour 1 2 3, core 2 3, enhancing 3. Cases of a
    folder in which none has a label map are test cases.

    Args:
        folder: with the cases, or with folders of cases at any depth (HGG and LGG, training and
            validation).

    Raises:
        BadInput: a case without one of its channels, with two files for one, or without a label map
            among others with one. Other values of a label map are refused as it is opened.
    """
    parts: dict[Path, list[FoundCase]] = {}
    for case, found in _folders(folder):
        parts.setdefault(case.parent, []).append(_case(case, found))
    for part, cases in parts.items():
        check_labels(part, cases)
    all_cases = [case for cases in parts.values() for case in cases]
    return Found(tuple(_CHANNELS), dict(_LABELS), all_cases)


def _folders(folder: Path) -> Iterator[tuple[Path, dict[str, Path]]]:
    """Each case's folder, and what it holds: "FLAIR" … "label map" -> file."""
    for path in folders(folder):
        found: dict[str, Path] = {}
        for file in files(path, "*"):
            if match := _FILE.fullmatch(file.name):
                what = _FILES[match[1]]
                if what in found:
                    raise BadInput(
                        f"{path} holds two files for its {what}: {found[what].name} and "
                        f"{file.name}.",
                        help="Move one of them away.",
                        code="ambiguous-case",
                    )
                found[what] = file
        if found:
            yield path, found
        else:
            yield from _folders(path)


def _case(case: Path, found: dict[str, Path]) -> FoundCase:
    for channel, endings in _CHANNELS.items():
        if channel not in found:
            raise BadInput(
                f"{case} has no {channel} image.",
                help=f"Its name ends in {' or '.join(endings)}; download the case again.",
                code="missing-channel",
            )
    channels = tuple(Image(found[channel]) for channel in _CHANNELS)
    if "label map" not in found:
        return FoundCase(case.name, channels, test=True)
    values = {2: 1, 1: 2, 4 if _TO_2022.match(case.name) else 3: 3}
    return FoundCase(case.name, channels, Renumbered(Image(found["label map"]), values, _HELP))
