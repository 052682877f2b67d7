"""The service's addresses: jobs, their files and events, and the page."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from e2enet.bundle import Bundle, list_models
from e2enet.events import BadInput
from e2enet.service.guard import HEALTH, answer
from e2enet.service.jobs.board import Board
from e2enet.service.jobs.database import Database, Job
from e2enet.service.jobs.uploads import check_upload
from e2enet.service.jobs.worker import RESULT, SLICES, case_name, job_folder, results_folder
from e2enet.service.settings import Settings

_PAGE = Path(__file__).resolve().parent / "page"
_PAGES = {
    "/": "index.html",
    "/page.js": "page.js",
    "/page.css": "page.css",
    "/icon.svg": "icon.svg",
}
_FILES = {
    "segmentation": (RESULT, "application/gzip"),
    "volumes": ("result.volumes.csv", "text/csv"),
    "manifest": ("result.manifest.json", "application/json"),
}
_PING_S, _PACE_S = 15.0, 0.25
_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
# Numbers alone: `segment --roi` also takes the path of a file.
_ROI = re.compile(rf"(?:[\w .-]{{1,60}}:)?{_NUMBER}(?:,{_NUMBER}){{5}}")


class NewJob(BaseModel):
    """What is to be done, before any file is sent."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(max_length=200)
    bytes: list[int] = Field(min_length=1, max_length=16)
    tta: bool = False
    roi: list[str] | None = Field(default=None, max_length=16)
    attached: bool = False


