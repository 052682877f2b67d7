"""A list of models that anyone can host: what they are, where they lie, what their bytes must be.

A folder of bundles (folders or zips) with an `index.json` beside them, on any server of files or on
a network drive:

    {"schema_version": 1, "models": [{
        "name": "hippocampus-mr",
        "url": "hippocampus-mr/model.json",   of the bundle's folder, or of its zip; from here
        "sha256": "…", "bytes": 1990000,      of that file; of all that is to be fetched
        "weights_sha256": "…",
        "picture": {"url": …, "sha256": …, "bytes": …}, "sample": {"name": …, "url": …, …},
        "model": {…}                          what model.json says to a person
    }]}

Whoever trusts the index can trust the models: every file is named with its hash, a folder's through
its model.json. Standard library only.
"""

from __future__ import annotations

import json
import os
import tempfile
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from e2enet.bundle.archive import MAX_BYTES, extract_all
from e2enet.bundle.checking import find_damage
from e2enet.bundle.description import MODEL, WEIGHTS, read_model, write_json
from e2enet.bundle.download import Address, check_sha256, download, is_address, read_address
from e2enet.events import BadInput
from e2enet.files import output_errors, replacing, scratch_folder, sha256

INDEX = "index.json"
SCHEMA_VERSION = 1
DEFAULT_INDEX = (
    "https://raw.githubusercontent.com/E2ENetSegmentation/SlicerE2ENetSegmentation/main/"
    "Resources/Models/index.json"
)
MAX_INDEX_BYTES = 4 << 20
MAX_PICTURE_BYTES = 8 << 20
PICTURE = "picture.png"
_TOLD = ("title", "modality", "anatomy", "channels", "labels", "licence", "citation", "attribution")


@dataclass(frozen=True)
class Remote:
    """One file that an index names.

    Attributes:
        place: Its address, or its path where the index is a file.
        sha256: Of its bytes.
        bytes: How many they are.
        name: For a person.
    """

    place: str
    sha256: str
    bytes: int
    name: str = ""

    def fetch(self, target: Path, **options: Any) -> Path:
        """The file: where it lies, or fetched to `target`.

        Raises:
            BadInput: It is not there, or is another one.
        """
        if not is_address(self.place):
            return Path(self.place)
        download(Address(self.place, self.sha256), target, limit=self.bytes, **options)
        return target


@dataclass(frozen=True)
class Entry:
    """One model of an index.

    Attributes:
        name: What it is installed as.
        file: The zip or the model.json of the bundle.
        bytes: All that is to be fetched.
        weights_sha256: Tells versions of a model apart.
        model: What its model.json says to a person.
        picture, sample: Or None.
    """

    name: str
    file: Remote
    bytes: int
    weights_sha256: str
    model: dict[str, Any]
    picture: Remote | None = None
    sample: Remote | None = None

    def is_at(self, folder: Path) -> bool:
        """Whether a bundle's folder holds this very version."""
        try:
            return bool(
                read_model(folder / MODEL)["files"][WEIGHTS]["sha256"] == self.weights_sha256
            )
        except (BadInput, KeyError, TypeError):
            return False


def default_index() -> str:
    """Where models are looked for: $E2ENET_INDEX, or the project's own index."""
    return os.environ.get("E2ENET_INDEX") or DEFAULT_INDEX


def read_index(place: str | os.PathLike[str]) -> list[Entry]:
    """The models of an index.

    Args:
        place: Address (`https://…`, `http://…#sha256=…`), or path of the file or its folder.

    Raises:
        BadInput: It cannot be had, or it is none.
    """
    text = os.fspath(place)
    if is_address(text):
        address = read_address(text)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / INDEX
            download(address, file, limit=MAX_INDEX_BYTES)
            return _parsed(file, address.url)
    file = Path(text)
    if file.is_dir():
        file = file / INDEX
    if not file.is_file():
        raise BadInput(f"{file} does not exist.", code="missing-file")
    return _parsed(file, "")


def find_entry(name: str, place: str | os.PathLike[str]) -> Entry:
    """A model of an index by its name. Raises BadInput: There is none; lists those there are."""
    entries = {entry.name: entry for entry in read_index(place)}
    if name not in entries:
        raise BadInput(
            f"{os.fspath(place)} lists no model {name!r}.",
            help=f"It lists {', '.join(entries) or 'none'}.",
            code="no-model",
        )
    return entries[name]


def write_index(
    folder: str | os.PathLike[str], samples: Mapping[str, str | os.PathLike[str]] | None = None
) -> Path:
    """Write the index of a folder's bundles into it.

    Args:
        folder: Holds bundles, as folders or zips. The picture of a zip is written beside it.
        samples: Model -> an image that it can be tried on, which is hosted at the same place
            relative to the folder.

    Raises:
        BadInput: There is no bundle in it, one is damaged, or it cannot be written.
    """
    folder = Path(folder)
    samples = dict(samples or {})
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder.", code="missing-file")
    bundles = [path for path in sorted(folder.iterdir()) if (path / MODEL).is_file()]
    bundles += sorted(folder.glob("[!.]*.zip"))
    with output_errors(folder / INDEX):
        entries = [_described(path, folder) for path in bundles]
        for entry in entries:
            if entry["name"] in samples:
                entry["sample"] = _sample(Path(samples.pop(entry["name"])), folder)
        names = [entry["name"] for entry in entries]
        if samples or not names or len(set(names)) < len(names):
            raise BadInput(
                f"{folder} holds the models {', '.join(names) or 'none'}"
                + (f", not {', '.join(samples)}." if samples else "."),
                help="It has to hold each model that is listed once.",
                code="no-model",
            )
        with replacing(folder / INDEX) as temporary:
            write_json(temporary, {"schema_version": SCHEMA_VERSION, "models": entries})
    return folder / INDEX


