"""Conversations over TCP and TLS 1.3."""

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field
from cryptography.exceptions import UnsupportedAlgorithm
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from securerecv.client.channel import ANSWER_TIMEOUT_S
from securerecv.client.errors import (
    DisconnectedError,
    UnreachableError,
    UntrustedServerError,
)
from securerecv.client.requests import encode
from securerecv.client.tlswords import tls_words
from securerecv.client.trust import Trust
from securerecv.errors import SecurerecvError
from securerecv.limits import MIN_PAYLOAD_BYTES_PER_S
from securerecv.net.tls import peer_pin
from securerecv.wire.lines import Answer
from securerecv.wire.replies import (
    Event,
    Greeting,
    NotUnderstoodError,
    Pushed,
    Replied,
    Replies,
)

CONNECT_TIMEOUT_S = 15.0
"""From the start to the server's greeting."""


@define(eq=False)
class _Waiting:
    """A request that is not answered yet."""

    tag: str
    patience_s: float
    answer: "Deferred[Answer]" = field(factory=Deferred)


@implementer(IHandshakeListener)
class TcpChannel(Protocol):
    """
    See `securerecv.client.channel.Channel`.

    Args:
        trust: sees the server's pin before anything is said.
        clock: tells the time and calls later.

    Attributes:
        ready: fires when the server has greeted; fails when it never will.
    """

    pin = ""
    greeting: Greeting

    def __init__(self, trust: Trust, clock: IReactorTime) -> None:
        self.ready: Deferred[None] = Deferred()
        self.pushed: Callable[[Pushed], None] = _ignore
        self._trust = trust
        self._clock = clock
        self._give_up_at = clock.seconds() + CONNECT_TIMEOUT_S
        self._replies = Replies()
        self._waiting: deque[_Waiting] = deque()
        self._requests = 0
        self._alarm: IDelayedCall | None = None
        self._last_words = ""
        self._closing = False
        self._reason: Exception | None = None
        self._lost = False
        self._closed: list[Deferred[None]] = []

    # -- what a client asks for ---------------------------------------------------

    def request(
        self,
        line: str,
        payload: bytes | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> "Deferred[Answer]":
        """See `securerecv.client.channel.Channel`."""
        tag = f"#{self._requests + 1}"
        data = encode(f"{tag} {line}", payload)
        self._requests += 1
        patience_s = timeout_s + len(payload or b"") / MIN_PAYLOAD_BYTES_PER_S
        waiting = _Waiting(tag, patience_s)
        if self._lost or self._reason is not None or self._closing:
            waiting.answer.errback(self._reason or _over())
            return waiting.answer
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            self._be_patient()
        transport: Any = self.transport
        transport.write(data)
        return waiting.answer

    def close(self) -> None:
        """See `securerecv.client.channel.Channel`."""
        if self._lost:
            return
        self._closing = True
        transport: Any = self.transport
        transport.loseConnection()
        self._set_alarm(CONNECT_TIMEOUT_S)

    def closed(self) -> "Deferred[None]":
        """See `securerecv.client.channel.Channel`."""
        waiter: Deferred[None] = Deferred()
        self._closed.append(waiter)
        if self._lost:
            self._tell_closed()
        return waiter

    # -- from the transport -----------------------------------------------------

    def connectionMade(self) -> None:
        """Wait for the handshake and the greeting."""
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        self._set_alarm(max(0.0, self._give_up_at - self._clock.seconds()))

    def handshakeCompleted(self) -> None:
        """Look at the server's key before anything is said."""
        transport: Any = self.transport
        try:
            self.pin = peer_pin(transport.getHandle())
            self._trust(self.pin)
        except SecurerecvError as reason:
            self._abort(reason)
        except (ValueError, UnsupportedAlgorithm) as reason:
            words = f"the server's key cannot be read ({reason}); nothing was sent"
            self._abort(UntrustedServerError(words))

    def dataReceived(self, data: bytes) -> None:
        """Take what the server says."""
        if self._reason is not None:
            return
        if self._waiting:
            self._be_patient()
        self._replies.receive(data)
        try:
            while self._reason is None:
                event = self._replies.next_event()
                if event is None:
                    return
                self._take(event)
        except NotUnderstoodError as reason:
            if self.ready.called:
                self._abort(reason)
            else:
                self._abort(UnreachableError(f"no securerecv server: {reason}"))
        except Exception as reason:  # noqa: BLE001 - a watcher may raise anything
            self._abort(reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell everybody who waits."""
        self._lost = True
        self._set_alarm(None)
        if self._reason is None and not self._closing:
            self._reason = self._explain(reason.value)
        if not self.ready.called:
            self.ready.errback(self._reason or _over())
        while self._waiting:
            self._waiting.popleft().answer.errback(self._reason or _over())
        self._tell_closed()

    # -- inside -----------------------------------------------------------------

    def _take(self, event: Event) -> None:
        match event:
            case Greeting():
                self.greeting = event
                self._set_alarm(None)
                self.ready.callback(None)
            case Pushed(text=text):
                word, _, words = text.partition(" ")
                if word == "CLOSING":
                    self._last_words = words
                self.pushed(event)
            case Replied():
                self._answered(event)

    def _answered(self, reply: Replied) -> None:
        if not isinstance(reply.result, Answer) and not reply.tag:
            # The server says why it is about to hang up.
            raise reply.result
        if not self._waiting or reply.tag != self._waiting[0].tag:
            raise DisconnectedError("the server answered what was not asked")
        waiting = self._waiting.popleft()
        self._be_patient()
        if isinstance(reply.result, Answer):
            waiting.answer.callback(reply.result)
        else:
            waiting.answer.errback(reply.result)

    def _be_patient(self) -> None:
        """Give the server time for the request whose turn it is."""
        self._set_alarm(self._waiting[0].patience_s if self._waiting else None)

    def _set_alarm(self, delay_s: float | None) -> None:
        if self._alarm is not None and self._alarm.active():
            if delay_s is not None:
                self._alarm.reset(delay_s)
                return
            self._alarm.cancel()
        self._alarm = None
        if delay_s is not None:
            self._alarm = self._clock.callLater(delay_s, self._give_up)

    def _give_up(self) -> None:
        if self._closing:
            transport: Any = self.transport
            transport.abortConnection()
            return
        if not self.ready.called:
            reason: Exception = UnreachableError(
                f"no securerecv server answered within {CONNECT_TIMEOUT_S:.0f} seconds"
            )
        else:
            patience_s = self._waiting[0].patience_s
            reason = DisconnectedError(
                f"the server did not answer within {patience_s:.0f} seconds"
            )
        self._abort(reason)

    def _abort(self, reason: Exception) -> None:
        """End the conversation; whoever waits is told when it has ended."""
        self._reason = reason
        transport: Any = self.transport
        transport.abortConnection()

    def _explain(self, reason: BaseException | None) -> Exception:
        if not self.ready.called:
            if isinstance(reason, SSL.Error):
                words = f"no TLS 1.3 server answered ({tls_words(reason)})"
            else:
                words = "the server hung up before it greeted"
            return UnreachableError(words)
        if self._last_words:
            return DisconnectedError(f"the server hung up: {self._last_words}")
        return DisconnectedError("the connection to the server was lost")

    def _tell_closed(self) -> None:
        waiters, self._closed = self._closed, []
        for waiter in waiters:
            if self._reason is None:
                waiter.callback(None)
            else:
                waiter.errback(self._reason)


def _over() -> DisconnectedError:
    return DisconnectedError("the conversation is over")


def _ignore(_: Pushed) -> None:
    """Take no notice."""
