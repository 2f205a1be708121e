"""
A Twisted transport for the server's side of TLS, on the socket itself.

To the protocol above it is what Twisted's `TLSMemoryBIOProtocol` is, without the
two buffers in memory and the TCP transport between them; what that is worth
stands in `docs/decisions/0011-tls-on-the-socket.md`.
"""

from collections.abc import Iterable
from socket import AF_INET6, IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET, TCP_NODELAY
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHandshakeListener,
    ILoggingContext,
    IPushProducer,
    IReactorFDSet,
    IReadWriteDescriptor,
    ISSLTransport,
    ISystemHandle,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from securerecv.net.tlssocket import TlsSocket

MAX_UNSENT_BYTES = 65_536
"""What is written beyond it lets the producer wait."""


class SendQueue(Protocol):
    """Sends together what is written in one turn of the reactor."""

    def add(self, transport: "TlsTransport") -> None:
        """Have `TlsTransport.flush` called in this turn."""


@implementer(
    IConsumer,
    ILoggingContext,
    IPushProducer,
    IReadWriteDescriptor,
    ISSLTransport,
    ISystemHandle,
)
class TlsTransport:
    """
    One TLS connection.

    It ends with `ConnectionDone` if the peer has said goodbye, or has hung up
    after this side had; whoever is just gone has gone with `ConnectionLost`.

    Args:
        tls: the connection.
        protocol: hears what comes; the caller connects it to this transport.
        peer: where the peer is, as `socket.accept` gives it.
        reactor: calls it later.
        descriptors: tells when the socket can be read and written.
        queue: what is written outside of `doRead` goes through it.

    Attributes:
        connected: until the protocol's `connectionLost` is called.
        disconnecting: this side hangs up when all is sent.
    """

    def __init__(
        self,
        tls: TlsSocket,
        protocol: Any,
        peer: tuple[Any, ...],
        reactor: Any,
        descriptors: IReactorFDSet,
        queue: SendQueue,
    ) -> None:
        self.connected = True
        self.disconnecting = False
        self._tls = tls
        self._fileno = tls.socket.fileno()
        self._protocol = protocol
        self._peer = peer
        self._reactor = reactor
        self._descriptors = descriptors
        self._queue = queue
        self._log_prefix = f"{type(protocol).__name__},{peer[0]}"
        self._is_shaking_hands = True
        self._is_paused = False
        self._is_finishing = False
        self._awaits_goodbye = True
        self._is_ended = False
        self._unsent = bytearray()
        self._is_blocked = False
        self._is_gathering = False
        self._is_queued = False
        self._producer: Any = None
        self._producer_pushes = False
        self._producer_waits = False
        self._watch()

    # -- for the reactor ----------------------------------------------------------

    def fileno(self) -> int:
        """Give the number of the socket, -1 when it is closed."""
        return self._fileno

    def logPrefix(self) -> str:
        """Name the connection for the log."""
        return self._log_prefix

    def doRead(self) -> None:
        """Take one turn's worth of what has come, and send what is said to it."""
        if self._is_ended:
            return
        tls = self._tls
        self._is_gathering = True
        try:
            if self._is_shaking_hands:
                self._shake_hands()
            else:
                data = tls.receive()
                if data and not self.disconnecting:
                    self._protocol.dataReceived(data)
        finally:
            self._is_gathering = False
        if tls.error is not None:
            self._end(tls.error)
        elif tls.waits_to_write or tls.heard_goodbye:
            self._watch()
        if self._unsent or self._is_finishing or tls.heard_goodbye:
            self.flush()

    def doWrite(self) -> None:
        """Go on with what had to wait for the socket."""
        if self._tls.waits_to_write:
            self._tls.waits_to_write = False
            self._watch()
            self.doRead()
        self._is_blocked = False
        self.flush()
        self._watch()

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket and tell the protocol, once."""
        if not self.connected:
            return
        self.connected = False
        self._is_ended = True
        self._watch()
        self._fileno = -1
        self._tls.close(reset=bool(reason.check(ConnectionAborted)))
        self._unsent.clear()
        if self._producer is not None:
            self._producer.stopProducing()
            self._producer = None
        if reason.check(ConnectionDone) and not self._is_clean():
            # The reactor's word for a peer that has gone, with or without one.
            reason = Failure(ConnectionLost())
        protocol, self._protocol = self._protocol, None
        protocol.connectionLost(reason)

    # -- for the protocol: writing --------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send; what is written in one turn goes out in the same records."""
        has_finished = self._is_finishing and self._producer is None
        is_late = self._tls.heard_goodbye and not self._is_gathering
        if self._is_ended or has_finished or is_late:
            return
        self._unsent += data
        if len(self._unsent) > MAX_UNSENT_BYTES:
            if not (self._is_gathering or self._is_blocked):
                self.flush()
            self._let_producer_wait()
        if self._unsent:
            self._flush_later()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send."""
        self.write(b"".join(iovec))

    def flush(self) -> None:
        """Send what there is, as far as the socket takes it and it is our turn."""
        self._is_queued = False
        if self._is_ended or self._is_blocked or self._is_shaking_hands:
            return
        tls = self._tls
        if tls.send(self._unsent):
            self._block()
        elif tls.error is not None:
            self._end(tls.error)
        elif not self._unsent:
            self._sent_all()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take a producer, which waits while `MAX_UNSENT_BYTES` are unsent."""
        if self._producer is not None:
            raise RuntimeError(f"{self._producer} was never unregistered")
        if self._is_ended:
            producer.stopProducing()
            return
        self._producer = producer
        self._producer_pushes = streaming
        self._producer_waits = False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Let the producer go."""
        self._producer = None
        if self._is_finishing:
            self._flush_later()

    # -- for the protocol: reading --------------------------------------------------

    def pauseProducing(self) -> None:
        """Read no more for now."""
        self._is_paused = True
        self._watch()

    def resumeProducing(self) -> None:
        """Read again."""
        self._is_paused = False
        self._watch()

    def stopProducing(self) -> None:
        """Hang up."""
        self.loseConnection()

    # -- for the protocol: hanging up -------------------------------------------------

    def loseConnection(self) -> None:
        """Send what is left, say goodbye, and wait for that of the peer."""
        if self.disconnecting or self._is_ended:
            return
        self.disconnecting = True
        if self._is_shaking_hands and not self._unsent:
            self.abortConnection()
        else:
            self.loseWriteConnection()

    def do_not_wait(self) -> None:
        """Close as soon as this side has said goodbye, now or later."""
        self._awaits_goodbye = False
        if self._tls.said_goodbye:
            self._end(ConnectionDone())

    def loseWriteConnection(self) -> None:
        """Send what is left and say goodbye, but go on hearing the peer."""
        self._is_finishing = True
        self._flush_later()

    def abortConnection(self) -> None:
        """Hang up at once, and forget what is unsent."""
        self._end(ConnectionAborted())

    # -- for the protocol: looking around ----------------------------------------------

    def getPeer(self) -> IPv4Address | IPv6Address:
        """Give the peer's address."""
        return self._address(self._peer)

    def getHost(self) -> IPv4Address | IPv6Address:
        """Give the address that the peer has connected to."""
        return self._address(self._tls.socket.getsockname())

    def getHandle(self) -> SSL.Connection:
        """Give OpenSSL's connection."""
        return self._tls.connection

    def getPeerCertificate(self) -> object:
        """Give the certificate that the peer has shown, or None."""
        return self._tls.connection.get_peer_certificate()

    def getTcpNoDelay(self) -> bool:
        """Tell whether what is written leaves at once."""
        return bool(self._tls.socket.getsockopt(IPPROTO_TCP, TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Have what is written leave at once."""
        self._tls.socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        """Tell whether the system looks after silent peers."""
        return bool(self._tls.socket.getsockopt(SOL_SOCKET, SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Have the system look after silent peers."""
        self._tls.socket.setsockopt(SOL_SOCKET, SO_KEEPALIVE, enabled)

    def _address(self, address: tuple[Any, ...]) -> IPv4Address | IPv6Address:
        is_ipv6 = self._tls.socket.family == AF_INET6
        kind = IPv6Address if is_ipv6 else IPv4Address
        return kind("TCP", *address)

    # -- within ---------------------------------------------------------------------

    def _shake_hands(self) -> None:
        if self._tls.shake_hands():
            self._is_shaking_hands = False
            if IHandshakeListener.providedBy(self._protocol):
                self._protocol.handshakeCompleted()

    def _watch(self) -> None:
        """Ask to be told of what can be done, and for nothing else."""
        waits_to_write = self._tls.waits_to_write
        is_paused = self._is_paused and not (
            self.disconnecting and self._tls.said_goodbye
        )
        may_read = not (is_paused or waits_to_write or self._tls.heard_goodbye)
        if may_read and not self._is_ended:
            self._descriptors.addReader(self)
        else:
            self._descriptors.removeReader(self)
        if (self._is_blocked or waits_to_write) and not self._is_ended:
            self._descriptors.addWriter(self)
        else:
            self._descriptors.removeWriter(self)

    def _block(self) -> None:
        self._is_blocked = True
        self._watch()

    def _flush_later(self) -> None:
        if not (self._is_gathering or self._is_blocked or self._is_queued):
            self._is_queued = True
            self._queue.add(self)

    def _let_producer_wait(self) -> None:
        is_full = len(self._unsent) > MAX_UNSENT_BYTES
        if is_full and self._producer_pushes and not self._producer_waits:
            self._producer_waits = True
            self._producer.pauseProducing()

    def _sent_all(self) -> None:
        if self._tls.heard_goodbye:
            self._say_goodbye()
        elif self._producer is not None:
            if self._producer_waits or not self._producer_pushes:
                self._resume_producer()
        elif self._is_finishing:
            self._say_goodbye()

    def _resume_producer(self) -> None:
        """Let it write on; what it writes has its turn when others had theirs."""
        self._producer_waits = False
        self._is_gathering = True
        try:
            self._producer.resumeProducing()
        finally:
            self._is_gathering = False
        if self._unsent or self._is_finishing:
            self._block()

    def _say_goodbye(self) -> None:
        tls = self._tls
        if not tls.said_goodbye and tls.say_goodbye():
            self._block()
        elif tls.error is not None:
            self._end(tls.error)
        elif tls.heard_goodbye or not self._awaits_goodbye:
            self._end(ConnectionDone())
        else:
            self._watch()

    def _is_clean(self) -> bool:
        return self._tls.heard_goodbye or self._tls.said_goodbye

    def _end(self, error: Exception) -> None:
        """Be over with, as soon as nobody is in the middle of something."""
        if self._is_ended:
            return
        if self._tls.said_goodbye and isinstance(error, ConnectionLost):
            error = ConnectionDone()
        self._is_ended = True
        self._watch()
        self._reactor.callLater(0, self.connectionLost, Failure(error))
