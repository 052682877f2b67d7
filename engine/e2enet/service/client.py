"""`e2enet segment --server`: the same result, computed elsewhere.

What leaves this computer is the voxels and their geometry, as NIfTI: no name, no date, nothing
else of a DICOM file. (A head's voxels show a face all the same.)
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from e2enet.data.images.volume import Grid, Volume, read_channels, read_label, write_image
from e2enet.events import BadInput, Reporter
from e2enet.inference.case.inputs import InputCase, find_case
from e2enet.inference.case.manifest import InputHashes
from e2enet.inference.case.result import LabelVolume, Outputs, Result
from e2enet.inference.localisation.roi import parse_roi
from e2enet.service.connection import Away, Refused, Server, events

_BLOCK = 1 << 18
_AGAIN_S = 2.0
_THEIR_NAMES = re.compile(r"\bcase_\d{4}\.nii\.gz|(?<=\bin )case(?=\.$)")
T = TypeVar("T")


def segment_on_server(
    inputs: Sequence[str | os.PathLike[str]],
    model: str,
    *,
    server: Server,
    output: str | os.PathLike[str],
    tta: bool = False,
    roi: Sequence[str] | None = None,
    series: str | Sequence[str] | None = None,
    patience_s: float = 120.0,
    reporter: Reporter | None = None,
) -> Result:
    """Segment one case on a server and save the result here.

    The job and all its files are deleted there as soon as the result is here, or when this ends
    otherwise; if it is killed, the server finds out after three minutes.

    Args:
        inputs, output, tta, roi, series: As `e2enet.inference.segment`.
        model: Name of one of the server's models.
        server: Where to.
        patience_s: How long a server may be away, say while it is started again.
        reporter: Receives progress ("read", "upload", "waiting", then the server's) and warnings.

    Raises:
        BadInput: Something cannot be used, the server refuses, or is gone for good; nothing was
            written.
    """
    reporter = reporter or Reporter()
    outputs = Outputs.of(output)
    case = find_case(inputs, [series] if isinstance(series, str) else series)
    outputs.check(case.paths)
    described = describe_model(server, model)
    hashes = InputHashes(case.paths)
    reporter.progress("read", 0, 1)
    volumes = read_channels(
        case.paths,
        series=case.series or None,
        modality=str(described.get("modality") or ""),
        reporter=reporter,
    )
    outputs.check_grid(volumes[0].grid)
    reporter.progress("read", 1, 1)
    remote = _Job(server, case, reporter, patience_s)
    with tempfile.TemporaryDirectory(prefix="e2enet-") as scratch:
        files = [_written(volume, Path(scratch), n) for n, volume in enumerate(volumes)]
        sizes = [file.stat().st_size for file in files]
        asked: dict[str, Any] = {"model": model, "bytes": sizes, "tta": tta, "attached": True}
        asked["roi"] = _numbers(roi, described.get("regions") or [])
        remote.create(asked)
        try:
            remote.send(files)
            done = remote.follow()
            if "error" in done:
                raise _their_error(done["error"], case)
            label = Path(scratch) / "result.nii.gz"
            label.write_bytes(remote.patiently(lambda: server.fetch(f"{remote.path}/segmentation")))
            manifest = json.loads(remote.patiently(lambda: server.fetch(f"{remote.path}/manifest")))
            result = _result(label, volumes[0].grid, done["result"], manifest, server)
        finally:
            remote.delete()
    read = [
        {**file, **({"series_uid": volume.series_uid} if volume.series_uid else {})}
        for file, volume in zip(hashes(), volumes, strict=True)
    ]
    warnings = _all_warnings(volumes, result.manifest["warnings"], case)
    result.manifest.update(case=case.name, inputs=read, warnings=warnings)
    reporter.progress("write", 0, 1)
    result.save(output)
    reporter.progress("write", 1, 1)
    return result


def describe_model(server: Server, model: str) -> dict[str, Any]:
    """What a server says of one of its models: modality, channels, labels, regions.

    Raises:
        BadInput: It does not answer, refuses, or has no such model.
    """
    try:
        answer = server.ask("GET", "/models")
    except Away as error:
        raise _gone(server, error) from error
    try:
        models = {str(one["name"]): dict(one) for one in _field(answer, "models", list)}
    except (KeyError, TypeError, ValueError) as error:
        raise _not_understood() from error
    if model not in models:
        raise BadInput(
            f"The server has no model {model}.",
            help=f"It has {', '.join(sorted(models)) or 'none'}.",
            code="no-model",
        )
    return models[model]


class _Job:
    """One job on a server that may be away for a while."""

    def __init__(
        self, server: Server, case: InputCase, reporter: Reporter, patience_s: float
    ) -> None:
        self._server, self._case = server, case
        self._reporter, self._patience_s = reporter, patience_s
        self._seen_s = time.monotonic()
        self._told = False
        self.id = ""

    @property
    def path(self) -> str:
        return f"/jobs/{self.id}"

    def patiently(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer, or patience has come to an end."""
        while True:
            try:
                answer = ask()
            except Away as error:
                self.missed(error)
            else:
                self._seen_s, self._told = time.monotonic(), False
                return answer

    def missed(self, error: Away) -> None:
        """The server was away; raise BadInput if that is too much."""
        away = time.monotonic() - self._seen_s
        if away > self._patience_s or not self.id:
            kept = " The job goes on there, if it does." if self.id else ""
            raise _gone(self._server, error, kept) from error
        if not self._told:
            self._told = True
            self._reporter.warning("server-away", "The server does not answer; waiting for it.")
        time.sleep(_AGAIN_S)

    def create(self, asked: dict[str, Any]) -> None:
        created = self.patiently(lambda: self._server.ask("POST", "/jobs", asked))
        self.id = _field(created, "id", str)

    def send(self, files: Sequence[Path]) -> None:
        total = sum(file.stat().st_size for file in files)
        before = 0
        for channel, file in enumerate(files):
            self.patiently(lambda c=channel, f=file, b=before: self._send(c, f, b, total))  # type: ignore[misc]
            before += file.stat().st_size

    def _send(self, channel: int, file: Path, before: int, total: int) -> None:
        size = file.stat().st_size

        def blocks() -> Iterator[bytes]:
            sent = before
            with file.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    yield block
                    sent += len(block)
                    self._reporter.progress("upload", sent, total)

        path = f"{self.path}/channels/{channel}"
        try:
            with self._server.open("PUT", path, blocks(), length=size) as response:
                response.read()
        except Refused as refused:
            # The answer to an earlier try may have been lost on its way.
            if refused.code != "job-state" or self.state() == "uploading":
                raise

    def state(self) -> str:
        return _field(self._server.ask("GET", self.path), "state", str)

    def follow(self) -> dict[str, Any]:
        """The job, once it is done or has failed."""
        first: int | None = None
        while True:
            try:
                with self._server.open("GET", f"{self.path}/events") as response:
                    for job in events(response):
                        self._seen_s, self._told = time.monotonic(), False
                        if job is None:
                            raise BadInput("The job was deleted on the server.", code="job-deleted")
                        first = self._tell(job, first)
                        if job.get("state") in ("done", "failed"):
                            return job
            except Away as error:
                self.missed(error)

    def _tell(self, job: dict[str, Any], first: int | None) -> int | None:
        if job.get("state") == "queued":
            position = _field(job, "position", int)
            first = max(first or 0, position)
            self._reporter.progress("waiting", first - position, first)
        elif progress := job.get("progress"):
            self._reporter.progress(
                str(progress.get("stage")), int(progress["done"]), int(progress["total"])
            )
        for warning in job.get("warnings", []):
            message = _with_our_names(str(warning.get("message")), self._case)
            self._reporter.warning(str(warning.get("code")), message)
        return first

    def delete(self) -> None:
        """Nothing of it stays there, if the server can be asked."""
        with suppress(Away, BadInput):
            self._server.ask("DELETE", self.path)


def _numbers(roi: Sequence[str] | None, regions: Sequence[str]) -> list[str] | None:
    """Regions of interest as numbers: the server reads no file that is named to it."""
    if not roi:
        return None
    given = []
    for text in roi:
        box = parse_roi(text, [name for name in regions if name])
        low, high = box.corners.min(axis=0), box.corners.max(axis=0)
        numbers = ",".join(f"{v:.6f}" for v in (*low, *high))
        given.append(f"{box.name}:{numbers}" if box.name else numbers)
    return given


def _written(volume: Volume, folder: Path, channel: int) -> Path:
    """A channel as NIfTI: nothing of its file but voxels and grid."""
    path = folder / f"{channel}.nii.gz"
    array = volume.array
    whole = array.astype(np.int16) if abs(array).max() < 32767 else None
    if whole is not None and np.array_equal(whole, array):
        array = whole
    write_image(path, array, volume.grid)
    return path


def _result(
    path: Path, grid: Grid, described: dict[str, Any], manifest: dict[str, Any], server: Server
) -> Result:
    label = read_label(path).array
    if label.shape != grid.shape:
        raise BadInput(
            f"The server's result has {label.shape} voxels, the image {grid.shape}.",
            code="server-refused",
        )
    try:
        labels = [
            LabelVolume(**{**one, "color": tuple(one["color"])}) for one in described["labels"]
        ]
        manifest["doubtful"], manifest["device"]["used"], manifest["seconds"]
        manifest["warnings"] = [
            {"code": str(one["code"]), "message": str(one["message"])}
            for one in manifest["warnings"]
        ]
    except (KeyError, TypeError) as error:
        raise _not_understood() from error
    return Result(label, grid, labels, {**manifest, "server": server.url})


def _all_warnings(
    volumes: Sequence[Volume], theirs: Sequence[dict[str, str]], case: InputCase
) -> list[dict[str, str]]:
    """What reading here and segmenting there warned of, in the order of a run on one computer."""
    ours = [
        {"code": code, "message": message}
        for volume in volumes
        for code, message in volume.warnings
    ]
    there = [{**one, "message": _with_our_names(one["message"], case)} for one in theirs]
    return sorted([*ours, *there], key=lambda one: one["code"] != "doubtful-result")


def _their_error(error: dict[str, Any], case: InputCase) -> BadInput:
    """The server's sentence about our file, with the file's own name."""
    return BadInput(
        _with_our_names(str(error.get("message", "")), case),
        help=str(error.get("help", "")),
        code=str(error.get("code", "job-failed")),
    )


def _with_our_names(message: str, case: InputCase) -> str:
    """A sentence of the server, to which every case is `case`."""
    names = {f"case_{channel:04d}.nii.gz": path.name for channel, path in enumerate(case.paths)}
    names["case"] = case.name
    return _THEIR_NAMES.sub(lambda found: names.get(found[0], found[0]), message)


def _field(answer: Any, name: str, kind: type[T]) -> T:
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, kind):
        raise _not_understood()
    return value


def _gone(server: Server, error: Away, kept: str = "") -> BadInput:
    return BadInput(
        f"The server {server.url} does not answer: {error}.{kept}",
        help="Check its address and that it runs, then try again.",
        code="server-away",
    )


def _not_understood() -> BadInput:
    return BadInput(
        "The answer is not what an e2enet server says.",
        help="Check the address; the server may have another version.",
        code="server-not-understood",
    )
