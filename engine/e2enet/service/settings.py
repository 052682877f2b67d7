"""What a server is told when it is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

MEGA = 10**6


@dataclass(frozen=True)
class Times:
    """How long one request may take, in seconds.

    Attributes:
        head: From the first byte of a request to the end of its headers.
        pause: Between two parts of a body, in either direction.
        slowest: Bytes a second that an upload must reach on average, after the first pause.
        stream: After this an event stream ends, and its reader asks again.
    """

    head: float = 5.0
    pause: float = 10.0
    slowest: float = 20_000.0
    stream: float = 600.0


@dataclass(frozen=True)
class Settings:
    """Where a server keeps its jobs, what it works with, and its limits.

    Attributes:
        folder: Database, uploads and results; nobody else may read it.
        devices: One job at a time on each.
        proxy: IP address of the proxy that ends TLS, if there is one; nobody else is answered.
        upload_bytes: Largest file of one channel, as it is sent.
        volume_bytes: Largest volume once unpacked, and as 32-bit numbers.
        jobs_each: Unfinished jobs of one user.
        jobs: Unfinished jobs of all.
        free_bytes: What uploads leave free on the disk.
        keep_s: Results are deleted so many seconds after the end of their job.
        upload_s: A job whose files do not arrive in this time is deleted.
        leave_s: A job of a program that waits for it is deleted when nobody has asked for so long.
        job_s: The longest that one job may take.
    """

    folder: Path
    devices: tuple[str, ...] = ("auto",)
    proxy: str | None = None
    upload_bytes: int = 1000 * MEGA
    volume_bytes: int = 4000 * MEGA
    jobs_each: int = 20
    jobs: int = 500
    free_bytes: int = 1000 * MEGA
    keep_s: float = 24 * 3600.0
    upload_s: float = 3600.0
    leave_s: float = 180.0
    job_s: float = 3600.0
    times: Times = field(default_factory=Times)
