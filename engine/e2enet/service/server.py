"""Starting the server: one on a folder, at home on this computer, encrypted anywhere else."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
import signal
import socket
import sqlite3
import ssl
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from e2enet.events import BadInput, Cancelled
from e2enet.files import output_errors
from e2enet.inference.device import choose_device
from e2enet.locks import locked
from e2enet.service.guard import Guard
from e2enet.service.jobs.board import Board
from e2enet.service.jobs.database import Database
from e2enet.service.jobs.worker import Worker
from e2enet.service.routes import make_app, remove
from e2enet.service.settings import Settings, Times

_CONNECTIONS = 1000
_END_S = 3
_CLEAR_S = 60.0


@dataclass(frozen=True)
class Door:
    """Where the server listens.

    Attributes:
        host, port: Port 0 is any that is free.
        certificate, key: PEM files of the server's own TLS.
    """

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None


def serve(settings: Settings, door: Door, *, ready: Callable[[str], Any]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings, door: What the person who starts it decided.
        ready: Called with the server's URL as soon as it answers.

    Raises:
        BadInput: An address of other computers without TLS, a port in use, a certificate that
            cannot be read, a proxy that is no IP address, an unknown device, a folder that another
            server works in.
    """
    settings = replace(settings, proxy=_address_of(settings.proxy))
    context = _check_encryption(door, settings)
    # Two names of one device are one: no two jobs at a time on it.
    devices = list(dict.fromkeys(choose_device(device) for device in settings.devices))
    with output_errors(settings.folder):
        settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(settings.folder, "server"), _listening(door) as listener:
        database = _database(settings.folder)
        try:
            for job in database.recover():
                database.finish(job.id, {"error": _GAVE_UP, "warnings": []})
            _clear_strangers(settings, database)
            board = Board()
            config = uvicorn.Config(
                _guarded(settings, database, board, devices),
                http=_protocol(settings.times),
                ws="none",
                lifespan="on",
                access_log=False,
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                date_header=False,
                limit_concurrency=_CONNECTIONS,
                timeout_keep_alive=int(settings.times.pause),
                timeout_graceful_shutdown=_END_S,
                h11_max_incomplete_event_size=16_384,
                ssl_context_factory=(lambda *_: context) if context else None,
            )
            server = _Server(config, board)
            host = f"[{door.host}]" if ":" in door.host else door.host
            port = listener.getsockname()[1]
            ready(f"{'https' if context else 'http'}://{host}:{port}")
            # Uvicorn raises the signal again that it has ended for.
            with suppress(KeyboardInterrupt, Cancelled):
                asyncio.run(server.serve(sockets=[listener]))
        finally:
            database.close()


class _Server(uvicorn.Server):
    """Tells event streams, which would otherwise be waited for, that this is the end."""

    def __init__(self, config: uvicorn.Config, board: Board) -> None:
        super().__init__(config)
        self._board = board

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._board.close()
        await super().shutdown(sockets)


_GAVE_UP = {
    "code": "job-failed",
    "message": "The server ended several times while it worked on this.",
    "help": "Ask who runs the server; a smaller volume may work.",
}


def _guarded(settings: Settings, database: Database, board: Board, devices: list[str]) -> Guard:

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        workers = [Worker(device, settings, database, board) for device in devices]
        tasks = [asyncio.ensure_future(worker.run()) for worker in workers]
        tasks.append(asyncio.ensure_future(_clear(settings, database, board)))
        for task in tasks:
            task.add_done_callback(_end_with)
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    return Guard(make_app(settings, database, board, lifespan), settings, database)


def _end_with(task: asyncio.Task[None]) -> None:
    """A server that cannot work must not go on taking jobs: whoever started it starts it again."""
    if not task.cancelled() and (error := task.exception()):
        traceback.print_exception(error)
        signal.raise_signal(signal.SIGTERM)


