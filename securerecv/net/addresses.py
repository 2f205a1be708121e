"""Addresses: the one that limits count, and the one that others see."""

import socket
import struct
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Address, ip_address
from typing import Any

_CREDENTIALS = struct.Struct("3i")
"""Linux's struct ucred: process, user, group."""

_ANY_PORT = 9


@lru_cache(maxsize=4096)
def host_of(host: str) -> str:
    """
    Give what is counted for a host.

    An IPv4 address that came in on an IPv6 socket is the IPv4 address; of an
    IPv6 address the /64 counts, which is what one subscriber has.
    """
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_address(int(address) >> 64 << 64))


def address_seen_by_others() -> str | None:
    """
    Find this machine's address on the way to the world; nothing is sent.

    Returns:
        An IP address, or None where there is no such way.
    """
    # To connect a datagram socket only asks the routing table.  The addresses
    # are for documentation (RFC 5737, RFC 3849): nobody has them.
    for family, somewhere in (
        (socket.AF_INET, "192.0.2.1"),
        (socket.AF_INET6, "2001:db8::1"),
    ):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((somewhere, _ANY_PORT))
            return str(sock.getsockname()[0])
    return None


def address_of(transport: Any) -> str:
    """
    Give what is counted for the peer of a connection.

    Behind a proxy that tells it (``haproxy:``), the address of the peer, once the
    proxy has; over a UNIX socket, which has no addresses, the user at its end.
    """
    peer = transport.getPeer()
    try:
        return host_of(peer.host)
    except (AttributeError, ValueError):
        return _user_at(transport.socket)


def _user_at(sock: socket.socket) -> str:
    credentials = sock.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
    )
    _, user, _ = _CREDENTIALS.unpack(credentials)
    return f"user {user}"
