"""The places where a receiver receives, for people and programs."""

from typing import Any

from attrs import frozen


@frozen
class Place:
    """
    One place where is received.

    Attributes:
        transport: ``tcp``, ``udp`` or ``unix``.
        host: an IP address; of a UNIX socket, its path.
        port: its number; 0 of a UNIX socket.
        proxied: only a proxy is understood there.
    """

    transport: str
    host: str
    port: int = 0
    proxied: bool = False

    def __str__(self) -> str:
        """Write it for people, who can give it to other programs as it is."""
        if self.transport == "unix":
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def place_of(port: Any, transport: str, *, proxied: bool = False) -> Place:
    """
    Tell where a listening port is.

    Args:
        port: has the address.
        transport: ``tcp`` or ``udp``.
        proxied: only a proxy is understood there.
    """
    address = port.getHost()
    host = getattr(address, "host", None)
    if host is not None:
        return Place(transport, host, address.port, proxied)
    name = getattr(address, "name", None) or str(address)
    path = name.decode(errors="replace") if isinstance(name, bytes) else name
    return Place("unix", path, 0, proxied)
