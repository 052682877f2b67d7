"""One file from a real server on this computer, which cuts, lies and redirects."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2enet.bundle.download import Address, download, is_address, read_address
from e2enet.events import BadInput
from harness.server import FileServer, TunnelProxy, make_certificate, serving

BODY = bytes(range(256)) * 2000  # half a megabyte
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "model.zip").write_bytes(BODY)
    with serving(tmp_path / "served") as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "model.zip"


def address(server: FileServer, name: str = "model.zip", digest: str = DIGEST) -> Address:
    return Address(f"{server.url}/{name}", digest)


def refused(code: str, *given: object, **options: object) -> str:
    with pytest.raises(BadInput) as caught:
        download(*given, **options)  # type: ignore[arg-type]
    assert caught.value.code == code
    return caught.value.message


def test_a_file_comes_whole(server: FileServer, target: Path) -> None:
    told: list[tuple[int, int]] = []
    download(address(server), target, on_bytes=lambda *seen: told.append(seen))
    assert target.read_bytes() == BODY
    assert os.listdir(target.parent) == ["model.zip"]
    assert told[-1] == (len(BODY), len(BODY))
    download(address(server), target)  # it is there
    assert len(server.asked) == 1


def test_a_broken_connection_is_opened_again(server: FileServer, target: Path) -> None:
    server.cuts = [1000, 200_000, 5]
    download(address(server), target)
    assert target.read_bytes() == BODY
    assert [asked for _path, asked in server.asked] == [
        None, "bytes=1000-", "bytes=201000-", "bytes=201005-",
    ]  # fmt: skip


def test_what_came_waits_for_the_next_try(server: FileServer, target: Path) -> None:
    server.cuts = [1000, 0]
    message = refused("connection-broken", address(server), target)
    assert f"0 of {len(BODY)} bytes" in message or f"1000 of {len(BODY)} bytes" in message
    assert not target.exists()
    server.asked.clear()
    download(address(server), target)
    assert server.asked == [("/model.zip", "bytes=1000-")]
    assert target.read_bytes() == BODY
    assert os.listdir(target.parent) == ["model.zip"]


def test_another_file_by_now_is_fetched_from_its_start(server: FileServer, target: Path) -> None:
    server.cuts = [1000, 0]
    refused("connection-broken", address(server), target)
    other = BODY[::-1]
    (server.folder / "model.zip").write_bytes(other)
    download(address(server, digest=hashlib.sha256(other).hexdigest()), target)
    assert target.read_bytes() == other


@pytest.mark.parametrize("lacking", ["parts", "tagged"])
def test_a_server_that_cannot_go_on_begins_anew(
    server: FileServer, target: Path, lacking: str
) -> None:
    setattr(server, lacking, False)
    server.cuts = [1000, 2000, 3000]
    download(address(server), target)
    assert target.read_bytes() == BODY


def test_a_file_of_unknown_length(server: FileServer, target: Path) -> None:
    server.sized = False
    download(address(server), target)
    assert target.read_bytes() == BODY
    target.unlink()
    server.cuts = [1000]  # nobody can tell that it was cut, but its hash does
    refused("wrong-hash", address(server), target)
    assert os.listdir(target.parent) == []


def test_a_part_that_is_whole_already(server: FileServer, target: Path) -> None:
    """Killed between the last byte and the rename."""
    server.cuts = [1000, 0]
    refused("connection-broken", address(server), target)
    target.with_name("model.zip.part").write_bytes(BODY)
    download(address(server), target)
    assert target.read_bytes() == BODY


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_killed_in_the_middle(server: FileServer, target: Path) -> None:
    server.cuts, server.hold = [300_000], threading.Event()
    code = (
        "import sys; from pathlib import Path; from e2enet.bundle.download import *\n"
        "download(Address(*sys.argv[1:3]), Path(sys.argv[3]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, f"{server.url}/model.zip", DIGEST,
                                os.fspath(target)])  # fmt: skip
    part = target.with_name("model.zip.part")
    end = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 200_000):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.hold.set()
    server.hold = None
    download(address(server), target)
    assert int(str(server.asked[-1][1]).removeprefix("bytes=").rstrip("-")) > 200_000
    assert target.read_bytes() == BODY
    assert os.listdir(target.parent) == ["model.zip"]


def test_another_file_than_was_meant(server: FileServer, target: Path) -> None:
    wrong = hashlib.sha256(b"another").hexdigest()
    message = refused("wrong-hash", address(server, digest=wrong), target)
    assert DIGEST in message
    assert os.listdir(target.parent) == []


@pytest.mark.parametrize("sized", [True, False])
def test_too_large(server: FileServer, target: Path, sized: bool) -> None:
    server.sized = sized
    refused("too-large", address(server), target, limit=len(BODY) - 1)
    written = sum(path.stat().st_size for path in target.parent.iterdir())
    assert written < 1000
    download(address(server), target, limit=len(BODY))


@pytest.mark.parametrize(
    "away",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x", "//evil\\@/x"],
)
def test_a_redirection_leads_to_no_file(server: FileServer, target: Path, away: str) -> None:
    server.away = {"/away": away}
    with pytest.raises(BadInput) as caught:
        download(address(server, "away"), target)
    assert caught.value.code in ("bad-redirection", "unreachable")
    assert os.listdir(target.parent) == []


def test_a_redirection_to_the_same_kind_is_followed(server: FileServer, target: Path) -> None:
    server.away = {"/away": "/model.zip"}
    download(address(server, "away"), target)
    assert target.read_bytes() == BODY
    server.away = {"/away": "/away"}
    refused("bad-redirection", address(server, "away", ""), target)


def test_out_of_tls_it_does_not_go() -> None:
    from urllib.request import Request

    from e2enet.bundle.download import _SameKind

    with pytest.raises(BadInput, match="not followed"):
        _SameKind().redirect_request(
            Request("https://host/a"), None, 302, "Found", {}, "http://host/a"
        )


def test_what_is_not_there(server: FileServer, target: Path) -> None:
    assert "answers 404" in refused("not-served", address(server, "other.zip"), target)
    server.shutdown()
    server.server_close()
    assert "cannot be reached" in refused("unreachable", address(server), target)
    refused("unreachable", Address("https://no-such-host.invalid/model.zip"), target)


def test_through_a_proxy(server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy is asked for an address that only it can reach."""
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.cuts = [1000]
    download(Address("http://models.invalid/model.zip", DIGEST), target)
    assert target.read_bytes() == BODY
    assert server.asked[0] == ("http://models.invalid/model.zip", None)
    assert server.asked[1] == ("http://models.invalid/model.zip", "bytes=1000-")


