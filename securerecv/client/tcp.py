"""Conversations over TCP and TLS 1.3."""

from collections import deque
from collections.abc import Callable
from functools import partial
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
from securerecv.client.content import Sink, Source
from securerecv.client.contentsender import ContentSender
from securerecv.client.ending import Ending, fault
from securerecv.client.errors import (
    DisconnectedError,
    UnreachableError,
    UntrustedServerError,
)
from securerecv.client.requests import encode
from securerecv.client.tlswords import tls_words
from securerecv.client.trust import Trust
from securerecv.errors import PeerError, SecurerecvError
from securerecv.limits import MIN_PAYLOAD_BYTES_PER_S
from securerecv.net.tls import peer_pin
from securerecv.wire.filereplies import Found, found_of, offset_of
from securerecv.wire.lines import Answer
from securerecv.wire.replies import (
    Content,
    Event,
    Greeting,
    NotUnderstoodError,
    Pushed,
    Replied,
    Replies,
)

CONNECT_TIMEOUT_S = 15.0
"""From the start to the server's greeting."""


MAX_BYTES_UNDER_WAY = 4 << 20
"""What the kernel may hold of a file that is all written (tcp(7), tcp_wmem)."""


@define(eq=False)
class _Waiting:
    """
    A request that is not answered yet, or whose content is under way.

    Attributes:
        tag: with its ``#``.
        data: its bytes.
        patience_s: how long the server may be silent over it.
        source: what is sent when the server says so.
        sink: what receives the content behind the answer.
        done: fires with the answer; behind a ``GET``, with what was found.
        left: bytes of content that are to come.
    """

    tag: str
    data: bytes = field(repr=False)
    patience_s: float
    source: Source | None = None
    sink: Sink | None = None
    done: "Deferred[Any]" = field(factory=Deferred)
    left: int = 0


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
        self._unsent: deque[_Waiting] = deque()
        self._uploading: _Waiting | None = None
        self._is_sending = False
        self._receive: Callable[[Content], None] = _ignore
        self._requests = 0
        self._alarm: IDelayedCall | None = None
        self._closing = False
        self._ending = Ending()

    # -- what a client asks for ---------------------------------------------------

    def request(
        self,
        line: str,
        payload: bytes | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> "Deferred[Answer]":
        """See `securerecv.client.channel.Channel`."""
        waiting = self._encode(line, payload)
        size = len(payload or b"")
        waiting.patience_s = timeout_s + size / MIN_PAYLOAD_BYTES_PER_S
        return self._ask(waiting)

    def upload(self, line: str, source: Source) -> "Deferred[Answer]":
        """See `securerecv.client.channel.Channel`."""
        waiting = self._encode(line)
        waiting.source = source
        return self._ask(waiting)

    def download(self, line: str, sink: Sink) -> "Deferred[Found]":
        """See `securerecv.client.channel.Channel`."""
        waiting = self._encode(line)
        waiting.sink = sink
        return self._ask(waiting)

    def close(self) -> None:
        """See `securerecv.client.channel.Channel`."""
        if self._ending.has_come:
            return
        self._closing = True
        transport: Any = self.transport
        transport.loseConnection()
        self._set_alarm(CONNECT_TIMEOUT_S)

    def closed(self) -> "Deferred[None]":
        """See `securerecv.client.channel.Channel`."""
        return self._ending.closed()

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
        if self._ending.reason is not None:
            return
        if self._waiting:
            self._be_patient()
        self._replies.receive(data)
        try:
            while self._ending.reason is None:
                event = self._replies.next_event()
                if event is None:
                    return
                self._take(event)
        except Exception as reason:  # noqa: BLE001 - a watcher may raise anything
            self._abort(fault(reason, greeted=self.ready.called))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell everybody who waits."""
        ending = self._ending
        ending.has_come = True
        self._set_alarm(None)
        if ending.reason is None and not self._closing:
            ending.reason = self._explain(reason.value)
        if not self.ready.called:
            self.ready.errback(ending.error)
        while self._waiting:
            self._waiting.popleft().done.errback(ending.error)
        ending.tell()

    # -- asking -----------------------------------------------------------------

    def _encode(self, line: str, payload: bytes | None = None) -> _Waiting:
        tag = f"#{self._requests + 1}"
        waiting = _Waiting(tag, encode(f"{tag} {line}", payload), ANSWER_TIMEOUT_S)
        self._requests += 1
        return waiting

    def _ask(self, waiting: _Waiting) -> "Deferred[Any]":
        ending = self._ending
        if ending.has_come or ending.reason is not None or self._closing:
            waiting.done.errback(ending.error)
            return waiting.done
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            self._be_patient()
        self._unsent.append(waiting)
        self._send()
        return waiting.done

    def _send(self) -> None:
        """Send what waits; behind a ``PUT``, only when its content is sent."""
        transport: Any = self.transport
        while self._unsent and self._uploading is None:
            waiting = self._unsent.popleft()
            transport.write(waiting.data)
            if waiting.source is not None:
                self._uploading = waiting

    def _send_content(self, source: Source, offset: int) -> None:
        if offset > source.size:
            raise NotUnderstoodError("the server wants what is behind the file's end")
        self._is_sending = True

        def done() -> None:
            self._is_sending = False
            self._uploading = None
            count = min(source.size - offset, MAX_BYTES_UNDER_WAY)
            patience_s = ANSWER_TIMEOUT_S + count / MIN_PAYLOAD_BYTES_PER_S
            self._waiting[0].patience_s = patience_s
            self._be_patient()
            self._send()

        ContentSender(
            self.transport,
            source,
            offset,
            moved=self._be_patient,
            done=done,
            failed=self._abort,
        ).start()

    # -- hearing ----------------------------------------------------------------

    def _take(self, event: Event) -> None:
        match event:
            case Greeting():
                self.greeting = event
                self._set_alarm(None)
                self.ready.callback(None)
            case Pushed(text=text):
                self._ending.listen(text)
                self.pushed(event)
            case Replied():
                self._answered(event)
            case Content():
                self._receive(event)

    def _answered(self, reply: Replied) -> None:
        if not isinstance(reply.result, Answer) and not reply.tag:
            # The server says why it is about to hang up.
            raise reply.result
        if not self._waiting or reply.tag != self._waiting[0].tag:
            raise DisconnectedError("the server answered what was not asked")
        waiting = self._waiting[0]
        if self._is_sending:
            words = "the server answered before it had all of the file"
            raise DisconnectedError(words)
        if not isinstance(reply.result, Answer):
            self._finish(reply.result)
        elif waiting is self._uploading and waiting.source is not None:
            self._send_content(waiting.source, offset_of(reply.result.words))
        elif waiting.sink is not None:
            self._begin_content(waiting, waiting.sink, found_of(reply.result.words))
        else:
            self._finish(reply.result)

    def _finish(self, result: Answer | Found | PeerError) -> None:
        """Give the request whose turn it is what came of it."""
        waiting = self._waiting.popleft()
        if waiting is self._uploading:
            self._uploading = None
            self._send()
        self._be_patient()
        if isinstance(result, PeerError):
            waiting.done.errback(result)
        else:
            waiting.done.callback(result)

    def _begin_content(self, waiting: _Waiting, sink: Sink, found: Found) -> None:
        waiting.left = found.size - sink.offset
        if waiting.left < 0:
            raise NotUnderstoodError("the server's file is too short")
        sink.begin(found)
        self._receive = partial(self._received, waiting, sink, found)
        self._replies.expect_content(waiting.left)
        if not waiting.left:
            self._finish(found)

    def _received(
        self, waiting: _Waiting, sink: Sink, found: Found, content: Content
    ) -> None:
        sink.write(content.data)
        waiting.left -= len(content.data)
        if not waiting.left:
            self._finish(found)

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
        self._ending.reason = reason
        transport: Any = self.transport
        transport.abortConnection()

    def _explain(self, reason: BaseException | None) -> Exception:
        if not self.ready.called:
            if isinstance(reason, SSL.Error):
                words = f"no TLS 1.3 server answered ({tls_words(reason)})"
            else:
                words = "the server hung up before it greeted"
            return UnreachableError(words)
        lost = DisconnectedError("the connection to the server was lost")
        return self._ending.hung_up(lost)


def _ignore(_: Pushed | Content) -> None:
    """Take no notice."""
