"""Nothing is answered without a token; what is too much, too slow or of another site is refused."""

from __future__ import annotations

import base64
import json
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from e2enet.service.jobs.tokens import new_token
from e2enet.service.settings import Settings

from .conftest import Served

ADDRESSES = [
    ("GET", "/"), ("GET", "/page.js"), ("GET", "/models"), ("GET", "/jobs"), ("GET", "/events"),
    ("POST", "/jobs"), ("PUT", "/jobs/x/channels/0"), ("DELETE", "/jobs/x"), ("GET", "/docs"),
    ("GET", "/openapi.json"), ("GET", "/nothing"), ("POST", "/health"),
]  # fmt: skip


def raw(served: Served, text: bytes, wait: float = 10.0) -> bytes:
    """What comes back on a bare connection until the server closes it."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=wait) as connection:
        connection.sendall(text)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def bearer(served: Served) -> bytes:
    return f"Host: x\r\nAuthorization: Bearer {served.token()}\r\n".encode()


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_without_a_token_nothing_is_answered(served: Served, method: str, path: str) -> None:
    for given in ("", "Bearer", "Bearer e2enet_wrong", "Basic !", "Basic YQ==", "Digest a"):
        status, answer = served.ask(method, path, headers={"Authorization": given})
        assert status in (401, 429)
        assert set(answer) == {"code", "message", "help"}


def test_health_needs_none(served: Served) -> None:
    assert served.ask("GET", "/health", headers={"Authorization": ""}) == (200, {"status": "ok"})


def test_a_browser_sends_the_token_as_a_password(served: Served) -> None:
    pair = base64.b64encode(f"alice:{served.token()}".encode()).decode()
    status, page = served.ask("GET", "/", headers={"Authorization": f"Basic {pair}"})
    assert status == 200
    assert b"<title>E2ENet server</title>" in page


def test_a_thousand_wrong_tokens_shut_nobody_out(served: Served) -> None:
    codes = [served.ask("GET", "/jobs", token=new_token())[1]["code"] for _ in range(300)]
    assert set(codes[50:]) == {"too-many-wrong-tokens"}
    assert served.ask("GET", "/jobs")[0] == 200


def test_a_token_in_a_url_is_refused_even_if_it_is_right(served: Served) -> None:
    token = served.token()
    for path in (f"/jobs?token={token}", f"/jobs?x={token}", f"/jobs/{token}", "/jobs?KEY=1"):
        status, answer = served.ask("GET", path)
        assert (status, answer["code"]) == (400, "token-in-url")


def test_another_site_may_not_use_the_browsers_token(served: Served) -> None:
    for site in ("cross-site", "same-site"):
        status, answer = served.ask("GET", "/jobs", headers={"Sec-Fetch-Site": site})
        assert (status, answer["code"]) == (403, "other-site")
    assert served.ask("GET", "/jobs", headers={"Sec-Fetch-Site": "same-origin"})[0] == 200


def test_ten_gigabytes_are_refused_before_they_are_sent(served: Served) -> None:
    new = {"model": "tiny", "bytes": [10 * 10**9]}
    status, answer = served.ask("POST", "/jobs", new)
    assert (status, answer["code"]) == (413, "too-large")
    head = b"PUT /jobs/x/channels/0 HTTP/1.1\r\n" + bearer(served)
    answer = raw(served, head + b"Content-Length: 10000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer
    assert b"The volume has 10.0 GB; at most 1.0 GB are taken." in answer


def test_a_body_without_a_length_is_refused(served: Served) -> None:
    head = b"POST /jobs HTTP/1.1\r\n" + bearer(served)
    assert raw(served, head + b"Transfer-Encoding: chunked\r\n\r\n").startswith(b"HTTP/1.1 411")


def test_a_body_that_is_too_large_and_no_volume(served: Served) -> None:
    status, answer = served.ask("POST", "/jobs", b"x" * 20_000)
    assert (status, answer["code"]) == (413, "too-large")
    assert answer["message"] == "The request has 20.0 kB; at most 16.4 kB are taken."
    assert "volume" not in answer["help"]


def test_slow_clients_are_let_go(served: Served) -> None:
    """Half a request's head, and nothing for a while: the others are served meanwhile."""
    slow = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", served.port), timeout=30)
        connection.sendall(b"GET /jobs HTTP/1.1\r\nHost: x\r\n")
        slow.append(connection)
    begun = time.monotonic()
    assert served.ask("GET", "/jobs")[0] == 200
    assert time.monotonic() - begun < Settings(Path()).times.head
    for connection in slow:
        with suppress(ConnectionResetError):
            assert connection.recv(1000) == b""
        connection.close()


def test_a_slow_body_is_given_up(served: Served) -> None:
    status, job = served.ask("POST", "/jobs", {"model": "tiny", "bytes": [1_000_000]})
    assert status == 201
    head = f"PUT /jobs/{job['id']}/channels/0 HTTP/1.1\r\n".encode() + bearer(served)
    answer = raw(served, head + b"Content-Length: 1000000\r\n\r\nonly this", wait=60)
    assert answer.startswith(b"HTTP/1.1 408")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "too-slow"
    assert not list((served.folder / "jobs" / job["id"]).iterdir())
    served.ask("DELETE", f"/jobs/{job['id']}")
