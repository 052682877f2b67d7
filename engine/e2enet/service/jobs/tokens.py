"""Tokens: made once, told once, kept as a hash; and who tries too many wrong ones."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

PREFIX = "e2enet_"
_LOOKS_LIKE = re.compile(rb"e2enet_[A-Za-z0-9_-]{20,}")
_ADDRESSES = 10_000  # remembered at most


def new_token() -> str:
    """A token of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """What is kept of a token.

    A plain SHA-256: there is nothing to guess in 256 random bits, so no slow hash is needed.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def holds_token(text: bytes) -> bool:
    """Whether something that looks like a token is in a text."""
    return bool(_LOOKS_LIKE.search(text))


class WrongTokens:
    """Counts wrong tokens by address.

    Right tokens are always let in: behind a proxy, or in a ward, everybody has the same address,
    and nobody may shut the others out.

    Args:
        allowed: Wrong tokens of one address within `window` seconds.
        clock: Seconds from any origin.
    """

    def __init__(
        self,
        allowed: int = 10,
        window: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed, self._window, self._clock = allowed, window, clock
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_after(self, address: str) -> float | None:
        """Note a wrong token; the seconds that this address has to wait, or None."""
        now = self._clock()
        start, count = self._seen.pop(address, (now, 0))
        if now - start >= self._window:
            start, count = now, 0
        self._seen[address] = (start, count + 1)
        if len(self._seen) > _ADDRESSES:
            self._seen.popitem(last=False)
        return start + self._window - now if count >= self._allowed else None
