"""Finding a server and beginning a conversation with it."""

from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory

from securerecv.client.address import ServerAddress
from securerecv.client.client import Client
from securerecv.client.errors import UnreachableError
from securerecv.client.tcp import CONNECT_TIMEOUT_S, TcpChannel
from securerecv.client.trust import Trust
from securerecv.net.tls import ClientTls

_NO_ANSWER = f"no answer within {CONNECT_TIMEOUT_S:.0f} seconds"

_UNREACHABLE: dict[type[Exception], str] = {
    error.DNSLookupError: "there is no host of that name",
    error.ConnectionRefusedError: "nothing listens there (connection refused)",
    error.TimeoutError: _NO_ANSWER,
    error.ConnectingCancelledError: _NO_ANSWER,
    DeferredTimeoutError: _NO_ANSWER,
}

_CANNOT_REACH: tuple[type[Exception], ...] = (
    error.ConnectError,
    # What is no name of a host at all.
    ValueError,
    *_UNREACHABLE,
)


async def _connect(reactor: Any, server: ServerAddress, trust: Trust) -> Client:
    channel = TcpChannel(trust, reactor)
    factory = Factory.forProtocol(lambda: channel)
    factory.noisy = False
    wrapped = TLSMemoryBIOFactory(ClientTls(), True, factory, clock=reactor)
    wrapped.noisy = False
    endpoint = HostnameEndpoint(
        reactor, server.host, server.port, timeout=CONNECT_TIMEOUT_S
    )
    try:
        await endpoint.connect(wrapped).addTimeout(CONNECT_TIMEOUT_S, reactor)
    except _CANNOT_REACH as reason:
        words = _UNREACHABLE.get(type(reason)) or str(reason).rstrip(".")
        raise UnreachableError(f"cannot reach {server}: {words}") from None
    try:
        await channel.ready
    except UnreachableError as reason:
        raise UnreachableError(f"cannot reach {server}: {reason}") from None
    return Client(channel)


def connect(reactor: Any, server: ServerAddress, trust: Trust) -> "Deferred[Client]":
    """
    Begin a conversation.

    Args:
        reactor: connects, resolves names and tells the time.
        server: where.
        trust: called with the server's pin before anything is said to it.

    Returns:
        Fires with a client that is neither logged in nor anonymous.  Fails
        with `UnreachableError` when no server can be reached within
        `CONNECT_TIMEOUT_S`, with what ``trust`` raises, and with `PeerError`
        when the server lets nobody in.
    """
    return Deferred.fromCoroutine(_connect(reactor, server, trust))
