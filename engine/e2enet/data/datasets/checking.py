"""What will go wrong with a dataset, found before anything is trained on it."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from e2enet.data.axes import times
from e2enet.data.datasets.raw import Case, Dataset, no_label_map, read_case, read_dataset
from e2enet.data.images.finite import count_not_finite
from e2enet.data.images.orientation import to_canonical
from e2enet.data.images.volume import read_image
from e2enet.data.parallel import map_cases
from e2enet.events import BadInput, Reporter

_FAR = 8.0  # median absolute deviations
_SPACING_FACTOR = 3.0
_AXES = ("head to foot", "front to back", "left to right")


@dataclass(frozen=True)
class Finding:
    """Something about a case.

    Args:
        case: its name, or "dataset".
        severity: "error", it cannot be used; "doubt", somebody should look.
        code: stable, in kebab case.
        message: one sentence.
    """

    case: str
    severity: Literal["error", "doubt"]
    code: str
    message: str


@dataclass(frozen=True)
class Seen:
    """What was read of a case.

    Args:
        name: of the case.
        size, spacing: (z, y, x) in canonical orientation, voxels and mm.
        medians, spreads: of each channel's intensities; the spread is from 1 to 99 per cent.
        voxels: of each label that occurs, background left out.
        image_hash, label_hash: of the first channel's and the label map's voxels.
        flip: of the label map along which the two would fit better, or None; not asked of a case in
            which something was not drawn.
        warnings: (code, sentence) pairs from reading the images.
    """

    name: str
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    medians: tuple[float, ...]
    spreads: tuple[float, ...]
    voxels: dict[int, int]
    image_hash: str
    label_hash: str
    flip: str | None
    warnings: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Checked:
    """The outcome of a check.

    Args:
        dataset: what was checked; a case may lack its label map.
        cases: those that could be read.
        findings: errors first, of which a case has at most one.
    """

    dataset: Dataset
    cases: list[Seen]
    findings: list[Finding]

    @property
    def errors(self) -> list[Finding]:
        """The findings for which a case cannot be used."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "dataset": self.dataset.name,
            "cases": [asdict(case) for case in self.cases],
            "findings": [asdict(finding) for finding in self.findings],
        }


