"""What model.json says beside what the training knows: a person's file, and what a base hands on.

Files that go into the bundle are copied into the run's folder at its start, so that neither the
person's folder nor the base has to be there at the end.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from e2enet.bundle import Bundle
from e2enet.bundle.description import drop_connection_group
from e2enet.data.datasets.labels import Structures
from e2enet.data.planning.plan import Plan
from e2enet.data.preprocessing.store import PreprocessedCase
from e2enet.events import BadInput, Reporter
from e2enet.inference.localisation.locator import Locator
from e2enet.training.run.labels import LabelMatch

FILES = "files"
_HANDED_ON = ("licence", "citation", "attribution")
_ENOUGH_CASES = 10
# What the engine knows better than any file: the training, and `e2enet evaluate --into`.
_OWN = ("schema_version", "network", "plan", "provenance", "results")

Metadata = dict[str, Any]


def load_metadata(path: str | os.PathLike[str]) -> Metadata:
    """What model.json should say beside what the training knows.

    A JSON object in the form of model.json with any of its fields (name, title, modality, anatomy,
    licence, citation, locator …); entries of "labels" are merged by value. "files" names
    further files for the bundle: {name in the bundle: path relative to the JSON file}.

    Raises:
        BadInput: not readable, or a field that the engine writes.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(record, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise BadInput(
            f"--metadata {path} cannot be read: {error}.", code="bad-metadata"
        ) from error
    drop_connection_group(path, record)
    labels, files = record.get("labels", []), record.get(FILES, {})
    if not isinstance(labels, list) or any(
        not isinstance(entry, dict) or "value" not in entry for entry in labels
    ):
        raise BadInput(
            f'--metadata {path}: "labels" must be a list of objects with a "value".',
            code="bad-metadata",
        )
    for name in _OWN:
        if name in record:
            raise BadInput(
                f'--metadata {path} holds "{name}", which the engine writes.',
                help="Take it out.",
                code="bad-metadata",
            )
    if not isinstance(files, dict) or any(
        not isinstance(p, str) or Path(name).is_absolute() or ".." in Path(name).parts
        for name, p in files.items()
    ):
        raise BadInput(
            f'--metadata {path}: "files" must be {{name in the bundle: path}}.',
            code="bad-metadata",
        )
    files = {name: os.path.abspath(path.parent / p) for name, p in files.items()}
    for file in files.values():
        if not os.path.isfile(file):
            raise BadInput(f"{file}, named in {path}, does not exist.", code="bad-metadata")
    return {**record, FILES: files}


def inherited(
    metadata: Metadata,
    source: Bundle,
    match: LabelMatch,
    labels: Mapping[str, int],
    reporter: Reporter,
) -> Metadata:
    """Add what a fine-tuned model has from its base.

    Licence, citation and attribution hold for whatever is made of the base; other ones are taken,
    and a warning says so. Labels that are the base's keep its colours and codes.

    Args:
        metadata: of `load_metadata`, or empty; what it holds is kept.
        source: the base.
        match: which labels are the base's.
        labels: {name: value} of the new model.
        reporter: gets the warning "licence-replaced".
    """
    found = dict(metadata)
    for name in _HANDED_ON:
        before = source.model.get(name)
        if not before:
            continue
        if metadata.get(name, before) != before:
            reporter.warning(
                "licence-replaced",
                f"The {name} of {source.name} ({before}) is replaced by that of --metadata "
                f"({metadata[name] or 'none'}).",
            )
        found.setdefault(name, before)
    own = {entry["value"]: entry for entry in metadata.get("labels", [])}
    for name, label in match.matched.items():
        of_base = {"color": list(label.color), "terminology": label.terminology}
        own[labels[name]] = {"value": labels[name], **of_base, **own.get(labels[name], {})}
    return {**found, "labels": list(own.values())}


def volumes_ml(
    cases: Sequence[PreprocessedCase], plan: Plan, structures: Structures
) -> dict[str, list[float]]:
    """Smallest and largest volume of each label in mL, of labels that enough cases have.

    Of n cases' range the next case is outside with a probability of 2 / (n + 1): a range of few
    cases is none. Labels are told by the value that they get in a segmentation.
    """
    voxel_ml = math.prod(plan.spacing) / 1000
    written = structures.order or [values[0] for values in structures.values.values()]
    volumes: dict[int, list[float]] = {value: [] for value in written}
    for case in cases:
        judged = structures.judged(case.name)
        for value, (name, values) in zip(written, structures.values.items(), strict=True):
            voxels = sum(case.foreground.get(one, 0) for one in values)
            if voxels and name in judged:
                volumes[value].append(round(voxels * voxel_ml, 3))
    return {
        str(value): [min(found), max(found)]
        for value, found in sorted(volumes.items())
        if len(found) >= _ENOUGH_CASES
    }


def with_locator(
    metadata: Metadata, source: Bundle, new: Sequence[str], reporter: Reporter
) -> Metadata:
    """Add the locator of the bundle that is fine-tuned, where it still fits.

    It does when every label of the new model is one of the bundle's (`match_labels`): then what is
    looked for lies in the same boxes. A new label may lie anywhere, so one is enough to leave the
    locator out, and a warning says so. Metadata that name another anatomy, or a locator of their
    own (null for none), are followed without a word.

    Args:
        metadata: of `load_metadata`, or empty.
        source: the bundle that is fine-tuned.
        new: names of the labels that the bundle does not know.
        reporter: gets the warning "no-locator".

    Raises:
        BadInput: the bundle's locator is damaged.
    """
    anatomy = source.model.get("anatomy")
    if source.locator is None or "locator" in metadata:
        return metadata
    if metadata.get("anatomy", anatomy) != anatomy:
        return metadata
    if new:
        reporter.warning(
            "no-locator",
            f"{source.name} finds its region in a whole image by itself; the new model does not, "
            f"because nobody knows where its {', '.join(new)} may lie. It needs crops or a region.",
        )
        return metadata
    locator = Locator.from_dict(source.locator, source.path)
    found = {source.locator["template"]: str(locator.template)}
    if locator.notice:
        found[source.locator["notice"]] = str(locator.notice)
    files = {**found, **metadata.get(FILES, {})}
    return {**metadata, "locator": source.locator, FILES: files}


def with_files_kept(metadata: Metadata, folder: Path) -> Metadata:
    """Copy the files into the run's folder; their paths become relative to it.

    Raises:
        BadInput: they cannot be copied.
    """
    kept = {}
    for name, path in metadata.get(FILES, {}).items():
        kept[name] = f"{FILES}/{name}"
        target = folder / kept[name]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        except OSError as error:
            raise BadInput(
                f"{path} cannot be copied to {target}: {error.strerror or error}.",
                code="output-not-writable",
            ) from error
    return {**metadata, FILES: kept} if kept else metadata


def merged(before: Metadata, now: Metadata) -> Metadata:
    """What a run was started with, changed by what is given when it goes on; labels by value."""
    labels = {entry["value"]: entry for entry in before.get("labels", [])}
    for entry in now.get("labels", []):
        labels[entry["value"]] = {**labels.get(entry["value"], {}), **entry}
    return {
        **before,
        **now,
        "labels": list(labels.values()),
        FILES: {**before.get(FILES, {}), **now.get(FILES, {})},
    }
