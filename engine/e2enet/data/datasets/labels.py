"""What the numbers of a label map mean: nnU-Net's dataset.json notation.

A structure is one value, or a region of several ("whole tumour": [1, 2, 3]); "ignore" marks voxels
that nobody judged. One field is our own, which nnU-Net skips: "missing_labels",
{"CASE": ["liver", "spleen"]}, names the structures that nobody drew in a case. Standard library
only.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from e2enet.events import BadInput

IGNORE, MISSING = "ignore", "missing_labels"


@dataclass(frozen=True)
class Structures:
    """What there is to segment.

    Args:
        values: name -> the label values that make it up; without background and ignore, in the
            order of dataset.json.
        ignore: the value of voxels that nobody judged, or None.
        order: for regions: the value that each region, in the order of `values`, gives to its
            voxels in a predicted label map; later regions overwrite earlier ones. Empty without
            regions.
        missing: case -> the structures that nobody drew in it; other cases have all.
    """

    values: dict[str, tuple[int, ...]]
    ignore: int | None = None
    order: tuple[int, ...] = ()
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def known(self) -> frozenset[int]:
        """Every value that a reference may hold."""
        listed = {0, *(value for values in self.values.values() for value in values)}
        return frozenset(listed if self.ignore is None else listed | {self.ignore})

    def judged(self, case: str) -> dict[str, tuple[int, ...]]:
        """The structures that a case has, or that were looked for in it."""
        missing = self.missing.get(case, ())
        return {name: values for name, values in self.values.items() if name not in missing}


def parse_structures(record: Mapping[str, Any], where: str) -> Structures:
    """The structures of a dataset.json ("labels", "regions_class_order", "missing_labels").

    Takes nnU-Net's notation ({"liver": 1}, {"tumour": [1, 2]}, {"ignore": 4}) and that of nnU-Net
    v1 and the Medical Segmentation Decathlon ({"1": "liver"}).

    Args:
        record: the content of dataset.json.
        where: its path, for messages.

    Raises:
        BadInput: no labels, values that are no whole numbers, regions that overlap without an
            order, an ignore label that is not the highest value, a case said to lack a structure
            that there is not, or all of them.
    """
    labels = record.get("labels")
    if not isinstance(labels, Mapping) or not labels:
        raise _wrong(where, 'values by name, such as {"background": 0, "liver": 1}')
    if all(str(key).isdigit() and isinstance(name, str) for key, name in labels.items()):
        labels = {name: int(key) for key, name in labels.items()}
    values = {str(name): _values(given, where) for name, given in labels.items()}
    ignored = values.pop(IGNORE, None)
    values = {name: listed for name, listed in values.items() if listed != (0,)}
    if any(0 in listed for listed in values.values()):
        raise _wrong(where, "values in which 0 is the background and part of no region")
    if not values:
        raise _wrong(where, "at least one structure beside the background")
    ignore = None
    if ignored is not None:
        highest = max(value for listed in values.values() for value in listed)
        if len(ignored) != 1 or ignored[0] != highest + 1:
            raise _wrong(where, f'values in which "ignore" is the highest, {highest + 1} here')
        ignore = ignored[0]
    regions = any(len(listed) > 1 for listed in values.values())
    order = _order(record, values, where) if regions else ()
    return Structures(values, ignore, order, _missing(record, values, where))


def _values(given: Any, where: str) -> tuple[int, ...]:
    listed = given if isinstance(given, (list, tuple)) else [given]
    try:
        found = tuple(sorted({int(value) for value in listed}))
    except (TypeError, ValueError):
        found = ()
    if not found or found[0] < 0:
        raise _wrong(where, "whole numbers from 0, or lists of them for regions")
    return found


def _order(
    record: Mapping[str, Any], values: Mapping[str, tuple[int, ...]], where: str
) -> tuple[int, ...]:
    given = record.get("regions_class_order")
    if given is None:
        for (one, first), (other, second) in itertools.combinations(values.items(), 2):
            if set(first) & set(second):
                raise BadInput(
                    f'{where}: the regions "{one}" and "{other}" overlap, and no '
                    '"regions_class_order" says which is written over which.',
                    help="Name one value a region, the outermost region first, such as [1, 2, 3].",
                    code="regions-without-order",
                )
        return tuple(listed[0] for listed in values.values())
    if (
        not isinstance(given, (list, tuple))
        or len(given) != len(values)
        or not all(isinstance(value, int) and value > 0 for value in given)
        or len(set(given)) != len(given)
    ):
        raise BadInput(
            f'{where}: "regions_class_order" has to be {len(values)} different values, one a '
            "region.",
            help="Name one value a region, the outermost region first, such as [1, 2, 3].",
            code="bad-dataset-json",
        )
    return tuple(given)


def check_order(structures: Structures, where: str) -> None:
    """A voxel's regions have to be those of the value that is written for them at last.

    Otherwise no prediction could ever equal its reference; an evaluation does not mind.

    Args:
        structures: with an order, or without regions.
        where: dataset.json's path, for the message.

    Raises:
        BadInput: the order hides a region.
    """
    values = structures.values
    written = dict(zip(values, structures.order, strict=False))
    if not written:
        return

    def regions_of(value: int) -> list[str]:
        return [name for name, listed in values.items() if value in listed]

    for value in sorted({value for listed in values.values() for value in listed}):
        wanted = regions_of(value)
        last = wanted[-1]
        if regions_of(written[last]) != wanted:
            raise BadInput(
                f'{where}: by "regions_class_order" a voxel of {", ".join(wanted)} would get the '
                f"value {written[last]}, which stands for "
                f"{', '.join(regions_of(written[last])) or 'no region'}.",
                help="Give each region a value that belongs to it and to the regions around it, "
                "and list the regions from the outermost to the innermost.",
                code="bad-dataset-json",
            )


def _missing(
    record: Mapping[str, Any], values: Mapping[str, tuple[int, ...]], where: str
) -> dict[str, tuple[str, ...]]:
    given = record.get(MISSING, {})
    if not isinstance(given, Mapping) or not all(
        isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
        for names in given.values()
    ):
        raise BadInput(
            f'{where}: "{MISSING}" has to be lists of labels by case, such as '
            '{"case_1": ["liver"]}.',
            code="bad-dataset-json",
        )
    for case, names in given.items():
        if unknown := [name for name in names if name not in values]:
            raise BadInput(
                f'{where}: "{MISSING}" says that {case} lacks "{unknown[0]}", which is none of the '
                "labels.",
                help=f"The labels are {', '.join(values)}.",
                code="bad-dataset-json",
            )
        if len(set(names)) == len(values):
            raise BadInput(
                f'{where}: "{MISSING}" says that {case} lacks every label.',
                help="Take the case out of the dataset: there is nothing to learn from it.",
                code="bad-dataset-json",
            )
    return {
        case: tuple(name for name in values if name in names)
        for case, names in given.items()
        if names
    }


def _wrong(where: str, wanted: str) -> BadInput:
    return BadInput(
        f'{where}: "labels" is missing or wrong; it has to be {wanted}.', code="bad-dataset-json"
    )
