"""Many clients at once on a real server of this machine: is every job answered, and how long.

    python engine/benchmarks/serve_load.py --clients 50 [--restart]

Each client is a user of its own: it sends a volume, follows its events to the end and fetches the
labels. --restart kills the server (SIGKILL) once a third is done and starts it again. Printed are
the jobs that were lost or done twice, and the median, 95th percentile and longest of a job from
its first byte to its labels, of one small request (GET /jobs) under that load, and of an upload.
The server takes the model and device that are named; the volume is random and small, so that
what is measured is the service.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from e2enet.service.jobs.database import Database
from e2enet.service.jobs.tokens import hash_of, new_token

AWAY = (OSError, http.client.HTTPException, ValueError)


class Client(threading.Thread):
    """One user with one job."""

    def __init__(self, port: int, token: str, volume: bytes, model: str) -> None:
        super().__init__(daemon=True)
        self.port, self.token, self.volume, self.model = port, token, volume, model
        self.times: dict[str, list[float]] = {"job": [], "upload": [], "small request": []}
        self.id = ""
        self.wrong = ""
        self.done = threading.Event()

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self.wrong = f"{type(error).__name__}: {error}"
        self.done.set()

    def _work(self) -> None:
        begun = time.monotonic()
        new = json.dumps({"model": self.model, "bytes": [len(self.volume)]}).encode()
        self.id = json.loads(self._again(lambda: self._ask("POST", "/jobs", new)))["id"]
        sent = time.monotonic()
        state = "uploading"
        while state == "uploading":
            try:
                self._ask("PUT", f"/jobs/{self.id}/channels/0", self.volume)
            except AWAY:
                time.sleep(0.5)
            state = json.loads(self._again(lambda: self._ask("GET", f"/jobs/{self.id}")))["state"]
        self.times["upload"].append(time.monotonic() - sent)
        while state not in ("done", "failed"):
            asked = time.monotonic()
            self._again(lambda: self._ask("GET", "/jobs"))
            self.times["small request"].append(time.monotonic() - asked)
            state = self._follow(state)
        if state == "failed":
            self.wrong = "failed"
            return
        labels = self._again(lambda: self._ask("GET", f"/jobs/{self.id}/segmentation"))
        if labels[:2] != b"\x1f\x8b":
            self.wrong = "no labels"
        self.times["job"].append(time.monotonic() - begun)

    def _follow(self, state: str) -> str:
        """The job's state when it has ended, or its stream has."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            connection.request("GET", f"/jobs/{self.id}/events", headers=headers)
            for line in connection.getresponse():
                if line.startswith(b"data: "):
                    state = json.loads(line[6:]).get("state", state)
                if state in ("done", "failed"):
                    break
        except AWAY:
            time.sleep(0.5)
        finally:
            connection.close()
        return state

    def _again(self, ask: Callable[[], bytes], seconds: float = 120.0) -> bytes:
        end = time.monotonic() + seconds
        while True:
            try:
                return ask()
            except AWAY:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = response.read()
            if response.status >= 300:
                raise OSError(f"{method} {path}: {response.status} {answer[:200]!r}")
            return answer
        finally:
            connection.close()


def start(folder: Path, port: int, device: str) -> tuple[subprocess.Popen[str], int]:
    """A server, and its port."""
    words = ["serve", "--folder", os.fspath(folder), "--port", str(port), "--device", device]
    process = subprocess.Popen(
        [sys.executable, "-m", "e2enet", *words], stdout=subprocess.PIPE, encoding="utf-8"
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline().rpartition(":")[2])


def load(clients: int, *, restart: bool, model: str, device: str) -> dict[str, Any]:
    """Run the clients; lost and doubled jobs, and times in seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "volume.nii.gz"
        array = np.random.default_rng(0).normal(100, 20, (40, 56, 40)).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(array), os.fspath(path))
        folder = Path(scratch) / "server"
        process, port = start(folder, 0, device)
        begun = time.monotonic()
        try:
            database = Database(folder)
            users = []
            for number in range(clients):
                token = new_token()
                database.set_token(f"user-{number}", hash_of(token))
                users.append(Client(port, token, path.read_bytes(), model))
            database.close()
            for user in users:
                user.start()
            if restart:
                while sum(user.done.is_set() for user in users) < clients // 3:
                    time.sleep(0.1)
                process.send_signal(signal.SIGKILL)
                process.wait()
                process, _ = start(folder, port, device)
            for user in users:
                user.join()
            database = Database(folder)
            jobs = database.all_jobs()
            database.close()
        finally:
            process.terminate()
            process.wait()
    return {
        "clients": clients,
        "restart": restart,
        "lost": [user.wrong or user.id for user in users if user.wrong or not user.times["job"]],
        "jobs": len(jobs),
        "seconds": round(time.monotonic() - begun, 1),
        "times_s": {
            name: _spread([one for user in users for one in user.times[name]])
            for name in ("job", "upload", "small request")
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }


def _spread(times: list[float]) -> dict[str, float]:
    """Count, median, 95th percentile and longest."""
    if not times:
        return {"count": 0}
    low, high = np.percentile(times, [50, 95])
    spread = {"median": low, "p95": high, "longest": max(times)}
    return {"count": len(times), **{name: round(float(one), 3) for name, one in spread.items()}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--restart", action="store_true")
    parser.add_argument("--model", default="hippocampus-mr")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    told = load(given.clients, restart=given.restart, model=given.model, device=given.device)
    print(json.dumps(told, indent=2))
    sys.exit(bool(told["lost"]) or told["jobs"] != told["clients"])
