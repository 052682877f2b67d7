"""Models come and go: from a zip, a folder, an address or an index to the user's own folder.

Standard library only: the Slicer panel installs by the same code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path

from e2enet.bundle.archive import MAX_BYTES, MAX_FILES, MAX_MODEL_BYTES, extract_all, is_inside
from e2enet.bundle.bundle import Bundle
from e2enet.bundle.checking import find_damage
from e2enet.bundle.description import MODEL, damaged_model
from e2enet.bundle.download import (
    Address,
    check_file,
    check_sha256,
    download,
    is_address,
    read_address,
)
from e2enet.bundle.index import default_index, find_entry
from e2enet.bundle.store import list_models
from e2enet.events import BadInput, Reporter
from e2enet.files import move_folder, output_errors, remove_litter, scratch_folder
from e2enet.folders import user_folder
from e2enet.locks import locked

DOWNLOADS = ".downloads"
_HELP = "`e2enet models` lists what there is, `e2enet models available` what can be had."


def installed_folder() -> Path:
    """Where models are installed: in the user's data folder."""
    return user_folder() / "models"


def install(
    source: str | os.PathLike[str],
    *,
    sha256: str = "",
    index: str | os.PathLike[str] | None = None,
    replace: bool = False,
    reporter: Reporter | None = None,
) -> list[Path]:
    """Install a model, or all those of a bundle of several; checked whole before anything changes.

    A download that was cut off, by whatever, is gone on with by the next call.

    Args:
        source: A zip or the folder of a model; the address of a zip or of a folder's model.json
            (`https://…`, with `#sha256=…` if the hash is known); else a name that `index` lists.
        sha256: What the zip's (or the model.json's) bytes must be, where that is known.
        index: Address or path of an index; $E2ENET_INDEX or the project's own by default.
        replace: Take the place of models of the same name.
        reporter: Receives progress as stage "download".

    Returns:
        The folders of the models.

    Raises:
        BadInput: It cannot be had, is not what it should be, or is there already.
    """
    text, reporter = os.fspath(source), reporter or Reporter()
    sha256 = sha256.strip().lower()
    check_sha256(sha256)
    if is_address(text):
        return _from_internet(read_address(text, sha256), MAX_BYTES, replace, reporter)
    path = Path(text)
    file = path.suffix == ".zip" or len(path.parts) > 1
    # With an index a bare name is one of its own, whatever lies in this folder.
    if path.exists() and (file or index is None):
        return _from_disk(path, sha256, replace)
    if file:
        raise BadInput(f"{path} does not exist.", code="missing-file")
    entry = find_entry(text, index or default_index())
    _check_free([folder_name(entry.name)], replace)
    if not is_address(entry.file.place):
        found = Path(entry.file.place)
        check_file(found, entry.file.sha256)
        return _from_disk(found.parent if found.name == MODEL else found, "", replace)
    address = Address(entry.file.place, entry.file.sha256)
    return _from_internet(address, entry.bytes, replace, reporter)


def remove(name: str) -> Path:
    """Delete a model that was installed; returns where it was.

    Raises:
        BadInput: There is none of that name, or it came with the program or lies elsewhere.
    """
    folder = installed_folder() / name
    if is_inside(name) and (folder / MODEL).is_file():
        with output_errors(folder):
            shutil.rmtree(folder)
        return folder
    there = next((path for path in list_models() if path.name == name), None)
    if there is not None:
        raise BadInput(
            f"{name} lies in {there}; only models in {installed_folder()} are removed.",
            help="What was not installed is left alone.",
            code="not-installed",
        )
    raise BadInput(f"There is no model {name!r}.", help=_HELP, code="no-model")


