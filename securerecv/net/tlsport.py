"""Listening for TLS connections on the sockets themselves."""

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorFDSet
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from securerecv.net.epollset import set_on
from securerecv.net.tls import ServerTls
from securerecv.net.tlssocket import TlsSocket
from securerecv.net.tlstransport import TlsTransport

ListenTls = Callable[[ServerTls, int, IProtocolFactory, int, str, Any], IListeningPort]
"""What `listen_tls` is."""

_log = Logger()


class TurnEnd:
    """
    Sends at the end of a turn what was written in it.

    A commit answers many connections at once, some of them in several writes.
    Each of them makes one record of it, and the reactor is asked once for all.

    Args:
        reactor: ends the turn.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._transports: list[TlsTransport] = []

    def add(self, transport: TlsTransport) -> None:
        """Have a transport flushed at the end of this turn."""
        if not self._transports:
            self._reactor.callLater(0, self._flush)
        self._transports.append(transport)

    def _flush(self) -> None:
        transports, self._transports = self._transports, []
        for transport in transports:
            try:
                transport.flush()
            except Exception:  # noqa: BLE001 - a producer's, whatever it is
                _log.failure("a connection is ended by an error")
                transport.abortConnection()


class TlsPort(Port):
    """
    A TCP port that speaks TLS with whoever connects.

    Accepting is Twisted's, and so is what happens when there are no file
    descriptors left.

    Args:
        tls: makes the connections.
        port: its number; 0 takes a free one.
        factory: makes the protocols; not wrapped in a factory for TLS.
        backlog: how many may wait to be accepted.
        interface: the address to bind.
        reactor: what it runs on.

    Attributes:
        connections: what its connections wait in.
    """

    def __init__(
        self,
        tls: ServerTls,
        port: int,
        factory: IProtocolFactory,
        backlog: int,
        interface: str,
        reactor: Any,
    ) -> None:
        super().__init__(port, factory, backlog, interface, reactor)
        self._tls = tls
        self.connections = set_on(reactor)
        self._turn_end = TurnEnd(reactor)

    def transport(  # type: ignore[override]  # a class there, which is called alike
        self,
        sock: socket.socket,
        protocol: Any,
        peer: tuple[Any, ...],
        _port: Port,
        _number: int,
        reactor: Any,
    ) -> TlsTransport:
        """Make the transport of one connection; Twisted's `Port` calls it."""
        tls = TlsSocket(self._tls.connection_on(sock), sock)
        return TlsTransport(
            tls, protocol, peer, reactor, self.connections, self._turn_end
        )


def listen_tls(
    tls: ServerTls,
    port: int,
    factory: IProtocolFactory,
    backlog: int,
    interface: str,
    reactor: Any,
) -> IListeningPort:
    """
    Listen for TLS connections, in the way that costs least.

    See `TlsPort` for the arguments, and `listen_tls_by_twisted` for reactors
    that do not wait for file descriptors.

    Raises:
        CannotListenError: the port is not to be had.
    """
    if not IReactorFDSet.providedBy(reactor):
        return listen_tls_by_twisted(tls, port, factory, backlog, interface, reactor)
    listening = TlsPort(tls, port, factory, backlog, interface, reactor)
    listening.startListening()
    return listening


def listen_tls_by_twisted(
    tls: ServerTls,
    port: int,
    factory: IProtocolFactory,
    backlog: int,
    interface: str,
    reactor: Any,
) -> IListeningPort:
    """Listen as `listen_tls` does, with Twisted's TLS on any reactor."""
    wrapped = tls_over_any(tls, factory, reactor)
    listening: IListeningPort = reactor.listenTCP(port, wrapped, backlog, interface)
    return listening


def tls_over_any(
    tls: ServerTls, factory: IProtocolFactory, reactor: Any
) -> TLSMemoryBIOFactory:
    """Wrap a factory for an endpoint of any kind."""
    wrapped = TLSMemoryBIOFactory(tls, False, factory, clock=reactor)
    wrapped.noisy = False
    return wrapped