def check_dataset(
    folder: str | os.PathLike[str],
    *,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> Checked:
    """Read every training case and compare it with the others and with the test images.

    Args:
        folder: a dataset in nnU-Net's raw layout.
        workers: processes, each with one case; 0 means in this one.
        reporter: gets progress as stages "check" and, for imagesTs, "test images".

    Raises:
        BadInput: dataset.json or the naming of the files is wrong.
    """
    dataset = read_dataset(folder, labels_needed=False)
    reporter = reporter or Reporter()
    looked = map_cases(
        partial(_look, dataset), dataset.cases, workers=workers, reporter=reporter, stage="check"
    )
    seen = [one for one in looked if isinstance(one, Seen)]
    findings = [one for one in looked if isinstance(one, Finding)]
    compared: tuple[Callable[[Dataset, Sequence[Seen]], list[Finding]], ...]
    compared = (
        _warnings, _orphans, _flips, _empty, _absent, _duplicates, _spacings, _intensities
    )  # fmt: skip
    for compare in compared:
        findings += compare(dataset, seen)
    if tests := dataset.test_cases:
        hashes = map_cases(
            _test_image, tests, workers=workers, reporter=reporter, stage="test images"
        )
        findings += _tests_trained_on(seen, tests, hashes)
    return Checked(dataset, seen, findings)


def _look(dataset: Dataset, case: Case) -> Seen | Finding:
    try:
        volumes, label = read_case(dataset, case)
        if label is None:
            raise no_label_map(dataset, case.name)
    except BadInput as error:
        return Finding(case.name, "error", error.code, error.message)
    warnings = [warning for volume in volumes for warning in volume.warnings]
    for path in case.images:
        if wrong := count_not_finite(path):
            message = f"{path.name} holds {wrong} NaN or infinite voxels; they are read as 0."
            warnings.append(("not-finite", message))
    turned = [to_canonical(volume)[0] for volume in volumes]
    classes = to_canonical(label)[0].array
    counts = np.bincount(classes.ravel())
    low, middle, high = np.percentile([v.array.ravel() for v in turned], [1, 50, 99], axis=1)
    return Seen(
        case.name,
        turned[0].grid.shape,
        turned[0].grid.spacing_zyx,
        tuple(middle.tolist()),
        tuple((high - low).tolist()),
        {int(value): int(counts[value]) for value in np.flatnonzero(counts) if value},
        _hash(turned[0].array),
        _hash(classes),
        # What nobody drew is background here, and would be compared as such.
        None if dataset.missing.get(case.name) else better_flip(turned[0].array, classes),
        tuple(warnings),
    )


def _test_image(case: Case) -> str | Finding:
    """The hash of a test case's first channel, as that of a training case."""
    try:
        return _hash(to_canonical(read_image(case.images[0]))[0].array)
    except BadInput as error:  # nothing is trained on it: no reason not to use the dataset
        return Finding(case.name, "doubt", error.code, error.message)


def better_flip(image: np.ndarray, label: np.ndarray) -> str | None:
    """The flip of a label map that would explain the image's intensities much better, if any.

    Compared is the share of the variance, within the box around the labels in both positions, that
    the labels explain (the correlation ratio). Structures that look like their surroundings say
    nothing, and nothing is then found.

    Args:
        image: (z, y, x) in canonical orientation.
        label: (z, y, x) whole numbers.

    Returns:
        "left to right" or another direction, or None.
    """
    if not label.any():
        return None
    best, direction = 0.0, None
    own = 1.0
    for axis, name in enumerate(_AXES):
        flipped = np.flip(label, axis)
        where = _box((label > 0) | (flipped > 0))
        own = _explained(image[where], label[where])
        other = _explained(image[where], flipped[where])
        if other > 0.1 and other > 2 * own and other - own > best:
            best, direction = other - own, name
    return direction


def _explained(values: np.ndarray, groups: np.ndarray) -> float:
    values, groups = values.ravel().astype(np.float64), groups.ravel()
    total = values.var() * values.size
    if total == 0:
        return 0.0
    counts = np.bincount(groups)
    sums = np.bincount(groups, weights=values - values.mean())
    filled = counts > 0
    return float((sums[filled] ** 2 / counts[filled]).sum() / total)


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    parts = []
    for axis in range(mask.ndim):
        others = tuple(k for k in range(mask.ndim) if k != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        parts.append(slice(max(0, int(filled[0]) - 2), int(filled[-1]) + 3))
    return tuple(parts)


def _warnings(dataset: Dataset, cases: Sequence[Seen]) -> list[Finding]:
    return [
        Finding(case.name, "doubt", code, message)
        for case in cases
        for code, message in case.warnings
    ]


def _orphans(dataset: Dataset, cases: Sequence[Seen]) -> list[Finding]:
    maps = (dataset.folder / "labelsTr").glob(f"*{dataset.file_ending}")
    names = {
        path.name.removesuffix(dataset.file_ending)
        for path in maps
        if not path.name.startswith(".")
    }
    return [
        Finding(
            name,
            "doubt",
            "label-without-image",
            f"labelsTr holds {name}{dataset.file_ending}, but imagesTr holds no "
            f"{name}_0000{dataset.file_ending}.",
        )
        for name in sorted(names.difference(dataset.case_names))
    ]


def _flips(dataset: Dataset, cases: Sequence[Seen]) -> list[Finding]:
    return [
        Finding(
            case.name,
            "doubt",
            "flipped-label",
            f"The label map of {case.name} would fit its image better if it were mirrored from "
            f"{case.flip}.",
        )
        for case in cases
        if case.flip
    ]


def _empty(dataset: Dataset, cases: Sequence[Seen]) -> list[Finding]:
    return [
        Finding(case.name, "doubt", "empty-label", f"The label map of {case.name} is empty.")
        for case in cases
        if not case.voxels
    ]


def _absent(dataset: Dataset, cases: Sequence[Seen]) -> list[Finding]:
    if not cases:
        return []
    findings = []
    structures = dataset.structures
    for name, values in structures.values.items():
        judged = [case for case in cases if name in structures.judged(case.name)]
        holding = [case for case in judged if set(values) & set(case.voxels)]
        if not holding:
            message = f"No case has the label {name} ({', '.join(map(str, values))})."
            findings.append(Finding("dataset", "doubt", "label-never-used", message))
        elif len(holding) < len(judged):
            message = f"{len(judged) - len(holding)} of {len(judged)} cases lack the label {name}."
            findings.append(Finding("dataset", "doubt", "label-sometimes-missing", message))
    return findings


def _duplicates(dataset: Dataset, cases: Sequence[Seen]) -> list[Finding]:
    findings = []
    ways: tuple[tuple[str, Callable[[Seen], str]], ...] = (
        ("image", lambda case: case.image_hash),
        ("label map", lambda case: case.label_hash if case.voxels else case.name),
    )
    for what, key in ways:
        for _, group in itertools.groupby(sorted(cases, key=key), key):
            same = [case.name for case in group]
            if len(same) > 1:
                message = f"{' and '.join(same[:5])} have the same {what}."
                code = "duplicate-" + what.replace(" ", "-")
                findings.append(Finding(same[0], "doubt", code, message))
    return findings


def _tests_trained_on(
    cases: Sequence[Seen], tests: Sequence[Case], hashes: Sequence[str | Finding]
) -> list[Finding]:
    findings = []
    for test, found in zip(tests, hashes, strict=True):
        if isinstance(found, Finding):
            findings.append(found)
        elif same := [case.name for case in cases if case.image_hash == found]:
            message = (
                f"{' and '.join(same[:5])} in imagesTr and {test.name} in imagesTs have the same "
                "image."
            )
            findings.append(Finding(same[0], "doubt", "duplicate-test-image", message))
    return findings


def _spacings(dataset: Dataset, cases: Sequence[Seen]) -> list[Finding]:
    if not cases:
        return []
    middle = np.median([case.spacing for case in cases], axis=0).tolist()
    findings = []
    for case in cases:
        ratio = np.divide(case.spacing, middle)
        if ratio.max() > _SPACING_FACTOR or ratio.min() < 1 / _SPACING_FACTOR:
            message = (
                f"{case.name} has a spacing of {_mm(case.spacing)} mm; that of most cases is "
                f"{_mm(middle)} mm."
            )
            findings.append(Finding(case.name, "doubt", "odd-spacing", message))
    return findings


def _intensities(dataset: Dataset, cases: Sequence[Seen]) -> list[Finding]:
    """Spreads are compared as powers of ten: MR has no unit, but a factor of 1000 is odd."""
    findings = []
    for number, channel in enumerate(dataset.channel_names):
        spreads = np.log10([max(case.spreads[number], 1e-9) for case in cases])
        if len(spreads) < 5:
            continue
        middle = np.median(spreads)
        usual = max(float(np.median(np.abs(spreads - middle))), 0.05)
        odd = [
            (case.name, case.spreads[number])
            for case, spread in zip(cases, spreads, strict=True)
            if abs(spread - middle) > _FAR * usual
        ]
        most = f"those of most cases over {10**middle:.3g}."
        if len(odd) > max(3, len(cases) / 10):  # not single cases: scanners with other scales
            low, high = min(spread for _, spread in odd), max(spread for _, spread in odd)
            message = (
                f"The intensities of {len(odd)} of {len(cases)} cases ({channel}) are on other "
                f"scales: they spread over {low:.3g} to {high:.3g}, {most}"
            )
            findings.append(Finding("dataset", "doubt", "several-scales", message))
            continue
        for name, spread in odd:
            message = f"The intensities of {name} ({channel}) spread over {spread:.3g}; {most}"
            findings.append(Finding(name, "doubt", "odd-intensities", message))
    return findings


def _mm(spacing: Sequence[float]) -> str:
    return times([round(float(step), 3) for step in spacing])


def _hash(array: np.ndarray) -> str:
    content = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16)
    content.update(str(array.shape).encode())
    return content.hexdigest()
