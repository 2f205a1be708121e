"""Conversations over UDP and DTLS 1.2."""

from collections.abc import Callable, Sequence
from functools import partial
from random import SystemRandom
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from securerecv.client.channel import ANSWER_TIMEOUT_S
from securerecv.client.content import Sink, Source
from securerecv.client.ending import Ending, fault
from securerecv.client.errors import DisconnectedError, UnreachableError
from securerecv.client.exchanges import Exchange, Exchanges
from securerecv.client.lanes import ClientLanes
from securerecv.client.requests import encode
from securerecv.client.trust import Trust
from securerecv.errors import ErrorCode, PeerError, SecurerecvError
from securerecv.net.tls import DATAGRAM_BYTES
from securerecv.settings import Settings
from securerecv.wire.dtlsrecords import OVERHEAD_BYTES
from securerecv.wire.filereplies import (
    Found,
    download_lane_of,
    found_of,
    upload_lane_of,
)
from securerecv.wire.heardrecord import Heard, read_record
from securerecv.wire.lanekeys import LaneKeys, derive
from securerecv.wire.lines import Answer
from securerecv.wire.replies import (
    Greeting,
    Limits,
    NotUnderstoodError,
    Pushed,
    error_of,
    greeting_of,
)

MAX_RECORD_BYTES = DATAGRAM_BYTES - OVERHEAD_BYTES
"""Of a request with its payload: what certainly gets through."""

GREETING_TIMEOUT_S = 20.0
"""From the start to the server's greeting."""

GREETING_WAIT_S = 0.5
"""From the handshake until the greeting is taken for lost."""

GOODBYE_TIMEOUT_S = 2.0
"""For the answer to ``QUIT``, after which nobody answers any more."""

_random = SystemRandom().random


