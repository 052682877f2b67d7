"""Users and jobs in one SQLite file: what a restart of the server must not lose."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATABASE = "jobs.sqlite"
ATTEMPTS = 3  # a job that takes the server down with it is not tried for ever

_TABLES = """
CREATE TABLE IF NOT EXISTS users (
    name TEXT PRIMARY KEY, token_hash TEXT UNIQUE, served INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, user TEXT NOT NULL REFERENCES users(name), model TEXT NOT NULL,
    options TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL, queued REAL, started REAL,
    ended REAL, attempts INTEGER NOT NULL DEFAULT 0, outcome TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs(state, user, queued);
"""


@dataclass(frozen=True)
class Job:
    """One case that somebody sent.

    Attributes:
        state: uploading, queued, running, done or failed.
        options: "bytes" of each channel's file, "tta", "roi".
        outcome: Of a finished job: "result" or "error", "warnings", "slices".
    """

    id: str
    user: str
    model: str
    options: dict[str, Any]
    state: str
    created: float
    queued: float | None = None
    started: float | None = None
    ended: float | None = None
    attempts: int = 0
    outcome: dict[str, Any] = field(default_factory=dict)

    @property
    def unfinished(self) -> bool:
        """Whether something is still to be done for it."""
        return self.ended is None


class Database:
    """All that is written at once or not at all; safe to use from several threads.

    Args:
        folder: Of the server; made, for its owner alone, if it is missing.

    Raises:
        OSError, sqlite3.Error: It cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / DATABASE
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        with self._lock, self._connection:
            self._connection.executescript(_TABLES)

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._connection.close()

    def set_token(self, user: str, token_hash: str | None) -> bool:
        """Give a user a token, in the place of an older one; None takes it away.

        Returns:
            Whether the user was known before.
        """
        with self._lock, self._connection:
            known = bool(self._all("SELECT 1 FROM users WHERE name = ?", user))
            if known or token_hash:
                self._do(
                    "INSERT INTO users (name, token_hash) VALUES (?, ?) "
                    "ON CONFLICT (name) DO UPDATE SET token_hash = excluded.token_hash",
                    user,
                    token_hash,
                )
        return known

    def user_of(self, token_hash: str) -> str | None:
        """Whose token has this hash."""
        rows = self._all("SELECT name FROM users WHERE token_hash = ?", token_hash)
        return rows[0]["name"] if rows else None

    def users(self) -> list[str]:
        """Everybody who has a token."""
        rows = self._all("SELECT name FROM users WHERE token_hash IS NOT NULL ORDER BY name")
        return [row["name"] for row in rows]

    def add(self, user: str, model: str, options: dict[str, Any]) -> Job:
        """A new job whose files are still to come."""
        job = Job(uuid.uuid4().hex, user, model, options, "uploading", time.time())
        with self._lock, self._connection:
            self._do(
                "INSERT INTO jobs (id, user, model, options, state, created) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                job.id, user, model, json.dumps(options), job.state, job.created,
            )  # fmt: skip
        return job

    def job(self, id: str, user: str | None = None) -> Job | None:
        """One job, or None; with `user` only if it is theirs."""
        found = self._jobs("WHERE id = ?", id)
        return found[0] if found and user in (None, found[0].user) else None

    def jobs_of(self, user: str) -> list[Job]:
        """A user's jobs, the newest first."""
        return self._jobs("WHERE user = ? ORDER BY created DESC", user)

    def all_jobs(self) -> list[Job]:
        """Everybody's jobs."""
        return self._jobs("ORDER BY created")

    def unfinished(self, user: str | None = None) -> int:
        """How many jobs are not finished, of one user or of all."""
        mine, values = ("", []) if user is None else ("AND user = ?", [user])
        return self._all(f"SELECT COUNT(*) FROM jobs WHERE ended IS NULL {mine}", *values)[0][0]

    def set_queued(self, id: str) -> None:
        """All files of a job have arrived."""
        with self._lock, self._connection:
            self._do(
                "UPDATE jobs SET state = 'queued', queued = ? WHERE id = ? AND state = 'uploading'",
                time.time(), id,
            )  # fmt: skip

    def waiting(self) -> list[str]:
        """Jobs in the order in which they will be taken.

        First what a stop of the server interrupted; then one of each user in turn, beginning with
        the user who was served longest ago.
        """
        rows = self._all(
            "SELECT id, user, attempts, served FROM jobs JOIN users ON user = name "
            "WHERE state = 'queued' ORDER BY queued"
        )
        turns: dict[str, int] = {}
        order = []
        for row in rows:
            if row["attempts"]:
                order.append((0, 0, row["id"]))
                continue
            turns[row["user"]] = turn = turns.get(row["user"], 0) + 1
            order.append((turn, row["served"], row["id"]))
        return [id for _, _, id in sorted(order, key=lambda entry: entry[:2])]

    def take(self) -> Job | None:
        """The next job, from now on running; None if nothing waits."""
        with self._lock, self._connection:
            waiting = self.waiting()
            if not waiting:
                return None
            self._do(
                "UPDATE jobs SET state = 'running', started = ? WHERE id = ?",
                time.time(), waiting[0],
            )  # fmt: skip
            self._do(
                "UPDATE users SET served = (SELECT MAX(served) FROM users) + 1 "
                "WHERE name = (SELECT user FROM jobs WHERE id = ?)",
                waiting[0],
            )
            return self.job(waiting[0])

    def put_back(self, id: str) -> None:
        """A job that the server's own end interrupted waits again, at the front."""
        with self._lock, self._connection:
            self._do(
                "UPDATE jobs SET state = 'queued', started = NULL, attempts = MAX(attempts, 1) "
                "WHERE id = ? AND state = 'running'",
                id,
            )

    def recover(self) -> list[Job]:
        """After a crash: what was running waits again, or has failed for good; returns the latter.

        Only for a server that has just been started.
        """
        died = self._jobs("WHERE state = 'running'")
        with self._lock, self._connection:
            for job in died:
                self._do(
                    "UPDATE jobs SET state = 'queued', started = NULL, attempts = attempts + 1 "
                    "WHERE id = ?",
                    job.id,
                )
        return [job for job in died if job.attempts + 1 >= ATTEMPTS]

    def finish(self, id: str, outcome: dict[str, Any]) -> None:
        """A job is done, or has failed if the outcome has an "error"."""
        state = "failed" if "error" in outcome else "done"
        with self._lock, self._connection:
            self._do(
                "UPDATE jobs SET state = ?, ended = ?, outcome = ? WHERE id = ?",
                state, time.time(), json.dumps(outcome), id,
            )  # fmt: skip

    def remove(self, id: str) -> None:
        """Nothing is left of a job."""
        with self._lock, self._connection:
            self._do("DELETE FROM jobs WHERE id = ?", id)

    def expired(self, *, keep_s: float, upload_s: float) -> list[Job]:
        """Jobs that ended `keep_s` seconds ago, or whose files have not come within `upload_s`."""
        now = time.time()
        return self._jobs(
            "WHERE ended < ? OR (state = 'uploading' AND created < ?)", now - keep_s, now - upload_s
        )

    def _jobs(self, where: str, *values: Any) -> list[Job]:
        jobs = []
        for row in self._all(f"SELECT * FROM jobs {where}", *values):
            fields = dict(row)
            fields["options"] = json.loads(fields["options"])
            fields["outcome"] = json.loads(fields["outcome"] or "{}")
            jobs.append(Job(**fields))
        return jobs

    def _all(self, statement: str, *values: Any) -> Sequence[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def _do(self, statement: str, *values: Any) -> None:
        self._connection.execute(statement, values)
