"""One file from the internet: gone on with after a break, checked, whole or not at all.

Standard library only: the Slicer panel runs it before anything is installed. Proxies are those of
the system and of $HTTPS_PROXY, certificates those of the system and of $SSL_CERT_FILE.
"""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2enet import __version__
from e2enet.bundle.archive import MAX_BYTES
from e2enet.events import BadInput
from e2enet.files import output_errors, replacing, sha256

PART, NOTE = ".part", ".from"  # what has come, and where it came from
_BLOCK, _PATIENCE_S, _BETWEEN_REPORTS_S = 1 << 18, 60.0, 0.2
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GO_ON = "Another try goes on where it stopped."


class _Broken(Exception):
    """The connection ended before the file did."""


@dataclass(frozen=True)
class Address:
    """Where a file lies, and what its bytes must be.

    Attributes:
        url: http:// or https://, without fragment.
        sha256: 64 digits, or "" where nobody knows them.
    """

    url: str
    sha256: str = ""


def is_address(text: str) -> bool:
    """Whether a text means something in the internet rather than a path or a name."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def read_address(text: str, digest: str = "") -> Address:
    """An address that a person gives: `https://…`, or `https://…#sha256=…` with the file's hash.

    Args:
        text: The address.
        digest: The hash, where it stands elsewhere.

    Raises:
        BadInput: It is none, its hash is none, or it is http:// without a hash.
    """
    url, _, fragment = text.strip().partition("#")
    if fragment.startswith("sha256="):
        digest = digest or fragment.removeprefix("sha256=")
    digest = digest.strip().lower()
    try:
        parts = urllib.parse.urlsplit(url)
        host, scheme, _port = parts.hostname, parts.scheme.lower(), parts.port
    except ValueError:
        host, scheme = None, ""
    if scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable():
        raise BadInput(
            f"{text!r} is no address of a file.",
            help="It begins with https://; spaces and accents in it are written as %20 and so on.",
            code="bad-address",
        )
    if " " in url or parts.username is not None or parts.password is not None:
        raise BadInput(
            f"The address at {host} holds a space or a name with a password.",
            help="Write spaces as %20; a password in an address is read by everybody on the way.",
            code="bad-address",
        )
    check_sha256(digest)
    if scheme == "http" and not digest:
        raise BadInput(
            f"{url} is not encrypted: anybody on the way can change the file.",
            help="Use https://, or give the file's SHA-256: http://…#sha256=….",
            code="insecure-address",
        )
    return Address(url, digest)


def check_sha256(digest: str) -> None:
    """Raise BadInput for what is neither empty nor a SHA-256."""
    if digest and not _SHA256.fullmatch(digest):
        raise BadInput(
            "A SHA-256 has 64 digits from 0 to 9 and a to f.",
            help="Copy it from the page that names the file.",
            code="bad-hash",
        )


def check_file(path: Path, digest: str, name: str = "") -> None:
    """Raise BadInput if a file is not the one with this SHA-256; `name` is what a person knows."""
    found = sha256(path)
    if digest and found != digest:
        raise BadInput(
            f"{name or path} is not the file that was meant: its SHA-256 is {found}, not {digest}.",
            help="Ask where it comes from; it was changed or damaged, or the hash is of another.",
            code="wrong-hash",
        )


def download(
    address: Address,
    target: Path,
    *,
    limit: int = MAX_BYTES,
    on_bytes: Callable[[int, int], None] | None = None,
) -> None:
    """Fetch a file, or the rest of it; in a folder that nobody else works in.

    A connection that breaks is opened again as long as every one brings something. What has come
    stays beside `target` for the next try, also after a kill.

    Args:
        address: Where it lies; with a hash a file that is there already is not fetched again.
        target: In a folder that exists.
        limit: Bytes; more are never written.
        on_bytes: Called with how many have come, and of how many (0: nobody knows).

    Raises:
        BadInput: It cannot be reached, is another file than was meant, is too large, or cannot be
            written.
    """
    if address.sha256 and target.is_file() and sha256(target) == address.sha256:
        return
    part = _beside(target, PART)
    with output_errors(target):
        while True:
            before = _size(part)
            try:
                _go_on(address.url, target, limit, on_bytes or (lambda _done, _total: None))
                break
            except _Broken as broken:
                if _size(part) <= before:
                    raise BadInput(
                        f"The connection to {address.url} broke: {broken}.",
                        help=_GO_ON,
                        code="connection-broken",
                    ) from broken
        try:
            check_file(part, address.sha256, address.url)
        except BadInput:
            _forget(target)  # whatever it is, going on with it would never mend it
            raise
        part.replace(target)
        _forget(target)


class _SameKind(urllib.request.HTTPRedirectHandler):
    """A redirection never leads to less than was asked for: neither to a file nor out of TLS."""

    def redirect_request(self, request: Any, stream: Any, *given: Any) -> Any:
        url = given[-1]
        scheme = urllib.parse.urlsplit(url).scheme.lower()
        if scheme not in ("https", urllib.parse.urlsplit(request.full_url).scheme.lower()):
            raise _astray(request.full_url, url)
        return super().redirect_request(request, stream, *given)


def _opener() -> urllib.request.OpenerDirector:
    """Knows http and https only, not the files and data that `urlopen` would read."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _SameKind(),
    ):
        opener.add_handler(handler)
    return opener


