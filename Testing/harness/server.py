"""A server of files on this computer that cuts, lies, redirects and holds as a test tells it."""

from __future__ import annotations

import hashlib
import http.server
import socket
import ssl
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class FileServer(http.server.ThreadingHTTPServer):
    """Serves a folder, in parts if asked.

    Attributes:
        asked: (path, Range) of every request, in their order; of a proxy the path is an address.
        cuts: Bytes after which the connection of a request ends, one a request; then none ends.
        away: Path -> where a request of it is sent to.
        parts: Whether it can go on in the middle.
        sized: Whether it says how long a file is.
        tagged: Whether it names a file's version.
        hold: An event that a request waits for before it ends, or None.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.scheme = folder, "http"
        self.asked: list[tuple[str, str | None]] = []
        self.cuts: list[int] = []
        self.away: dict[str, str] = {}
        self.parts = self.sized = self.tagged = True
        self.hold: threading.Event | None = None

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def at(self, name: str) -> str:
        """The address of a file with its hash."""
        digest = hashlib.sha256((self.folder / name).read_bytes()).hexdigest()
        return f"{self.url}/{name}#sha256={digest}"


class TunnelProxy(http.server.ThreadingHTTPServer):
    """A proxy for https: passes bytes on, which it cannot read, to `goal` whatever it is asked for.

    Attributes:
        asked: What it was asked for, as host:port.
        goal: (host, port) that it leads to.
    """

    daemon_threads = True

    def __init__(self, goal: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.asked: list[str] = []
        self.goal = goal

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"http://127.0.0.1:{self.server_port}"


class _Tunnel(http.server.BaseHTTPRequestHandler):
    server: TunnelProxy

    def do_CONNECT(self) -> None:
        self.server.asked.append(self.path)
        with socket.create_connection(self.server.goal) as far:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(far, self.connection), daemon=True)
            back.start()
            _pump(self.connection, far)
            back.join(5)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Tests read `asked`."""


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(1 << 16):
            sink.sendall(block)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 and models.invalid with its key in one file; needs openssl."""
    made = folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:models.invalid",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    made.write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return made


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append((self.path, asked))
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if path in server.away:
            self.send_response(302)
            self.send_header("Location", server.away[path])
            self.end_headers()
            return
        file = server.folder / path.lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        body = file.read_bytes()
        version = f'"{hashlib.sha256(body).hexdigest()[:8]}"'
        start = 0
        if asked and server.parts and self.headers.get("If-Range") == version:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start and start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if server.tagged:
            self.send_header("ETag", version)
        if server.sized:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        self.wfile.write(body[start:] if cut is None else body[start : start + cut])
        if server.hold:
            self.wfile.flush()
            server.hold.wait(20)

    def log_message(self, *_: object) -> None:
        """Tests read `asked`."""


@contextmanager
def serving(folder: Path, certificate: Path | None = None) -> Iterator[FileServer]:
    """A server that runs while the block does; with a certificate by https."""
    server = FileServer(folder)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        if server.hold:
            server.hold.set()
        server.shutdown()
        server.server_close()
