"""Any folder: images and label maps that a pattern pairs."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from e2enet.data.datasets.importing.found import Found, FoundCase, Image
from e2enet.events import BadInput

_CASE = "{case}"


def read_pattern(
    folder: Path,
    *,
    images: Sequence[str],
    labels: str,
    names: Sequence[str],
    channels: Sequence[str],
) -> Found:
    """Pair files by what stands at {case} in patterns such as "scans/{case}_t1.nii.gz".

    A file that several patterns fit belongs to the longest: with "{case}.nii.gz" for images and
    "{case}_seg.nii.gz" for label maps, a_seg.nii.gz is the label map of a, and no image.

    Args:
        folder: that the patterns are relative to.
        images: a pattern a channel.
        labels: of the label maps; a case without one goes to imagesTs.
        names: of the labels 1, 2 ….
        channels: a name a channel.

    Raises:
        BadInput: a pattern without {case} or not relative, unequal numbers of patterns and names, a
            label's name given twice, a channel that a case lacks, a label map without an image.
    """
    patterns = (*images, labels)
    label_names = ("background", *names)
    _check(folder, patterns, label_names, channels)
    matching = {pattern: _matching(folder, pattern) for pattern in patterns}
    owner = {
        path: pattern
        for pattern in sorted(matching, key=len)
        for path in matching[pattern].values()
    }
    *found, truth = (
        {case: path for case, path in matching[pattern].items() if owner[path] == pattern}
        for pattern in patterns
    )
    cases = []
    for case in sorted(set().union(*found)):
        for pattern, paths in zip(images, found, strict=True):
            if case not in paths:
                raise BadInput(
                    f"{folder} has no {pattern.replace(_CASE, case)}.",
                    help="Every case needs a file for each --images.",
                    code="missing-channel",
                )
        label = Image(truth[case]) if case in truth else None
        name = re.sub(r"[^\w.-]", "_", case)
        channel_images = tuple(Image(paths[case]) for paths in found)
        cases.append(FoundCase(name, channel_images, label, label is None))
    if alone := sorted(set(truth) - set().union(*found)):
        raise BadInput(
            f"{truth[alone[0]]} has no {images[0].replace(_CASE, alone[0])} to it.",
            help="Every label map needs its image; correct the patterns, or move it away.",
            code="missing-file",
        )
    values = {name: value for value, name in enumerate(label_names)}
    return Found(tuple(channels), values, cases)


def _check(
    folder: Path, patterns: Sequence[str], names: Sequence[str], channels: Sequence[str]
) -> None:
    for pattern in patterns:
        if Path(pattern).anchor:
            raise BadInput(
                f"The pattern {pattern} is absolute.",
                help=f"Write it as seen from {folder}.",
                code="bad-pattern",
            )
        if pattern.count(_CASE) != 1:
            raise BadInput(
                f"The pattern {pattern} has to hold {_CASE} once.",
                help=f'For example --images "scans/{_CASE}_t1.nii.gz".',
                code="bad-pattern",
            )
    if len(patterns) - 1 != len(channels):
        raise BadInput(
            f"{len(patterns) - 1} image patterns and {len(channels)} channel names do not go "
            "together.",
            help="Give --channel once for each --images.",
            code="bad-pattern",
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadInput(
            f"The label name {twice[0]} is given twice.",
            help="Give --name once for each label but the background, each another name.",
            code="bad-pattern",
        )


def _matching(folder: Path, pattern: str) -> dict[str, Path]:
    """Case -> file; {case} stands for anything within one name of a path, all else for itself."""
    before, after = pattern.split(_CASE)
    expression = re.compile(f"{re.escape(before)}([^/]+?){re.escape(after)}")
    matching = {}
    for path in sorted(folder.glob(f"{glob.escape(before)}*{glob.escape(after)}")):
        match = expression.fullmatch(path.relative_to(folder).as_posix())
        if match and not path.name.startswith("."):
            matching[match[1]] = path
    return matching
