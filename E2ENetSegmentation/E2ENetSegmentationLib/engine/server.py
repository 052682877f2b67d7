"""The server that segments in the place of this computer, if a person has named one."""

from dataclasses import dataclass
from urllib.parse import urlsplit

ADDRESS, TOKEN, USED, AGREED = "serverAddress", "serverToken", "serverUsed", "serverAgreed"


@dataclass(frozen=True)
class Server:
    """Where it is, and who we are.

    Attributes:
        address: https://HOST:PORT.
        token: The user's; never part of a command line.
    """

    address: str
    token: str

    @property
    def name(self) -> str:
        """What a person calls it."""
        try:
            return urlsplit(self.address).hostname or self.address
        except ValueError:
            return self.address


def named(host):
    """The server whose address stands on the page Engine, or None."""
    address = host.setting(ADDRESS).strip()
    return Server(address, host.setting(TOKEN).strip()) if address else None
