"""Conversations over TCP."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from securerecv.intake.desk import Desk
from securerecv.limits import HANDSHAKE_TIMEOUT_S, MAKE_WAY_S
from securerecv.net.addresses import address_of
from securerecv.net.conversation import Conversation
from securerecv.net.gate import Gate
from securerecv.net.tlstransport import TlsTransport
from securerecv.net.transfers import StreamTransfers
from securerecv.wire.session import Session

NewSession = Callable[[float, str], Session]
"""Makes a session that begins at the given time, with a peer at an address."""


@implementer(IHandshakeListener, IPushProducer)
class TcpConversation(Protocol):
    """
    One TLS connection.

    The conversation begins when the handshake has finished; the protocol is
    also the producer of its own answers, so that it hears when the peer does
    not read them.
    """

    address = ""

    def __init__(
        self, desk: Desk, new_session: NewSession, gate: Gate, clock: IReactorTime
    ) -> None:
        self._desk = desk
        self._new_session = new_session
        self._gate = gate
        self._clock = clock
        self._conversation: Conversation | None = None
        self._handshake_deadline: IDelayedCall | None = None
        self._last_moment: IDelayedCall | None = None

    # -- from the transport -----------------------------------------------------

    def connectionMade(self) -> None:
        """Wait for the handshake, if there is room."""
        transport: Any = self.transport
        self.address = address_of(transport)
        if not self._gate.arrive(self):
            transport.abortConnection()
            return
        # A UNIX socket has neither.
        with suppress(OSError):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        self._handshake_deadline = self._clock.callLater(
            HANDSHAKE_TIMEOUT_S, transport.abortConnection
        )

    def handshakeCompleted(self) -> None:
        """Begin the conversation."""
        if self._handshake_deadline is None or not self._handshake_deadline.active():
            return
        self._handshake_deadline.cancel()
        transport: Any = self.transport
        if not self._gate.move(self, address_of(transport)):
            transport.abortConnection()
            return
        self._gate.shook_hands(self)
        self._conversation = Conversation(
            self._desk,
            self._new_session(self._clock.seconds(), self.address),
            self.address,
            self,
            self._clock,
            partial(self._gate.came_in, self),
            StreamTransfers,
        )
        transport.registerProducer(self, True)
        self._conversation.start()

    def dataReceived(self, data: bytes) -> None:
        """Hand on what the peer says."""
        if self._conversation is not None:
            self._conversation.received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Clean up."""
        for call in (self._handshake_deadline, self._last_moment):
            if call is not None and call.active():
                call.cancel()
        self._gate.leave(self)
        if self._conversation is not None:
            self._conversation.over()

    def make_way(self) -> None:
        """See `securerecv.net.gate.Guest`."""
        transport: Any = self.transport
        if self._conversation is None:
            transport.abortConnection()
        else:
            self._conversation.make_way()
            # Nobody counts it any more, so nobody waits for its goodbye.
            if isinstance(transport, TlsTransport):
                transport.do_not_wait()
            else:
                transport.transport.loseConnection()
            self._last_moment = self._clock.callLater(MAKE_WAY_S, self.abort)

    def dismiss(self, words: str) -> None:
        """See `securerecv.net.gate.Guest`."""
        if self._conversation is None:
            self.abort()
        else:
            self._conversation.dismiss(words)

    # -- what the conversation wants of its transport -----------------------------

    def write(self, data: bytes) -> None:
        """See `securerecv.net.conversation.Pipe`."""
        transport: Any = self.transport
        transport.write(data)

    def pause(self) -> None:
        """See `securerecv.net.conversation.Pipe`."""
        transport: Any = self.transport
        transport.pauseProducing()

    def resume(self) -> None:
        """See `securerecv.net.conversation.Pipe`."""
        transport: Any = self.transport
        transport.resumeProducing()

    def close(self) -> None:
        """See `securerecv.net.conversation.Pipe`."""
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()

    def abort(self) -> None:
        """See `securerecv.net.conversation.Pipe`."""
        transport: Any = self.transport
        transport.abortConnection()

    # -- as the producer of its answers -----------------------------------------

    def pauseProducing(self) -> None:
        """Wait: what was written has not been read."""
        if self._conversation is not None:
            self._conversation.peer_is_slow()

    def resumeProducing(self) -> None:
        """Go on."""
        if self._conversation is not None:
            self._conversation.peer_reads()

    def stopProducing(self) -> None:
        """Do nothing more: `connectionLost` follows."""


def tcp_factory(
    desk: Desk, new_session: NewSession, gate: Gate, clock: IReactorTime
) -> "Factory[TcpConversation]":
    """Make the factory of conversations, for a transport that speaks TLS."""

    def build() -> TcpConversation:
        return TcpConversation(desk, new_session, gate, clock)

    factory = Factory.forProtocol(build)
    factory.noisy = False
    return factory
