"""Talking to a server: where it is, who we are, and what it answers. Standard library only."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from e2enet.events import BadInput

TOKEN = "E2ENET_TOKEN"
_ANSWER_BYTES = 64 * 2**20  # of JSON
_TIMEOUT_S = 60.0


def read_token(file: Path | None) -> str:
    """The token from a file's first line, or from $E2ENET_TOKEN.

    Raises:
        BadInput: There is none.
    """
    if file is not None:
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(
                f"{file} cannot be read.", help="Give the file of your token.", code="no-token"
            ) from error
    else:
        token = os.environ.get(TOKEN, "").strip()
    if not token or not token.isascii() or len(token.split()) != 1:
        raise BadInput(
            f"{file or 'The variable ' + TOKEN} holds no token."
            if file or token
            else "A server needs your token.",
            help=f"Set {TOKEN}, or give --token-file; who runs the server makes it.",
            code="no-token",
        )
    return token


class Refused(BadInput):
    """What the server answered in the place of what was asked for; `status` is HTTP's."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(
            str(body.get("message") or f"The server answered {status}."),
            help=str(body.get("help", "")),
            code=str(body.get("code", "server-refused")),
        )
        self.status = status


class Away(Exception):
    """The server does not answer, or not in full."""


class Server:
    """A server's address and our token.

    Redirections are not followed: an answer comes from where the token was meant for, or not.

    Args:
        url: https://HOST[:PORT][/PATH]; http only to this computer itself.
        token: As `read_token`.

    Raises:
        BadInput: Another kind of address, or one with a name, password or token in it.
    """

    def __init__(self, url: str, token: str) -> None:
        self._token = token
        try:
            parts = urlsplit(url if "://" in url else f"https://{url}")
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError as error:
            raise _bad_url(url) from error
        if parts.scheme not in ("http", "https") or not self._host:
            raise _bad_url(url)
        if parts.username or parts.password or parts.query or parts.fragment or token in url:
            raise BadInput(
                "The server's URL has more in it than an address.",
                help=f"A token belongs into {TOKEN} or a file, never into a URL.",
                code="token-in-url",
            )
        self._tls = parts.scheme == "https"
        if not self._tls and not _is_this_computer(self._host):
            raise BadInput(
                f"{url} is not encrypted: your token and the volume could be read on the way.",
                help="Use https.",
                code="no-encryption",
            )
        self._base = parts.path.rstrip("/")
        self.url = f"{parts.scheme}://{parts.netloc}{self._base}"

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        *,
        length: int = 0,
        timeout: float = _TIMEOUT_S,
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask, and give the answer while the block lasts.

        Raises:
            Away: No answer.
            Refused: Another answer than 2xx.
        """
        connection: http.client.HTTPConnection
        if self._tls:
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout, context=context
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        headers = {"Authorization": f"Bearer {self._token}"}
        if body is not None:
            headers["Content-Length"] = str(len(body) if isinstance(body, bytes) else length)
            headers["Content-Type"] = (
                "application/json" if isinstance(body, bytes) else "application/octet-stream"
            )
        try:
            # A server that refuses answers before it has read everything.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, self._base + path, body, headers)
            response = connection.getresponse()
            if response.status >= 300:
                raise self._refusal(response)
            yield response
        except ssl.SSLCertVerificationError as error:
            raise BadInput(
                f"The certificate of {self.url} is not trusted: {error.verify_message}.",
                help="Set SSL_CERT_FILE to the certificate of your hospital's authority.",
                code="bad-certificate",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Away(str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """Ask for JSON. Raises Away and Refused."""
        body = None if content is None else json.dumps(content).encode()
        with self.open(method, path, body) as response:
            return _parsed(response.read(_ANSWER_BYTES))

    def fetch(self, path: str) -> bytes:
        """A whole file. Raises Away and Refused."""
        with self.open("GET", path) as response:
            content = response.read()
            expected = response.getheader("Content-Length")
        if expected is not None and len(content) != int(expected):
            raise Away("The file did not arrive whole.")
        return content

    def _refusal(self, response: http.client.HTTPResponse) -> Exception:
        if response.status in (502, 503, 504):  # of a proxy, or of a server with too much to do
            return Away(f"The server answered {response.status}.")
        if response.status < 400:
            return BadInput(
                f"{self.url} sends us elsewhere, and a token goes nowhere but where it was meant "
                "for.",
                help="Give the server's own address.",
                code="server-redirects",
            )
        try:
            body = _parsed(response.read(_ANSWER_BYTES))
        except Away:
            body = {}
        return Refused(response.status, body if isinstance(body, dict) else {})


def events(response: http.client.HTTPResponse) -> Iterator[Any]:
    """The data of server-sent events; None where the server says that there is nothing left."""
    name = ""
    for line in response:
        field, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield None if name == "gone" else _parsed(value.encode())
        elif not field:
            name = ""


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Away("The answer is not what an e2enet server says.") from error


def _is_this_computer(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bad_url(url: str) -> BadInput:
    return BadInput(
        f"{url} is no address of a server.", help="Give https://HOST:PORT.", code="bad-url"
    )
