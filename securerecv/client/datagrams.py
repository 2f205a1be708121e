"""Sockets for datagrams: to which addresses, and why they were closed."""

import errno
import os
import socket
from functools import partial
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThreadPool

from securerecv.client.errors import UnreachableError
from securerecv.net.gro import BatchProtocol, listen_datagrams

LOOKUP_TIMEOUT_S = 15.0
"""For the addresses of a host."""

NOBODY_RECEIVES = "nothing receives UDP there (port unreachable)"

_MAX_DATAGRAM_BYTES = 65_535


def listen(reactor: Any, protocol: Any, host: str) -> Any:
    """
    Open a socket to speak with a host.

    Raises:
        UnreachableError: there is no such network here.
    """
    # Addresses of one's own, of either kind.
    interface = "::" if isIPv6Address(host) else ""
    try:
        return reactor.listenUDP(0, protocol, interface, _MAX_DATAGRAM_BYTES)
    except CannotListenError as error:
        raise _no_network(error) from None


def listen_in_batches(reactor: Any, protocol: BatchProtocol, host: str) -> Any:
    """
    Open a socket whose datagrams come and go in batches; else as `listen`.

    Raises:
        UnreachableError: there is no such network here.
    """
    interface = "::" if isIPv6Address(host) else ""
    try:
        return listen_datagrams(reactor, 0, protocol, interface)
    except CannotListenError as error:
        raise _no_network(error) from None


def _no_network(error: CannotListenError) -> UnreachableError:
    words = getattr(error.socketError, "strerror", None) or str(error)
    return UnreachableError(words)


async def find_hosts(reactor: Any, host: str) -> list[str]:
    """
    Find the addresses of a host.

    Returns:
        One or more IP addresses.

    Raises:
        UnreachableError: there is none, or nobody says so in time.
    """
    if isIPAddress(host) or isIPv6Address(host):
        return [host]
    looking = deferToThreadPool(
        reactor,
        reactor.getThreadPool(),
        partial(socket.getaddrinfo, host, None, type=socket.SOCK_DGRAM),
    )
    try:
        found = await looking.addTimeout(LOOKUP_TIMEOUT_S, reactor)
    except (OSError, UnicodeError, DeferredTimeoutError):
        raise UnreachableError("there is no host of that name") from None
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


def why_closed(connected: socket.socket) -> str:
    """
    Say why a connected socket closes by itself.

    A network that answers with an ICMP error closes it: the reactor takes the
    error for the end of a connection.

    Args:
        connected: of a protocol that is being told to stop.
    """
    number = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number == errno.ECONNREFUSED:
        return NOBODY_RECEIVES
    return os.strerror(number) if number else "the socket was closed"
