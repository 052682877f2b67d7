"""Any folder: images and label maps that a pattern pairs."""

from __future__ import annotations

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

    Args:
        folder: that the patterns are relative to.
        images: a pattern a channel.
        labels: of the label maps; a case without one goes to imagesTs.
        names: of the labels 1, 2 ….
        channels: a name a channel.

    Raises:
        BadInput: a pattern without {case}, unequal numbers of patterns and names, a channel that a
            case lacks.
    """
    for pattern in (*images, labels):
        if pattern.count(_CASE) != 1:
            raise BadInput(
                f"The pattern {pattern} has to hold {_CASE} once.",
                help=f'For example --images "scans/{_CASE}_t1.nii.gz".',
                code="bad-pattern",
            )
    if len(images) != len(channels):
        raise BadInput(
            f"{len(images)} image patterns and {len(channels)} channel names do not go together.",
            help="Give --channel once for each --images.",
            code="bad-pattern",
        )
    found = [_matching(folder, pattern) for pattern in images]
    truth = _matching(folder, labels)
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
    values = {"background": 0, **{name: value for value, name in enumerate(names, 1)}}
    return Found(tuple(channels), values, cases)


def _matching(folder: Path, pattern: str) -> dict[str, Path]:
    """Case -> file; {case} stands for anything within one name of a path."""
    before, after = (re.escape(part) for part in pattern.split(_CASE))
    expression = re.compile(f"{before}([^/]+?){after}")
    matching = {}
    for path in sorted(folder.glob(pattern.replace(_CASE, "*"))):
        match = expression.fullmatch(path.relative_to(folder).as_posix())
        if match and not path.name.startswith("."):
            matching[match[1]] = path
    return matching