def _go_on(url: str, target: Path, limit: int, on_bytes: Callable[[int, int], None]) -> None:
    """One connection: fetch what lacks, from the start where the server has another file by now."""
    part = _beside(target, PART)
    version = _version(target, url)
    have = _size(part) if version else 0
    headers = {"User-Agent": f"e2enet/{__version__}"}
    if have:
        headers.update({"Range": f"bytes={have}-", "If-Range": version})
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = _opener().open(request, timeout=_PATIENCE_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            _forget(target)
            return _go_on(url, target, limit, on_bytes)
        if error.code // 100 == 3:
            raise _astray(url, error.reason) from error
        raise BadInput(
            f"{url} answers {error.code} {error.reason}.",
            help="Check the address, or try again later.",
            code="not-served",
        ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", None) or error
        reason = getattr(cause, "strerror", None) or cause
        raise BadInput(
            f"{url} cannot be reached: {reason}.",
            help="Check the connection and the proxy, or install from a file.",
            code="unreachable",
        ) from error
    with answer:
        start = f"bytes {have}-"
        if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(start):
            have = 0  # it begins anew: another file, or a server that cannot do parts
            if answer.status == 206:
                raise BadInput(
                    f"{url} answers with a part that was not asked for.", code="not-served"
                )
        length = answer.headers.get("Content-Length") or ""
        total = have + int(length) if length.isdigit() else 0
        if total > limit:
            raise _too_large(url, limit)
        _note(target, url, answer.headers)
        _take(answer, part, have, total, limit, on_bytes)


def _take(
    answer: Any,
    part: Path,
    have: int,
    total: int,
    limit: int,
    on_bytes: Callable[[int, int], None],
) -> None:
    """Write what comes; raises _Broken if that is less than was promised."""
    url, reported = answer.geturl(), 0.0
    with part.open("ab" if have else "wb") as stream:
        while True:
            try:
                block = answer.read1(_BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _Broken(str(error) or type(error).__name__) from error
            if not block:
                break
            if have + len(block) > limit:
                stream.truncate(0)
                raise _too_large(url, limit)
            stream.write(block)
            have += len(block)
            if time.monotonic() - reported > _BETWEEN_REPORTS_S or have == total:
                reported = time.monotonic()
                on_bytes(have, total)
    if have < total:
        raise _Broken(f"{have} of {total} bytes came")


def _note(target: Path, url: str, headers: Any) -> None:
    """Keep which version of the file the part belongs to; a weak tag promises no same bytes."""
    version = headers.get("ETag") or ""
    if not version or version.startswith("W/"):
        version = headers.get("Last-Modified") or ""
    with replacing(_beside(target, NOTE)) as temporary:
        temporary.write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")


def _version(target: Path, url: str) -> str:
    """The version of what lies in the part file; "" if it cannot be gone on with."""
    try:
        record = json.loads(_beside(target, NOTE).read_text(encoding="utf-8"))
        return str(record["version"]) if record["url"] == url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _forget(target: Path) -> None:
    for ending in (PART, NOTE):
        _beside(target, ending).unlink(missing_ok=True)


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _astray(url: str, where: str) -> BadInput:
    """What urllib itself does not follow, such as a circle, comes with its own long reason."""
    return BadInput(
        f"{url} leads elsewhere, which is not followed: {' '.join(where.split())}.",
        help="Ask its owner for the right address.",
        code="bad-redirection",
    )


def _too_large(url: str, limit: int) -> BadInput:
    return BadInput(
        f"{url} is larger than the {limit} bytes that it may have.",
        help="It is not the file that was meant.",
        code="too-large",
    )