@pytest.fixture
def secure(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FileServer]:
    """The same files by https, with a certificate that only $SSL_CERT_FILE vouches for."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    certificate = make_certificate(tmp_path)
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    with serving(server.folder, certificate) as secure:
        yield secure


def test_by_https(
    secure: FileServer, server: FileServer, target: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    said = refused("unreachable", address(secure), target)
    assert "certificate verify failed" in said.lower()
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(tmp_path / "cert.pem"))
    secure.cuts = [1000]
    download(address(secure, digest=""), target)
    assert target.read_bytes() == BODY
    secure.away = {"/away": f"{server.url}/model.zip"}  # out of TLS
    refused("bad-redirection", address(secure, "away", ""), target)
    secure.away = {"/away": f"{secure.url}/model.zip"}
    target.unlink()
    download(address(secure, "away", ""), target)
    assert target.read_bytes() == BODY


def test_by_https_through_a_proxy(
    secure: FileServer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tunnel: the proxy learns the host, the certificate is the server's own."""
    proxy = TunnelProxy(("127.0.0.1", secure.server_port))
    threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(tmp_path / "cert.pem"))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    try:
        download(Address("https://models.invalid/model.zip"), target)
    finally:
        proxy.shutdown()
        proxy.server_close()
    assert target.read_bytes() == BODY
    assert proxy.asked == ["models.invalid:443"]


def test_a_folder_that_cannot_be_written(server: FileServer, tmp_path: Path) -> None:
    message = refused("output-not-writable", address(server), tmp_path / "none" / "model.zip")
    assert "cannot be written" in message


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("/home/me/model.zip", "bad-address"),
        ("file:///home/me/model.zip", "bad-address"),
        ("ftp://host/model.zip", "bad-address"),
        ("https:///model.zip", "bad-address"),
        ("https://host:port/model.zip", "bad-address"),
        ("https://[::1/model.zip", "bad-address"),
        ("https://host/a model.zip", "bad-address"),
        ("https://host/\x1b[2J", "bad-address"),
        ("https://me:secret@host/model.zip", "bad-address"),
        ("https://host/model.zip#sha256=12", "bad-hash"),
        ("http://host/model.zip", "insecure-address"),
    ],
)
def test_addresses_that_are_none(text: str, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_address(text)
    assert caught.value.code == code
    assert "secret" not in str(caught.value)


def test_addresses() -> None:
    digest = "0" * 64
    assert read_address(" https://host/m.zip ") == Address("https://host/m.zip")
    assert read_address(f"http://host/m.zip#sha256={digest}") == Address(
        "http://host/m.zip", digest
    )
    assert read_address("https://host/m.zip", "A" * 64).sha256 == "a" * 64
    assert is_address("https://host")
    assert is_address("file:///etc/passwd")
    assert not is_address("hippocampus-mr")
    assert not is_address("C:\\models\\m.zip")
    assert not is_address("models/m.zip")
