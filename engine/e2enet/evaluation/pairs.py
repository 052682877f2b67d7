"""Which prediction belongs to which reference, and what their numbers mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2enet.data.datasets.labels import Structures, parse_structures
from e2enet.data.images.naming import image_stem, is_image_name
from e2enet.events import BadInput, Reporter


@dataclass(frozen=True)
class Pair:
    """A case: prediction and reference."""

    case: str
    prediction: Path
    reference: Path


def find_pairs(predictions: Path, references: Path, reporter: Reporter) -> list[Pair]:
    """Two files, or the files of two folders that have the same name, whatever their format.

    Raises:
        BadInput: something is missing, or a file is given with a folder.
    """
    for path in (predictions, references):
        if not path.exists():
            raise BadInput(f"{path} does not exist.", code="missing-file")
    if predictions.is_dir() != references.is_dir():
        raise BadInput(
            f"{predictions} and {references} are a file and a folder.",
            help="Give two files or two folders.",
            code="file-and-folder",
        )
    if not predictions.is_dir():
        return [Pair(image_stem(references), predictions, references)]
    have, want = label_files(predictions), label_files(references)
    if not want:
        raise BadInput(f"{references} holds no label maps.", code="no-images")
    missing = [name for name in want if name not in have]
    if missing:
        raise BadInput(
            f"{predictions} lacks {len(missing)} of {len(want)} cases: {listed(missing)}.",
            help="Segment them too, or move their references away.",
            code="missing-prediction",
        )
    extra = [name for name in have if name not in want]
    if extra:
        reporter.warning("no-reference", f"Without a reference, and left out: {listed(extra)}.")
    return [Pair(name, have[name], want[name]) for name in sorted(want)]


def label_files(folder: Path) -> dict[str, Path]:
    """Case -> file of every image in a folder.

    Raises:
        BadInput: a case is there twice.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_image_name(path):
            continue
        stem = image_stem(path)
        if stem in files:
            raise BadInput(
                f"{folder} holds {stem} twice: {files[stem].name} and {path.name}.",
                help="Keep one of them.",
                code="ambiguous-case",
            )
        files[stem] = path
    return files


def find_structures(references: Path) -> Structures | None:
    """From dataset.json in or beside the references' folder; None where there is none.

    Raises:
        BadInput: it cannot be read.
    """
    folder = references if references.is_dir() else references.parent
    for path in (folder / "dataset.json", folder.parent / "dataset.json"):
        if not path.is_file():
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8-sig"))
            if not isinstance(record, Mapping):
                raise ValueError("not an object")
        except (OSError, ValueError) as error:
            raise BadInput(
                f"{path} is not valid JSON: {error}.", code="bad-dataset-json"
            ) from error
        return parse_structures(record, str(path))
    return None


def listed(names: Sequence[str]) -> str:
    """Up to five names for a message."""
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
