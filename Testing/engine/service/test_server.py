"""Starting, ending and starting again: where it listens, and that no job is lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from e2enet.cli.app import app
from e2enet.service.jobs.board import Board
from e2enet.service.jobs.database import Database
from e2enet.service.server import _clear, is_loopback
from e2enet.service.settings import Settings
from typer.testing import CliRunner

from .conftest import Served, ended

Start = Callable[..., Served]


def refused(*options: str) -> str:
    """What is said when a server does not start."""
    handler = signal.getsignal(signal.SIGTERM)
    done = CliRunner().invoke(app, ["serve", *options])
    signal.signal(signal.SIGTERM, handler)
    assert done.exit_code == 2, done.output
    return " ".join(done.stderr.split())


def children(process: subprocess.Popen) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in path.read_text().split()]


def running(job: dict) -> bool:
    return job["state"] == "running" and (job["progress"] or {}).get("stage") == "inference"


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_jobs_survive_a_kill_and_a_restart(serving: Start, long_volume: Path, volume: Path) -> None:
    served = serving()
    first = served.send(long_volume.read_bytes(), tta=True)
    waiting = [served.send(volume.read_bytes(), user=user) for user in ("bob", "carol")]
    started = served.follow(first, running)["created"]
    (child,) = children(served.process)
    served.end(signal.SIGKILL)
    assert gone(child), "the child outlived its server"
    served.start()
    job = served.follow(first, running)  # at the front again
    assert job["created"] == started
    assert served.end(signal.SIGTERM) == 0  # a polite end interrupts it as well
    served.start()
    served.follow(first, running)
    (child,) = children(served.process)
    assert served.ask("DELETE", f"/jobs/{first}")[0] == 200  # cancel
    assert gone(child)
    for id, user in zip(waiting, ("bob", "carol"), strict=True):
        assert served.follow(id, ended, user=user)["state"] == "done"
    assert sorted(path.name for path in (served.folder / "jobs").iterdir()) == sorted(waiting)
    served.end()


def test_two_servers_on_one_database(served: Served) -> None:
    said = refused("--folder", str(served.folder), "--port", "0")
    assert f"is under way already, by process {served.process.pid}" in said
    assert served.ask("GET", "/jobs")[0] == 200


def test_a_port_in_use(served: Served, tmp_path: Path) -> None:
    said = refused("--folder", str(tmp_path / "other"), "--port", str(served.port))
    assert f"Port {served.port} of 127.0.0.1 cannot be used" in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "server.example"])
def test_other_computers_need_encryption(tmp_path: Path, host: str) -> None:
    said = refused("--folder", str(tmp_path / "new"), "--host", host)
    assert "without encryption" in said
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--certificate", "a.pem"], "belong together"),
        (["--certificate", "a.pem", "--key", "b.pem"], "cannot be used"),
        (["--device", "cuda:77"], "cuda:77"),
        (["--port", "99999"], "cannot be used"),
        (["--proxy", "localhost"], "'localhost' is no IP address"),
        (["--proxy", "10.0.0.999", "--host", "0.0.0.0"], "'10.0.0.999' is no IP address"),
        (["--proxy", "0.0.0.0"], "'0.0.0.0' is no IP address"),
        (["--proxy", ""], "'' is no IP address"),
    ],
)
def test_what_does_not_start(tmp_path: Path, options: list[str], said: str) -> None:
    assert said in refused("--folder", str(tmp_path / "new"), *options)
    assert not (tmp_path / "new" / "jobs.sqlite").exists()


def test_what_is_this_computer() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost", "127.9.9.9")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "")))


@pytest.mark.parametrize("proxy", ["127.0.0.1", " ::FFFF:127.0.0.1 "])
def test_a_proxy_is_known_however_its_address_is_written(serving: Start, proxy: str) -> None:
    served = serving("--proxy", proxy)
    assert served.ask("GET", "/health") == (200, {"status": "ok"})
    served.end()


def test_behind_a_proxy_nobody_else_is_answered(serving: Start) -> None:
    served = serving("--proxy", "192.0.2.1", "--host", "0.0.0.0")
    status, answer = served.ask("GET", "/health")
    assert (status, answer["code"]) == (403, "not-through-proxy")
    served.end()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_over_tls(serving: Start, tmp_path: Path, volume: Path) -> None:
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out",
         str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    served = serving("--certificate", str(certificate), "--key", str(key))
    assert served.url.startswith("https://")
    words = [str(volume), "--model", "tiny", "--server", served.url, "--progress", "json"]
    environment = {**os.environ, "E2ENET_TOKEN": served.token()}
    for trusted in (True, False):
        if trusted:
            environment["SSL_CERT_FILE"] = str(certificate)
        else:
            environment.pop("SSL_CERT_FILE")
        output = tmp_path / f"{trusted}.nii.gz"
        done = subprocess.run(
            [sys.executable, "-m", "e2enet", "segment", *words, "--output", str(output)],
            env=environment, capture_output=True, text=True, encoding="utf-8",
        )  # fmt: skip
        assert done.returncode == (0 if trusted else 2), done.stdout
        assert output.exists() == trusted
        assert trusted or "bad-certificate" in done.stdout
    served.end()


def test_results_are_deleted_after_a_while(serving: Start, volume: Path) -> None:
    served = serving("--keep-hours", "0.001")
    id = served.send(volume.read_bytes())
    assert served.follow(id, ended)["state"] == "done"
    for _ in range(200):
        if served.ask("GET", f"/jobs/{id}")[0] == 404:
            break
        time.sleep(0.1)
    assert not (served.folder / "jobs" / id).exists()
    served.end()


def test_a_job_that_nobody_waits_for_any_more(tmp_path: Path) -> None:
    settings = Settings(tmp_path, leave_s=0.4)
    database, board = Database(tmp_path), Board()
    database.set_token("anna", "hash")
    options: dict = {"bytes": [1]}
    kept, left, watched = (
        database.add("anna", "tiny", {**options, "attached": attached})
        for attached in (False, True, True)
    )

    async def watch() -> None:
        clearing = asyncio.ensure_future(_clear(settings, database, board))
        for _ in range(20):
            board.saw(watched.id)
            await asyncio.sleep(0.05)
        clearing.cancel()

    asyncio.run(watch())
    assert {job.id for job in database.all_jobs()} == {kept.id, watched.id}
    assert left.id not in {job.id for job in database.all_jobs()}
    database.close()


def test_a_job_that_takes_too_long(serving: Start, long_volume: Path) -> None:
    served = serving("--job-minutes", "0.05")
    id = served.send(long_volume.read_bytes(), tta=True)
    job = served.follow(id, ended)
    assert (job["state"], job["error"]["code"]) == ("failed", "too-long")
    served.end()


def test_tokens_from_the_command_line(serving: Start) -> None:
    served = serving()
    folder = ["--folder", str(served.folder)]

    def token(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["serve", "token", *words, *folder])
        return done.exit_code, done.stdout.strip()

    status, first = token("dora")
    assert status == 0
    assert served.ask("GET", "/jobs", token=first)[1]["user"] == "dora"
    _, second = token("dora")  # while the server runs
    assert served.ask("GET", "/jobs", token=first)[0] == 401
    assert served.ask("GET", "/jobs", token=second)[0] == 200
    assert token("dora", "--revoke") == (0, "")
    assert served.ask("GET", "/jobs", token=second)[0] == 401
    assert token("nobody", "--revoke")[0] == 2
    assert token(" ")[0] == 2
    served.end()