def folder_name(name: str) -> str:
    """What a model's folder is called."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"


def _from_disk(source: Path, sha256: str, replace: bool) -> list[Path]:
    """Install a zip or a folder."""
    target = installed_folder()
    remove_litter(target)
    with output_errors(target), scratch_folder(target) as scratch:
        if source.is_dir():
            if damage := find_damage(source):
                raise BadInput(
                    damage[0], help="Export or download the model again.", code="damaged-model"
                )
            copies = [scratch / "0"]
            shutil.copytree(source, copies[0])
        else:
            check_file(source, sha256)
            copies = extract_all(source, scratch)
        return _place(copies, replace)


def _place(copies: Sequence[Path], replace: bool) -> list[Path]:
    """Rename whole and checked bundles to their names."""
    bundles = [Bundle.open(copy) for copy in copies]
    for bundle in bundles:
        if not bundle.labels or not bundle.channels:
            raise damaged_model(bundle.path / MODEL, "names no labels or no channels")
    names = [folder_name(bundle.name) for bundle in bundles]
    if len(set(names)) < len(names):
        raise BadInput(
            f"It holds two models of one name ({', '.join(sorted(names))}).", code="bad-archive"
        )
    _check_free(names, replace)
    placed = []
    for copy, name in zip(copies, names, strict=True):
        copy.chmod(0o755)
        move_folder(copy, installed_folder() / name)
        placed.append(installed_folder() / name)
    return placed


def _check_free(names: Sequence[str], replace: bool) -> None:
    there = [name for name in names if (installed_folder() / name).exists()]
    if there and not replace:
        raise BadInput(
            f"A model named {there[0]} is already installed.",
            help="Remove it first, or give --replace.",
            code="exists",
        )


def _from_internet(address: Address, limit: int, replace: bool, reporter: Reporter) -> list[Path]:
    """Fetch a zip or a folder, and install it."""
    known = hashlib.sha256(address.url.encode()).hexdigest()[:16]
    work = installed_folder() / DOWNLOADS / known
    with output_errors(work):
        work.mkdir(parents=True, exist_ok=True)
    with locked(work, "download"):
        path = urllib.parse.urlsplit(address.url).path
        if path.endswith(f"/{MODEL}"):
            source = _fetch_folder(address, work / "model", limit, reporter)
        else:
            source = work / "model.zip"
            download(address, source, limit=limit, on_bytes=_telling(reporter, 0, 0))
        try:
            placed = _from_disk(source, "", replace)
        except BadInput as error:
            if error.code != "exists":  # what came is no model: it would never become one
                (shutil.rmtree if source.is_dir() else os.unlink)(source)
            raise
    shutil.rmtree(work, ignore_errors=True)
    return placed


def _fetch_folder(address: Address, folder: Path, limit: int, reporter: Reporter) -> Path:
    """Every file that a model.json lists, from beside it; each is checked by its hash there."""
    with output_errors(folder):
        folder.mkdir(exist_ok=True)
    download(address, folder / MODEL, limit=min(limit, MAX_MODEL_BYTES))
    size = (folder / MODEL).stat().st_size
    try:
        model = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        files = {str(n): (str(e["sha256"]), int(e["bytes"])) for n, e in model["files"].items()}
        sound = len(files) <= MAX_FILES and all(is_inside(n) and n != MODEL for n in files)
        total = size + sum(max(0, count) for _digest, count in files.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound, files, total = False, {}, 0
    if not sound or total > limit:
        (folder / MODEL).unlink()
        raise BadInput(
            f"{address.url} lists no files that a model could have.",
            help="It is not the model.json of a model, or it was damaged.",
            code="damaged-model",
        )
    done = size
    for name, (digest, count) in files.items():
        target = folder / name
        with output_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        url = urllib.parse.urljoin(address.url, urllib.parse.quote(name))
        part = read_address(url, digest)
        download(part, target, limit=count, on_bytes=_telling(reporter, done, total))
        done += count
        reporter.progress("download", done, total)
    return folder


def _telling(reporter: Reporter, before: int, total: int) -> Callable[[int, int], None]:
    """Reports bytes of one file, as a part of `total` if there are several."""
    return lambda done, of: reporter.progress("download", before + done, total or of)
