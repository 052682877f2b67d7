"""A real server in a process of its own, on a port of its own."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from e2enet.service.jobs.database import Database
from e2enet.service.jobs.tokens import hash_of, new_token


class Served:
    """`e2enet serve` on a folder; it can be ended and started again."""

    def __init__(self, folder: Path, models: Path, *options: str) -> None:
        self.folder, self._models, self._options = folder, models, options
        self.process: subprocess.Popen[str] | None = None
        self.port = 0
        self.tokens: dict[str, str] = {}

    def start(self) -> Served:
        words = ["serve", "--folder", os.fspath(self.folder), "--device", "cpu", *self._options]
        words += ["--port", str(self.port)]  # the same again after a restart
        self.process = subprocess.Popen(
            [sys.executable, "-m", "e2enet", *words],
            env={**os.environ, "E2ENET_MODELS": os.fspath(self._models)},
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("Serving on http"), line
        self.url = line.split()[-1]
        self.port = int(self.url.rpartition(":")[2])
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def token(self, user: str = "alice") -> str:
        if user not in self.tokens:
            self.tokens[user] = new_token()
            database = Database(self.folder)
            database.set_token(user, hash_of(self.tokens[user]))
            database.close()
        return self.tokens[user]

    def ask(
        self,
        method: str,
        path: str,
        content: Any = None,
        *,
        user: str = "alice",
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Status and answer; `content` is JSON, or bytes as they are."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Authorization": f"Bearer {token or self.token(user)}", **(headers or {})}
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        if isinstance(content, dict):
            sent["Content-Type"] = "application/json"
        connection.request(method, path, body if content is not None else None, sent)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        kind = response.getheader("content-type", "")
        return response.status, json.loads(answer) if "json" in kind else answer

    def send(self, volume: bytes, user: str = "alice", **options: Any) -> str:
        """The id of a job whose file has been sent."""
        new = {"model": "tiny", "bytes": [len(volume)], **options}
        status, job = self.ask("POST", "/jobs", new, user=user)
        assert status == 201, job
        status, answer = self.ask("PUT", f"/jobs/{job['id']}/channels/0", volume, user=user)
        assert (status, answer["state"] != "uploading") == (200, True), answer
        return job["id"]

    def follow(self, id: str, until: Callable[[dict[str, Any]], bool], user: str = "alice") -> Any:
        """The job, by its events, as soon as it is as wished."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = {"Authorization": f"Bearer {self.token(user)}"}
        connection.request("GET", f"/jobs/{id}/events", headers=headers)
        try:
            for line in connection.getresponse():
                if line.startswith(b"data: ") and until(job := json.loads(line[6:])):
                    return job
        finally:
            connection.close()
        raise AssertionError("the stream ended")


@contextmanager
def another_model(bundle: Path, name: str, **changed: Any) -> Iterator[None]:
    """A copy of a server's model, under another name and with other content of its model.json."""
    copy = bundle.with_name(name)
    shutil.copytree(bundle, copy)
    content = json.loads((copy / "model.json").read_text(encoding="utf-8"))
    text = json.dumps({**content, "name": name, **changed})
    (copy / "model.json").write_text(text, encoding="utf-8")
    yield
    shutil.rmtree(copy)


def ended(job: dict[str, Any]) -> bool:
    return job.get("state") in ("done", "failed")


@pytest.fixture(scope="session")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image, on a grid of its own."""
    array = np.random.default_rng(0).normal(100, 20, (12, 18, 16)).astype(np.float32)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.9, 1.1, 1.3))
    image.SetOrigin((-20.5, 3.25, 7.125))
    path = tmp_path_factory.mktemp("desk") / "head.nii.gz"
    sitk.WriteImage(image, os.fspath(path))
    return path


@pytest.fixture(scope="session")
def long_volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of many windows: minutes of work for the tiny model."""
    array = np.indices((150, 160, 170)).sum(axis=0).astype(np.int16)
    path = tmp_path_factory.mktemp("long") / "long.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(array), os.fspath(path))
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Iterator[Served]:
    """A server for the tests of a file, which leave it as they found it."""
    running = Served(tmp_path_factory.mktemp("server"), tiny_bundle.parent).start()
    yield running
    assert running.end() == 0


@pytest.fixture
def serving(tmp_path: Path, tiny_bundle: Path) -> Iterator[Callable[..., Served]]:
    """Starts servers of a test's own, which may be ended by it."""
    started: list[Served] = []

    def start(*options: str) -> Served:
        folder = tmp_path / f"server-{len(started)}"
        started.append(Served(folder, tiny_bundle.parent, *options))
        return started[-1].start()

    yield start
    for one in started:
        if one.process is not None and one.process.poll() is None:
            one.process.kill()
            one.process.wait()