async def _clear(settings: Settings, database: Database, board: Board) -> None:
    """Delete, again and again, what was kept long enough, or is waited for by nobody."""
    while True:
        with suppress(sqlite3.Error):
            for job in database.expired(keep_s=settings.keep_s, upload_s=settings.upload_s):
                remove(job, settings, database, board)
            for job in database.all_jobs():
                if job.options.get("attached") and board.unseen_s(job.id) > settings.leave_s:
                    remove(job, settings, database, board)
        await asyncio.sleep(min(_CLEAR_S, settings.keep_s, settings.leave_s / 3))


def _clear_strangers(settings: Settings, database: Database) -> None:
    """Delete folders of jobs that are no longer known, after a crash between the two."""
    known = {job.id for job in database.all_jobs()}
    for folder in (settings.folder / "jobs").glob("*"):
        if folder.name not in known:
            shutil.rmtree(folder, ignore_errors=True)


def _database(folder: Path) -> Database:
    try:
        return Database(folder)
    except (sqlite3.Error, OSError) as error:
        raise BadInput(
            f"The database in {folder} cannot be used: {error}.",
            help="Choose another folder, or restore it.",
            code="damaged-database",
        ) from error


def _check_encryption(door: Door, settings: Settings) -> ssl.SSLContext | None:
    if (door.certificate is None) != (door.key is None):
        raise BadInput(
            "A certificate and its key belong together.",
            help="Give --certificate and --key.",
            code="no-encryption",
        )
    if door.certificate and door.key:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(door.certificate, door.key)
        except (OSError, ssl.SSLError) as error:
            raise BadInput(
                f"{door.certificate} with {door.key} cannot be used: {error}.",
                help="Give PEM files, and a key without a password.",
                code="bad-certificate",
            ) from error
        return context
    if not is_loopback(door.host) and not settings.proxy:
        raise BadInput(
            f"Other computers would reach {door.host} without encryption: tokens and volumes could "
            "be read on the way.",
            help="Give --certificate and --key, or --proxy with the address of one that ends TLS.",
            code="no-encryption",
        )
    return None


def _address_of(proxy: str | None) -> str | None:
    """A proxy's address as its connections show it."""
    if proxy is None:
        return None
    try:
        address = ipaddress.ip_address(proxy.strip())
    except ValueError as error:
        raise _no_proxy(proxy) from error
    if address.is_unspecified or address.is_multicast:
        raise _no_proxy(proxy)
    return str(getattr(address, "ipv4_mapped", None) or address)


def _no_proxy(proxy: str) -> BadInput:
    return BadInput(
        f"{proxy!r} is no IP address that a proxy could have.",
        help="Give --proxy the address that it connects from, such as 127.0.0.1.",
        code="bad-proxy",
    )


def is_loopback(host: str) -> bool:
    """Whether a host is this computer itself, whatever its names resolve to."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(door: Door) -> socket.socket:
    try:
        family = socket.getaddrinfo(door.host, door.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((door.host, door.port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        raise BadInput(
            f"Port {door.port} of {door.host} cannot be used: "
            f"{getattr(error, 'strerror', None) or error}.",
            help="Choose another with --port, or end what uses it.",
            code="port-in-use",
        ) from error


def _protocol(times: Times) -> type[H11Protocol]:
    """Uvicorn's HTTP/1.1 for slow clients: headers must come, and answers be taken, in time."""

    class Limited(H11Protocol):
        _head: asyncio.TimerHandle | None = None
        _reader: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._head = self.loop.call_later(times.head, transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop("_head", "_reader")
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:
                self._stop("_head")
            elif self._head is None and (before is None or before.response_complete):
                # The first byte of another request on the same connection.
                self._head = self.loop.call_later(times.head, self.transport.abort)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._reader = self.loop.call_later(times.pause, self.transport.abort)

        def resume_writing(self) -> None:
            self._stop("_reader")
            super().resume_writing()

        def _stop(self, *names: str) -> None:
            for name in names:
                timer = getattr(self, name)
                if timer is not None:
                    timer.cancel()
                    setattr(self, name, None)

    return Limited