def make_app(settings: Settings, database: Database, board: Board, lifespan: Any) -> FastAPI:
    """The application without its guard."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @app.exception_handler(BadInput)
    async def _refused(request: Request, error: BadInput) -> Response:
        status, body = answer(error)
        return JSONResponse(body, status)

    @app.exception_handler(RequestValidationError)
    async def _not_understood(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        bad = BadInput(f"The request is wrong at {where}: {first['msg']}.", code="bad-request")
        status, body = answer(bad)
        return JSONResponse(body, status)

    @app.exception_handler(HTTPException)
    async def _nothing_there(request: Request, error: HTTPException) -> Response:
        bad = BadInput("There is nothing at this address.", code="no-page")
        if error.status_code == 400:
            bad = BadInput("The request's body cannot be read.", code="bad-request")
        status, body = answer(bad)
        return JSONResponse(body, status)

    def own(request: Request, id: str) -> Job:
        job = database.job(id, request.state.user)
        if job is None:
            raise BadInput(
                "There is no such job.",
                help="It was deleted, or its results were kept long enough.",
                code="no-job",
            )
        board.saw(job.id)
        return job

    def view(job: Job, waiting: list[str] | None = None) -> dict[str, Any]:
        told: dict[str, Any] = {
            "id": job.id, "model": job.model, "state": job.state, "created": job.created,
        }  # fmt: skip
        if job.state == "queued":
            order = database.waiting() if waiting is None else waiting
            told["position"] = order.index(job.id) + 1 if job.id in order else 0
        if job.state == "running":
            told["progress"] = board.progress_of(job.id)
        if job.ended:
            told["deleted_at"] = job.ended + settings.keep_s
        return {**told, **job.outcome}

    def overview(user: str) -> dict[str, Any]:
        waiting = database.waiting()
        jobs = [view(job, waiting) for job in database.jobs_of(user)]
        return {"user": user, "waiting": len(waiting), "jobs": jobs}

    @app.get(HEALTH)
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    for path, name in _PAGES.items():
        app.get(path)(_sender(_PAGE / name))

    @app.get("/models")
    async def models() -> dict[str, Any]:
        limits = {"upload_bytes": settings.upload_bytes, "keep_s": settings.keep_s}
        return {"models": await run_in_threadpool(described), "limits": limits}

    @app.get("/jobs")
    async def jobs(request: Request) -> dict[str, Any]:
        return overview(request.state.user)

    @app.post("/jobs", status_code=201)
    async def create(request: Request, new: NewJob) -> dict[str, Any]:
        known = {model["name"]: model for model in await run_in_threadpool(described)}
        check_new(new, known.get(new.model), settings)
        for user, most in ((request.state.user, settings.jobs_each), (None, settings.jobs)):
            if database.unfinished(user) >= most:
                whose = "You have" if user else "The server has"
                raise BadInput(
                    f"{whose} {most} unfinished jobs already.",
                    help="Wait until some are done.",
                    code="queue-full",
                )
        options = {"bytes": new.bytes, "tta": new.tta, "roi": new.roi, "attached": new.attached}
        job = database.add(request.state.user, new.model, options)
        job_folder(settings, job.id).mkdir(parents=True, mode=0o700)
        board.changed()
        return view(job)

    @app.put("/jobs/{id}/channels/{channel}")
    async def upload(request: Request, id: str, channel: int) -> dict[str, Any]:
        job = own(request, id)
        expected = job.options["bytes"]
        if job.state != "uploading" or not 0 <= channel < len(expected):
            raise BadInput("This job takes no such file (any more).", code="job-state")
        if int(request.headers.get("content-length", 0)) != expected[channel]:
            raise BadInput(
                f"The file should have {expected[channel]} bytes, as was said before.",
                code="bad-request",
            )
        folder, limit = job_folder(settings, id), settings.volume_bytes
        await receive(request, folder, channel, limit, lambda: board.saw(id))
        names = {path.name.split(".")[0] for path in job_folder(settings, id).glob("case_*")}
        if len(names) == len(expected):
            database.set_queued(id)
            board.changed()
        return view(own(request, id))

    @app.get("/jobs/{id}")
    async def job(request: Request, id: str) -> dict[str, Any]:
        return view(own(request, id))

    @app.delete("/jobs/{id}")
    async def delete(request: Request, id: str) -> dict[str, str]:
        remove(own(request, id), settings, database, board)
        return {"deleted": id}

    def stream(request: Request, tell: Callable[[], Any]) -> Response:
        user, token_hash = request.state.user, request.state.token_hash

        def allowed() -> bool:
            return database.user_of(token_hash) == user

        events = changes(tell, board, settings.times.stream, allowed)
        return StreamingResponse(events, media_type="text/event-stream")

    @app.get("/events")
    async def events(request: Request) -> Response:
        user = request.state.user
        return stream(request, lambda: overview(user))

    @app.get("/jobs/{id}/events")
    async def job_events(request: Request, id: str) -> Response:
        own(request, id)
        user = request.state.user

        def tell() -> Any:
            board.saw(id)
            now = database.job(id, user)
            return view(now) if now else None

        return stream(request, tell)

    @app.get("/jobs/{id}/slices/{number}")
    async def picture(request: Request, id: str, number: int) -> Response:
        job = own(request, id)
        if not 0 <= number < job.outcome.get("slices", 0):
            raise BadInput("There is no such picture.", code="no-page")
        path = results_folder(settings, job) / SLICES / f"{number}.png"
        return FileResponse(path, media_type="image/png")

    @app.get("/jobs/{id}/{what}")
    async def result(request: Request, id: str, what: str) -> Response:
        job = own(request, id)
        if what not in _FILES:
            raise BadInput("There is nothing at this address.", code="no-page")
        if job.state != "done":
            raise BadInput(f"The job is {job.state}; it has no result.", code="job-state")
        name, kind = _FILES[what]
        return FileResponse(results_folder(settings, job) / name, media_type=kind, filename=name)

    return app


def check_new(new: NewJob, model: dict[str, Any] | None, settings: Settings) -> None:
    """Raise BadInput for a job that could never be done."""
    if model is None:
        raise BadInput(
            f"The server has no model {new.model!r}.",
            help="`GET /models` lists them.",
            code="no-model",
        )
    channels = model["channels"]
    if len(new.bytes) != len(channels):
        raise BadInput(
            f"{new.model} takes {len(channels)} files, one for each of {', '.join(channels)}.",
            code="channel-count",
        )
    if min(new.bytes) < 1 or max(new.bytes) > settings.upload_bytes:
        raise BadInput(
            f"A file may have 1 byte to {settings.upload_bytes / 1e6:.0f} MB.",
            help="Crop the volume, or compress it.",
            code="too-large",
        )
    if not all(_ROI.fullmatch(roi) for roi in new.roi or []):
        raise BadInput("A region of interest is six numbers in mm, LPS.", code="bad-roi")
    free = shutil.disk_usage(settings.folder).free
    if free - sum(new.bytes) < settings.free_bytes:
        raise BadInput(
            "The server's disk is full.", help="Try later; results are deleted.", code="disk-full"
        )


async def receive(
    request: Request, folder: Path, channel: int, limit: int, on_block: Callable[[], None]
) -> None:
    """Write a request's body as a channel's file, whole or not at all."""
    try:
        descriptor, name = tempfile.mkstemp(prefix="part-", dir=folder)
        path = Path(name)
        try:
            with open(descriptor, "wb") as file:
                async for block in request.stream():
                    file.write(block)
                    on_block()
            ending = await run_in_threadpool(check_upload, path, limit)
            os.replace(path, folder / case_name(channel, ending))
        finally:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(
            f"The server could not keep the file: {error.strerror}.",
            help="Try later.",
            code="disk-full",
        ) from error
    except ClientDisconnect as error:
        raise BadInput("The file did not arrive whole.", code="damaged-file") from error


async def changes(
    tell: Callable[[], Any], board: Board, seconds: float, allowed: Callable[[], bool]
) -> AsyncIterator[str]:
    """What `tell` says, as server-sent events: now and whenever it changes; None is the end.

    It also ends after so many seconds, and when the reader's token is taken back (`allowed`).
    """
    end, last = time.monotonic() + seconds, ""
    while time.monotonic() < end and not board.closed and allowed():
        change = board.change
        told = tell()
        if told is None:
            yield "event: gone\ndata: {}\n\n"
            return
        text = json.dumps(told)
        if text != last:
            yield f"data: {text}\n\n"
            last = text
        else:
            yield ": waiting\n\n"
        await board.wait(_PING_S, change)
        await asyncio.sleep(_PACE_S)


def remove(job: Job, settings: Settings, database: Database, board: Board) -> None:
    """Delete a job with all its files; whoever works on it stops."""
    database.remove(job.id)
    busy = board.remove(job.id)
    if not busy:  # otherwise the worker does it once its process has ended
        shutil.rmtree(job_folder(settings, job.id), ignore_errors=True)


def described() -> list[dict[str, Any]]:
    """The models that can be asked for."""
    found = []
    for path in list_models():
        try:
            found.append(_described(path, (path / "model.json").stat().st_mtime_ns))
        except (BadInput, OSError):
            continue
    return found


@lru_cache(maxsize=64)
def _described(path: Path, changed_ns: int) -> dict[str, Any]:
    bundle = Bundle.open(path)
    return {
        "name": path.name,
        "title": bundle.title,
        "modality": bundle.model.get("modality", ""),
        "anatomy": bundle.model.get("anatomy", ""),
        "channels": list(bundle.channels),
        "labels": [label.to_dict() for label in bundle.labels],
        "regions": [box.get("name") for box in (bundle.locator or {}).get("boxes", [])],
        "licence": bundle.model.get("licence", ""),
    }


def _sender(path: Path) -> Callable[[], Any]:
    async def send() -> Response:
        return FileResponse(path)

    return send