def _described(path: Path, folder: Path) -> dict[str, Any]:
    """The entry of a bundle."""
    if path.is_dir():
        return _entry(path, path / MODEL, folder)
    with scratch_folder(folder) as scratch:
        for inside in extract_all(path, scratch)[:1]:
            entry = _entry(inside, path, folder)
            if (inside / PICTURE).is_file():
                picture = path.with_suffix(".png")
                (inside / PICTURE).replace(picture)
                entry["picture"]["url"] = _relative(picture, folder)
        return entry


def _entry(bundle: Path, file: Path, folder: Path) -> dict[str, Any]:
    damage = find_damage(bundle)
    if damage:
        raise BadInput(damage[0], help="Make or download the model again.", code="damaged-model")
    model = read_model(bundle / MODEL)
    listed = model["files"]
    size = file.stat().st_size
    whole = size if file.suffix == ".zip" else size + sum(one["bytes"] for one in listed.values())
    entry = {
        "name": model["name"],
        "url": _relative(file, folder),
        "sha256": sha256(file),
        "bytes": whole,
        "weights_sha256": listed[WEIGHTS]["sha256"],
    }
    if PICTURE in listed:
        place = _relative(bundle / PICTURE, folder)
        entry["picture"] = {"url": place, **listed[PICTURE]}
    provenance = model.get("provenance") or {}
    told = {key: model[key] for key in _TOLD if model.get(key)}
    told["labels"] = [
        {k: label[k] for k in ("value", "name", "color")} for label in model["labels"]
    ]
    told["provenance"] = {k: provenance[k] for k in ("date", "unfinished") if provenance.get(k)}
    told["results"] = [_short(one) for one in model.get("results") or []]
    return {**entry, "model": told}


def _short(result: dict[str, Any]) -> dict[str, Any]:
    """What a card shows of an evaluation."""
    means = result["mean_by_label"].items()
    return {
        **{key: result[key] for key in ("references", "cases", "tta", "date")},
        "mean_by_label": {name: {"Dice": values.get("Dice")} for name, values in means},
    }


def _sample(file: Path, folder: Path) -> dict[str, Any]:
    if not file.is_file():
        raise BadInput(f"{file} does not exist.", code="missing-file")
    name = file.name.split(".")[0]
    place = _relative(file, folder)
    return {"name": name, "url": place, "sha256": sha256(file), "bytes": file.stat().st_size}


def _relative(path: Path, folder: Path) -> str:
    relative = os.path.relpath(path.resolve(), folder.resolve())
    return urllib.parse.quote(PurePosixPath(Path(relative).as_posix()).as_posix())


def _parsed(file: Path, url: str) -> list[Entry]:
    """The entries of an index that was fetched from an address, or that is a file ("")."""
    name = url or os.fspath(file)
    try:
        with file.open("rb") as stream:
            content = json.loads(stream.read(MAX_INDEX_BYTES))
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise BadInput(
                f"{name} has schema version {version!r}; this program reads {SCHEMA_VERSION}.",
                help="Install a newer version of E2ENet.",
                code="index-version",
            )
        return [_read_entry(entry, url or file) for entry in content["models"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(
            f"{name} is no index of models: {error}.",
            help="Check the address; `e2enet models index` writes one.",
            code="bad-index",
        ) from error


def _read_entry(entry: dict[str, Any], place: str | Path) -> Entry:
    name, model = _plain(entry["name"]), _plain(entry["model"])
    if not isinstance(name, str) or not isinstance(model, dict):
        raise TypeError("a model without a name or a description")
    for told in (*model["labels"], *model["channels"]):
        if not isinstance(told["name"], str):
            raise TypeError("a label or a channel without a name")
    size = int(entry["bytes"])
    file = _remote({**entry, "name": name}, place, MAX_BYTES)
    picture = entry.get("picture") and _remote(entry["picture"], place, MAX_PICTURE_BYTES)
    sample = entry.get("sample") and _remote(entry["sample"], place, MAX_BYTES)
    return Entry(name, file, size, str(entry["weights_sha256"]), model, picture, sample)


def _remote(entry: dict[str, Any], place: str | Path, most: int) -> Remote:
    """A file by its place from the index on; of an index in the internet never one of this disk."""
    digest, size = str(entry["sha256"]), int(entry["bytes"])
    check_sha256(digest)
    if not digest or not 0 <= size <= most:
        raise ValueError(f"{entry['url']!r} has no hash or no sensible size")
    if isinstance(place, Path):
        path = place.parent / urllib.parse.unquote(str(entry["url"]))
        return Remote(os.path.normpath(path), digest, size, str(_plain(entry.get("name", ""))))
    url = read_address(urllib.parse.urljoin(place, str(entry["url"])), digest).url
    return Remote(url, digest, size, str(_plain(entry.get("name", ""))))


def _plain(value: Any) -> Any:
    """Without characters that would steer a terminal: the text comes from outside."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() else " " for c in value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    return value
