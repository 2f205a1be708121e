"""Where a server is, as a person writes it."""

import re
from ipaddress import IPv6Address

from attrs import frozen

from securerecv.settings import DEFAULT_PORT

_WRITTEN = re.compile(
    r"(?:\[(?P<v6>[^\s\[\]]+)\]|(?P<host>[^\s:\[\]]+))(?::(?P<port>[0-9]{1,5}))?"
)
_HIGHEST_PORT = 65535


@frozen
class ServerAddress:
    """
    A host and a port.

    Attributes:
        host: a name or an IP address, without brackets, in lower case.
        port: 1 to 65535.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, written: str) -> "ServerAddress":
        """
        Read ``HOST``, ``HOST:PORT``, ``[IPv6]:PORT`` or a bare IPv6 address.

        Raises:
            ValueError: it is none of these.
        """
        if _is_v6(written):
            return cls(written.lower(), DEFAULT_PORT)
        match = _WRITTEN.fullmatch(written)
        if match is None or (match["v6"] and not _is_v6(match["v6"])):
            raise ValueError(f"{written!r} is not HOST or HOST:PORT")
        port = int(match["port"] or DEFAULT_PORT)
        if not 0 < port <= _HIGHEST_PORT:
            raise ValueError(f"{port} is not a port from 1 to {_HIGHEST_PORT}")
        return cls((match["v6"] or match["host"]).lower(), port)

    def __str__(self) -> str:
        """Write it in the form that `parse` reads, always with the port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _is_v6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
