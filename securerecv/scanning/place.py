"""Where a clamd listens, and what can be asked of it there."""

from typing import Protocol

from attrs import field, frozen


@frozen
class Peer:
    """
    The process at the other end of a Unix socket (``SO_PEERCRED``).

    Attributes:
        pid: its number when it began to listen; 0 over TCP.
        uid: its user; None over TCP.
    """

    pid: int = 0
    uid: int | None = None


class Client(Protocol):
    """
    A conversation with clamd; not to be shared by threads.

    Every method raises `ScannerError` where clamd does not answer in time, or not
    with one whole line.

    Attributes:
        peer: of the last connection.
    """

    peer: Peer

    def ping(self) -> str:
        """Ask whether it is there; ``PONG``."""

    def version(self) -> str:
        """Ask for the versions of program and signatures."""

    def reload(self) -> str:
        """Have the signatures read again; ``RELOADING``."""

    def scan(self, descriptor: int, size: int) -> str:
        """Have a file looked at; clamd's whole answer for `verdicts.judge`."""

    def abort(self) -> None:
        """End what another thread waits for; that raises `ScannerError`."""


@frozen
class Place:
    """
    Where a clamd listens.

    Attributes:
        path: of a Unix socket; empty for TCP.
        host: name or address.
        port: the same.
    """

    path: str = ""
    host: str = ""
    port: int = field(default=0)

    def client(self, timeout_s: float) -> Client:
        """Make a client; it connects for each command."""
        # The ``clamd`` package takes long to import, and a server without a scanner
        # never needs it.
        from securerecv.scanning.client import TcpClient, UnixClient

        if self.path:
            return UnixClient(self.path, timeout_s)
        return TcpClient(self.host, self.port, timeout_s)

    def __str__(self) -> str:
        """As ``--scanner`` takes it."""
        return f"unix:{self.path}" if self.path else f"tcp:{self.host}:{self.port}"


def place_of(setting: str) -> Place | None:
    """Read ``--scanner``; None where it names no place."""
    kind, _, rest = setting.partition(":")
    if kind == "unix":
        return Place(path=rest)
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        return Place(host=host.strip("[]"), port=int(port))
    return None
