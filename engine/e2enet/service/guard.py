"""What every request passes before it is answered: who asks, how much, how slowly."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from e2enet.events import BadInput
from e2enet.service.jobs.database import Database
from e2enet.service.jobs.tokens import WrongTokens, hash_of, holds_token
from e2enet.service.settings import Settings, Times

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH = "/health"
_FORM_BYTES = 16_384  # of a request that brings no volume
_SECRETS = ("token", "access_token", "api_key", "apikey", "key", "auth", "password")
_STATUS = {
    "no-token": 401,
    "wrong-token": 401,
    "too-many-wrong-tokens": 429,
    "not-through-proxy": 403,
    "other-site": 403,
    "no-length": 411,
    "too-large": 413,
    "no-job": 404,
    "no-page": 404,
    "job-state": 409,
    "queue-full": 429,
    "disk-full": 507,
    "too-slow": 408,
}
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; form-action 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


def answer(error: BadInput) -> tuple[int, dict[str, str]]:
    """Status and body of a refusal."""
    body = {"code": error.code, "message": error.message, "help": error.help}
    return _STATUS.get(error.code, 400), body


class Guard:
    """Around the application: nothing gets through without a token but a question for its health.

    A token comes as `Authorization: Bearer`, or as the password of HTTP's basic authentication,
    for which a browser asks by itself. `scope["state"]` then has the user's name as "user" and the
    token's hash as "token_hash".
    """

    def __init__(self, app: App, settings: Settings, database: Database) -> None:
        self._app, self._settings, self._database = app, settings, database
        self._wrong = WrongTokens()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it through."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        body = _Body(receive, self._settings.times)

        async def reply(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
                if message["status"] >= 400 and not body.whole:  # the rest is not read
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            body.expected = _length(scope, headers)
            self._check(scope, headers, body.expected)
        except BadInput as error:
            await _refuse(error, reply)
            return
        await self._app(scope, body.receive, reply)

    def _check(self, scope: Scope, headers: dict[bytes, str], length: int) -> None:
        """Raise BadInput for what is refused."""
        address = (scope.get("client") or ("?",))[0]
        if self._settings.proxy:
            if address != self._settings.proxy:
                raise BadInput(
                    "This server is only reached through its proxy.", code="not-through-proxy"
                )
            address = headers.get(b"x-forwarded-for", address).split(",")[-1].strip()
        _check_url(scope)
        if scope["path"] == HEALTH and scope["method"] == "GET" and not length:
            return
        token = _token(headers.get(b"authorization", ""))
        user = self._user(token, address)
        scope.setdefault("state", {}).update(user=user, token_hash=hash_of(token))
        # A browser sends the token by itself, also when another site asks it to.
        if headers.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise BadInput("Another web site may not ask in your name.", code="other-site")
        volume = scope["method"] == "PUT"
        limit = self._settings.upload_bytes if volume else _FORM_BYTES
        if length > limit:
            raise BadInput(
                f"The {'volume' if volume else 'request'} has {_size(length)}; at most "
                f"{_size(limit)} are taken.",
                help="Crop the volume, or compress it." if volume else "Ask for less at once.",
                code="too-large",
            )

    def _user(self, token: str, address: str) -> str:
        if not token:
            raise BadInput(
                "This needs a token.",
                help="`e2enet serve token NAME`, on the server, makes one.",
                code="no-token",
            )
        user = self._database.user_of(hash_of(token))
        if user:
            return user
        wait = self._wrong.wait_after(address)
        if wait is not None:
            raise BadInput(
                "Too many wrong tokens came from this address.",
                help=f"Wait for {math.ceil(wait)} s.",
                code="too-many-wrong-tokens",
            )
        raise BadInput(
            "The token is wrong, or was taken back.",
            help="Ask who runs the server for a new one.",
            code="wrong-token",
        )


class _Body:
    """A request's body, which has to have the length it was said to have, and to come in time."""

    def __init__(self, receive: Receive, times: Times) -> None:
        self._receive, self._times = receive, times
        self._begun, self._got = time.monotonic(), 0
        self.expected = 1  # unless it was said

    @property
    def whole(self) -> bool:
        """Whether all of it was read."""
        return self._got >= self.expected

    async def receive(self) -> Message:
        """The next part; BadInput if it comes too slowly."""
        if self.whole:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._times.pause)
        except asyncio.TimeoutError as error:
            raise _too_slow() from error
        self._got += len(message.get("body", b""))
        late = time.monotonic() - self._begun - self._times.pause
        if not self.whole and self._got < late * self._times.slowest:
            raise _too_slow()
        return message


def _too_slow() -> BadInput:
    return BadInput("The request came too slowly.", help="Try again.", code="too-slow")


def _check_url(scope: Scope) -> None:
    query = scope.get("query_string", b"")
    names = {name.lower() for name, _ in parse_qsl(query.decode("latin-1"), max_num_fields=50)}
    if (
        names & set(_SECRETS)
        or holds_token(query)
        or holds_token(scope.get("raw_path", b"") or b"")
    ):
        raise BadInput(
            "A token does not belong into a URL, where logs keep it.",
            help="Send it as `Authorization: Bearer TOKEN`, and have a new one made.",
            code="token-in-url",
        )


def _size(count: int) -> str:
    """A number of bytes for a person."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def _length(scope: Scope, headers: dict[bytes, str]) -> int:
    if b"transfer-encoding" in headers:
        raise BadInput("The length of the body has to be said first.", code="no-length")
    text = headers.get(b"content-length", "0")
    if not text.isascii() or not text.isdigit():
        raise BadInput("The length of the body has to be a number.", code="no-length")
    return int(text)


def _token(authorization: str) -> str:
    kind, _, value = authorization.strip().partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""


async def _refuse(error: BadInput, send: Send) -> None:
    status, content = answer(error)
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="e2enet", charset="UTF-8"'))
    if status == 429:
        headers.append((b"retry-after", b"60"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
