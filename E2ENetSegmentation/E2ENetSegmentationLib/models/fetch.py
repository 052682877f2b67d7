"""Fetches one file: `child.py fetch.py URL TARGET [SHA256]`; goes on where it was cut off.

What has come lies in TARGET.part, and in TARGET.from where it came from. Proxies are those of the
system and of HTTPS_PROXY. Says how far it is in events, JSON lines. A program of its own, standard
library only: it must not import the Lib.
"""

import hashlib
import http.client
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

BLOCK, PATIENCE = 1 << 16, 60.0  # bytes; seconds without a byte


class Failed(Exception):
    """One sentence, and what would help."""


def say(event: str, **values) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


class SameKind(urllib.request.HTTPRedirectHandler):
    """A redirection never leads to less than was asked for: neither to a file nor out of TLS."""

    def redirect_request(self, request, stream, code, message, headers, address):
        scheme = urllib.parse.urlsplit(address).scheme
        if scheme not in ("https", urllib.parse.urlsplit(request.full_url).scheme):
            raise Failed(f"{request.full_url} leads to {address}, which is not followed.")
        return super().redirect_request(request, stream, code, message, headers, address)


def known(note: str, address: str) -> str:
    """The version that the server gave what lies in the part file; "" if it cannot be gone on."""
    try:
        with open(note, encoding="utf-8") as stream:
            record = json.load(stream)
        return record["version"] if record["address"] == address else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def fetch(address: str, target: str) -> None:
    part, note = target + ".part", target + ".from"
    version = known(note, address)
    have = os.path.getsize(part) if version and os.path.exists(part) else 0
    headers = {"User-Agent": "E2ENetSegmentation"}
    if have:
        headers.update({"Range": f"bytes={have}-", "If-Range": version})
    opener = urllib.request.build_opener(SameKind)
    with opener.open(urllib.request.Request(address, headers=headers), timeout=PATIENCE) as answer:
        if answer.status != 206:
            have = 0  # the server begins anew: another file, or it cannot do parts
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else 0
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if version.startswith("W/"):
            version = answer.headers.get("Last-Modified") or ""
        with open(note, "w", encoding="utf-8") as stream:
            json.dump({"address": address, "version": version}, stream)
        with open(part, "ab" if have else "wb") as stream:
            while block := answer.read(BLOCK):
                stream.write(block)
                have += len(block)
                say("progress", stage="download", done=have, total=total)
    if total and have < total:
        raise Failed(f"The connection to {address} broke after {have} of {total} bytes.")


def check(path: str, wanted: str) -> None:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != wanted.lower():
        os.unlink(path)  # whatever it is, going on with it would never mend it
        raise Failed(
            f"What came has the SHA-256 {digest.hexdigest()}, not the one that was expected."
        )


def main(address: str, target: str, wanted: str = "") -> int:
    try:
        if urllib.parse.urlsplit(address).scheme not in ("https", "http"):
            raise Failed(f"{address} is no address that begins with https://.")
        fetch(address, target)
        if wanted:
            check(target + ".part", wanted)
        os.replace(target + ".part", target)
        os.unlink(target + ".from")
    except Failed as error:
        reason = str(error)
    except urllib.error.HTTPError as error:
        reason = f"{address} answers {error.code} {error.reason}."
    except urllib.error.URLError as error:
        reason = f"{address} cannot be reached: {error.reason}."
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = f"{address} could not be fetched: {error}."
    else:
        say("result", path=target)
        return 0
    say("error", message=reason)
    return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