class UdpChannel:
    """
    See `securerecv.client.channel.Channel`.

    Args:
        trust: sees the server's pin before anything is said.
        clock: tells the time and calls later.
        random: gives numbers from 0 to 1, to spread what is sent again.

    Attributes:
        path: what carries records; set before anything else.
        ready: fires when the server has greeted; fails when it never will.
    """

    pin = ""
    greeting: Greeting
    path: Any

    def __init__(
        self,
        trust: Trust,
        clock: IReactorTime,
        random: Callable[[], float] = _random,
    ) -> None:
        self.ready: Deferred[None] = Deferred()
        self.pushed: Callable[[Pushed], None] = _ignore
        self._trust = trust
        self._clock = clock
        self._exchanges = Exchanges(random)
        self._lanes = ClientLanes(clock, self._send_packets, self._lane_keys)
        self._greeting_lines: list[str] = []
        self._alarm: IDelayedCall | None = None
        self._greeting_alarm: IDelayedCall | None = None
        self._give_up = clock.callLater(GREETING_TIMEOUT_S, self._no_greeting)
        self._ending = Ending()

    # -- what a client asks for ---------------------------------------------------

    def request(
        self,
        line: str,
        payload: bytes | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> "Deferred[Answer]":
        """
        See `securerecv.client.channel.Channel`.

        Raises:
            PeerError: ``too-large``; no datagram can hold it, and nothing was
                sent.
        """
        return self._ask(self._exchange(line, payload, timeout_s))

    def _exchange(self, line: str, payload: bytes | None, timeout_s: float) -> Exchange:
        verb = line.partition(" ")[0].upper()
        tag = self._exchanges.next_tag()
        record = encode(f"{tag} {line}", payload)
        if len(record) > MAX_RECORD_BYTES:
            words = (
                f"too large for UDP, which takes {MAX_RECORD_BYTES} bytes with the"
                " request line: use TCP"
            )
            raise PeerError(ErrorCode.TOO_LARGE, words)
        if verb == "QUIT":
            timeout_s = GOODBYE_TIMEOUT_S
        return Exchange(tag, verb, record, timeout_s)

    def _ask(self, exchange: Exchange) -> "Deferred[Answer]":
        if self._ending.has_come:
            exchange.answer.errback(self._ending.error)
        else:
            self._exchanges.add(exchange)
            self._send()
        return exchange.answer

    def upload(self, line: str, source: Source) -> "Deferred[Answer]":
        """
        See `securerecv.client.channel.Channel`.

        Raises:
            PeerError: ``too-large``; the request line fits no datagram.
        """
        exchange = self._exchange(line, None, ANSWER_TIMEOUT_S)
        exchange.begin = partial(self._send_file, exchange, source)
        return self._ask(exchange)

    def download(self, line: str, sink: Sink) -> "Deferred[Found]":
        """See `securerecv.client.channel.Channel`."""
        found = self.request(line).addCallback(self._receive_file, sink)
        return found.addErrback(self._lost_file)

    def close(self) -> None:
        """See `securerecv.client.channel.Channel`."""
        self._hang_up(None)

    def closed(self) -> "Deferred[None]":
        """See `securerecv.client.channel.Channel`."""
        return self._ending.closed()

    # -- from the path: see `securerecv.client.dtls.Talk` ---------------------------

    def shook_hands(self, pin: str) -> None:
        """Look at the server's key before anything is said."""
        self.pin = pin
        try:
            self._trust(pin)
        except SecurerecvError as reason:
            self._abort(reason)
            return
        self._greeting_alarm = self._clock.callLater(
            GREETING_WAIT_S, self._ask_for_greeting
        )

    def received(self, record: bytes) -> None:
        """Take what the server says."""
        try:
            for heard in read_record(record):
                if self._ending.has_come:
                    return
                self._take(heard)
        except Exception as reason:  # noqa: BLE001 - a watcher may raise anything
            self._abort(fault(reason, greeted=self.ready.called))
        self._send()

    def packets(self, datagrams: Sequence[bytes]) -> None:
        """Take packets of lanes."""
        self._lanes.received(datagrams)

    def lost(self, reason: Exception) -> None:
        """Tell everybody who waits."""
        if isinstance(reason, DisconnectedError):
            reason = self._ending.hung_up(reason)
        self._lanes.close()
        self._end(reason)

    # -- files ----------------------------------------------------------------------

    def _send_file(self, exchange: Exchange, source: Source, words: str) -> None:
        """Send what was asked for; its second answer tells what became of it."""
        lane_id, offset = upload_lane_of(words)

        def moved() -> None:
            self._exchanges.be_patient(exchange, self._clock.seconds())

        def arrived(_: None) -> None:
            self._exchanges.ask_again(exchange, self._clock.seconds())
            self._send()

        sent = self._lanes.send_file(lane_id, offset, source, moved)
        sent.addCallbacks(arrived, self._lost_file)
        # Whoever waits for the answer has been told.
        sent.addErrback(lambda _: None)

    def _send_packets(self, datagrams: Sequence[bytes]) -> int:
        count: int = self.path.send_packets(datagrams)
        return count

    def _lane_keys(self, lane_id: bytes) -> LaneKeys:
        return derive(self.path.lane_secret(lane_id))

    def _receive_file(self, answer: Answer, sink: Sink) -> "Deferred[Found]":
        found = found_of(answer.words)
        lane_id, offset = download_lane_of(answer.lines[0][0])
        if offset != sink.offset or offset > found.size:
            raise NotUnderstoodError("the server's file begins elsewhere")
        sink.begin(found)
        came = self._lanes.receive_file(lane_id, offset, found.size, sink)
        return came.addCallback(lambda _: found)

    def _lost_file(self, failure: Failure) -> Failure:
        """End the conversation, unless the server only said no."""
        reason = failure.value
        if isinstance(reason, Exception) and not isinstance(reason, PeerError):
            self._abort(reason)
        return failure

    # -- inside -----------------------------------------------------------------

    def _take(self, heard: Heard) -> None:
        if heard.tag:
            self._exchanges.take(heard)
        elif heard.mark == "!":
            self._ending.listen(heard.text)
            self.pushed(Pushed(heard.text, heard.payload))
        elif heard.mark == "-ERR":
            # The server says why it is about to hang up.
            raise error_of(heard.text)
        elif heard.mark == "*" and not self.ready.called:
            self._greeting_lines.append(heard.text)
            if heard.text.startswith("HINT "):
                self._greet(greeting_of(self._greeting_lines))

    def _ask_for_greeting(self) -> None:
        """Do without a greeting that was lost, once the server answers."""

        def greet(answer: Answer) -> None:
            if not self.ready.called:
                _, _, notice = answer.lines[0][0].partition(" ")
                self._greet(Greeting(notice, _usual_limits()))

        # What fails here fails for `ready` as well.
        self.request("NOTICE").addCallbacks(greet, lambda _: None)

    def _greet(self, greeting: Greeting) -> None:
        self.greeting = greeting
        self._stop(self._give_up, self._greeting_alarm)
        self.ready.callback(None)

    def _no_greeting(self) -> None:
        self._abort(
            UnreachableError(
                "no securerecv server answered on UDP within"
                f" {GREETING_TIMEOUT_S:.0f} seconds"
            )
        )

    def _send(self) -> None:
        """Send what is to be sent now, and see to it that the rest is later."""
        if self._ending.has_come:
            return
        now = self._clock.seconds()
        try:
            for record in self._exchanges.to_send(now):
                self.path.send(record)
        except DisconnectedError as reason:
            self._abort(reason)
        self._stop(self._alarm)
        next_time = self._exchanges.next_time()
        if next_time is not None and not self._ending.has_come:
            self._alarm = self._clock.callLater(max(0.0, next_time - now), self._send)

    def _abort(self, reason: Exception) -> None:
        """End the conversation, and tell whoever waits."""
        self._hang_up(reason)

    def _hang_up(self, reason: Exception | None) -> None:
        self._lanes.close()
        self.path.close()
        self._end(reason)

    def _end(self, reason: Exception | None) -> None:
        if self._ending.has_come:
            return
        if self._exchanges.is_leaving and isinstance(reason, DisconnectedError):
            # The answer to the goodbye was lost, and nobody will send it again.
            reason = None
        self._ending.has_come = True
        self._ending.reason = reason
        self._stop(self._alarm, self._give_up, self._greeting_alarm)
        self._exchanges.end(self._ending.error)
        if not self.ready.called:
            self.ready.errback(self._ending.error)
        self._ending.tell()

    def _stop(self, *calls: IDelayedCall | None) -> None:
        for call in calls:
            if call is not None and call.active():
                call.cancel()


def _usual_limits() -> Limits:
    """Give what a server takes whose operator changed nothing."""
    usual = Settings()
    return Limits(usual.max_message, usual.max_file, usual.keep, usual.anonymous)


def _ignore(_: Pushed) -> None:
    """Take no notice."""
