"""One device's worker: takes the next job and has a child process segment it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from e2enet.bundle import list_models
from e2enet.service.jobs.board import Board
from e2enet.service.jobs.database import Database, Job
from e2enet.service.settings import Settings

RESULT = "result.nii.gz"
SLICES = "slices"
_LINE = 1 << 24  # bytes of one event; a result names all structures with their codes
_SLICES_S = 120.0
_AGAIN_S = 5.0


def case_name(channel: int, ending: str) -> str:
    """What a channel's file is called in the folder of its job."""
    return f"case_{channel:04d}{ending}"


def job_folder(settings: Settings, id: str) -> Path:
    """Where the files of a job lie."""
    return settings.folder / "jobs" / id


def results_folder(settings: Settings, job: Job) -> Path:
    """Where the results of a job lie: an attempt never meets what an earlier one still writes."""
    return job_folder(settings, job.id) / f"result-{job.attempts}"


class Worker:
    """Does one job after the other on one device.

    Args:
        device: As `e2enet segment --device`.
        settings, database, board: The server's.
    """

    def __init__(self, device: str, settings: Settings, database: Database, board: Board) -> None:
        self._device = device
        self._settings = settings
        self._database = database
        self._board = board

    async def run(self) -> None:
        """Work until cancelled; a job under way then goes back to the queue."""
        while not self._board.closed:
            try:
                job = self._database.take()
            except sqlite3.Error as error:  # such as a full disk
                print(f"The queue cannot be read: {error}.", file=sys.stderr, flush=True)
                await asyncio.sleep(_AGAIN_S)
                continue
            if job is None:
                await self._board.wait(_AGAIN_S)
                continue
            self._board.begin(job.id)
            try:
                outcome = await self._segment(job)
            except asyncio.CancelledError:
                self._database.put_back(job.id)
                raise
            except Exception as error:
                outcome = {"error": _failure(f"The job failed: {type(error).__name__}.")}
            await self._finish(job, outcome)

    async def _finish(self, job: Job, outcome: dict[str, Any]) -> None:
        while self._database.job(job.id):  # unless it was deleted meanwhile
            try:
                self._database.finish(job.id, outcome)
                break
            except sqlite3.Error as error:
                print(f"A result cannot be noted: {error}.", file=sys.stderr, flush=True)
                await asyncio.sleep(_AGAIN_S)
        folder = job_folder(self._settings, job.id)
        for path in folder.glob("case_*"):  # the volume is not needed any more
            path.unlink(missing_ok=True)
        if self._database.job(job.id) is None:
            shutil.rmtree(folder, ignore_errors=True)
        self._board.forget(job.id)

    async def _segment(self, job: Job) -> dict[str, Any]:
        folder, results = job_folder(self._settings, job.id), results_folder(self._settings, job)
        model = {path.name: path for path in list_models()}.get(job.model)
        if model is None:
            return {"error": _failure(f"The model {job.model} is no longer on the server.")}
        shutil.rmtree(results, ignore_errors=True)
        results.mkdir(parents=True)
        inputs = sorted(path.name for path in folder.glob("case_*"))
        # Relative names: what the child says then has no path of this machine in it.
        words = [
            *("e2enet.service.jobs.child", "segment", *inputs, "--model", os.fspath(model)),
            *("--output", f"{results.name}/{RESULT}", "--device", self._device),
            *("--progress", "json", *(["--tta"] if job.options.get("tta") else [])),
        ]
        for roi in job.options.get("roi") or []:
            words += ["--roi", roi]
        outcome: dict[str, Any] = {"warnings": []}

        def read_event(line: bytes) -> None:
            with suppress(ValueError):
                event = json.loads(line)
                self._take(job.id, event, outcome)

        status = await self._child(job, words, read_event, self._settings.job_s)
        if status is None:
            minutes = self._settings.job_s / 60
            outcome["error"] = _failure(f"It took longer than {minutes:.0f} minutes.", "too-long")
        elif status or "result" not in outcome:
            outcome.pop("result", None)
            outcome.setdefault("error", _failure(f"The process ended with status {status}."))
        else:
            outcome["slices"] = await self._slices(job, inputs[0], results, outcome["result"])
        return _without(outcome, {os.fspath(model): job.model, f"{results.name}/": ""})

    async def _slices(self, job: Job, image: str, results: Path, result: dict[str, Any]) -> int:
        pictures = results / SLICES
        pictures.mkdir()
        colors = {label["value"]: label["color"] for label in result["labels"]}
        lines: list[bytes] = []
        label = f"{results.name}/{RESULT}"
        words = ["e2enet.service.jobs.slices", image, label, json.dumps(colors)]
        words.append(f"{results.name}/{SLICES}")
        status = await self._child(job, words, lines.append, _SLICES_S)
        return int(lines[-1]) if status == 0 and lines else 0

    async def _child(self, job: Job, words: list[str], on_line: Any, limit: float) -> int | None:
        """Run a module of the engine; its exit status, or None if it took too long."""
        environment = {k: v for k, v in os.environ.items() if k != "E2ENET_TOKEN"}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *words,
            cwd=job_folder(self._settings, job.id),
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE,
            start_new_session=True,
        )
        assert process.stdout is not None

        async def listen(stream: asyncio.StreamReader) -> int:
            while line := await stream.readline():
                on_line(line)
            return await process.wait()

        listening = asyncio.ensure_future(listen(process.stdout))
        removed = asyncio.ensure_future(self._board.removed(job.id))
        try:
            await asyncio.wait(
                {listening, removed}, timeout=limit, return_when=asyncio.FIRST_COMPLETED
            )
            if listening.done():
                return listening.result()
            return None if not removed.done() else -1
        finally:
            for task in (listening, removed):
                task.cancel()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _take(self, id: str, event: dict[str, Any], outcome: dict[str, Any]) -> None:
        kind = event.pop("event", "")
        if kind == "progress":
            self._board.progress(id, event)
        elif kind == "warning":
            outcome["warnings"].append(event)
        elif kind == "error":
            outcome["error"] = event
        elif kind == "result":
            kept = ("labels", "doubtful", "device", "seconds", "regions")
            outcome["result"] = {name: event[name] for name in kept if name in event}


def _failure(message: str, code: str = "job-failed") -> dict[str, str]:
    return {"code": code, "message": message, "help": "Try again, or ask who runs the server."}


def _without(value: Any, names: dict[str, str]) -> Any:
    """Every text in a structure with the names of this machine replaced."""
    if isinstance(value, str):
        for old, new in names.items():
            value = value.replace(old, new)
        return value
    if isinstance(value, dict):
        return {key: _without(one, names) for key, one in value.items()}
    return [_without(one, names) for one in value] if isinstance(value, list) else value
