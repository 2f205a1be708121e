"""
Driving one conversation: between a transport, a `Session` and the `Desk`.

The same for every transport.  Nothing is queued here: while the session has
enough to do, or the peer does not read, the transport is paused.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from securerecv.errors import ErrorCode, PeerError
from securerecv.intake.announcer import News
from securerecv.intake.desk import Desk, Visitor
from securerecv.intake.messages import Outcome
from securerecv.intake.results import Receiving, Result, Sending
from securerecv.limits import (
    MAX_UNREAD_PUSH_BYTES,
    MIN_PAYLOAD_BYTES_PER_S,
    UNREAD_TIMEOUT_S,
)
from securerecv.wire.events import Chunk, Command, Posts
from securerecv.wire.lines import Message, refusal
from securerecv.wire.session import Session
from securerecv.wire.verbs import Standing

_MAKE_WAY = PeerError(ErrorCode.BUSY, "too many connections; log in sooner")


class Pipe(Protocol):
    """What a conversation wants of its transport."""

    def write(self, data: bytes) -> None:
        """Send."""

    def pause(self) -> None:
        """Read no more for now."""

    def resume(self) -> None:
        """Read again."""

    def close(self) -> None:
        """Hang up when everything is sent."""

    def abort(self) -> None:
        """Hang up now."""


class Transfers(Protocol):
    """How files travel that a conversation is about."""

    def begin_upload(self, command: Command, receiving: Receiving) -> None:
        """Answer a ``PUT``, and take what follows."""

    def begin_download(self, command: Command, sending: Sending) -> None:
        """Answer a ``GET``, and send what follows."""

    def take(self, chunk: Chunk) -> None:
        """Take a part of an upload that came within the conversation."""

    def pull(self) -> None:
        """Send the next part of a download, if it is there: the peer reads."""

    def cut_off(self) -> None:
        """End what would outlive the conversation: the peer may not go on."""

    def end(self) -> None:
        """Leave what is under way: the conversation is over."""


class Conversation:
    """
    One conversation.

    Args:
        desk: carries out what is asked for.
        session: understands what is said.
        address: where the peer is, for limits.
        pipe: the transport.
        clock: tells the time and calls later.
        came_in: called once, when the peer is logged in or anonymous.
        transfers: makes what carries files.

    Attributes:
        session: see above.
        clock: see above.
    """

    def __init__(
        self,
        desk: Desk,
        session: Session,
        address: str,
        pipe: Pipe,
        clock: IReactorTime,
        came_in: Callable[[Standing], None],
        transfers: Callable[["Conversation"], Transfers],
    ) -> None:
        self.session = session
        self.clock = clock
        self._desk = desk
        self._visitor = Visitor(address, self._push, self.dismiss)
        self._pipe = pipe
        self._came_in = came_in
        self._proceeding = False
        self._paused = False
        self._unread = False
        self._unread_budget = desk.unread.share_of(address)
        self._held_bytes = 0
        self._written_last = 0
        self._closing = False
        self._over = False
        self._deadline: IDelayedCall | None = None
        self._unread_deadline: IDelayedCall | None = None
        self._transfers = transfers(self)

    def start(self) -> None:
        """Greet the peer."""
        self.proceed()

    def received(self, data: bytes) -> None:
        """Take bytes from the peer."""
        self.session.receive(data, self.clock.seconds())
        self.proceed()

    def take(self, records: Sequence[bytes]) -> None:
        """Take records from the peer; `proceed` follows."""
        self.session.receive_records(records, self.clock.seconds())

    def peer_is_slow(self) -> None:
        """Wait with everything: the peer does not read what it was sent."""
        self._unread = True
        self._hold(self._written_last)
        self._give_time_to_read()

    def peer_reads(self) -> None:
        """Go on: the peer has read."""
        if self._closing:
            return
        self._unread = False
        self._let_go()
        if self._unread_deadline is not None and self._unread_deadline.active():
            self._unread_deadline.cancel()
        self._unread_deadline = None
        self.proceed()

    def make_way(self) -> None:
        """End the conversation because others want in."""
        self._pipe.write(refusal(_MAKE_WAY).encode())
        self.session.close()
        self._desk.leave(self._visitor)
        self.proceed()

    def dismiss(self, words: str) -> None:
        """End the conversation from this side."""
        self._transfers.cut_off()
        if self.session.is_amid_content:
            # What is said now would be taken for a part of the file.
            self.abort()
            return
        self.session.push(f"CLOSING {words}")
        self.session.close()
        self.proceed()

    def abort(self) -> None:
        """End the conversation without a word."""
        self._pipe.abort()

    def over(self) -> None:
        """Clean up: the transport has gone."""
        self._over = True
        self._let_go()
        self.session.close()
        self._transfers.end()
        self._desk.leave(self._visitor)
        for call in (self._deadline, self._unread_deadline):
            if call is not None and call.active():
                call.cancel()

    def _write(self, data: bytes) -> None:
        self._written_last = len(data)
        if not self._unread or self._hold(len(data)):
            self._pipe.write(data)

    def _hold(self, count: int) -> bool:
        """Count bytes that the peer leaves unread; too many end it."""
        if not self._unread_budget.take(count):
            self._pipe.abort()
            return False
        self._held_bytes += count
        return True

    def _let_go(self) -> None:
        self._unread_budget.give_back(self._held_bytes)
        self._held_bytes = 0

    def _give_time_to_read(self) -> None:
        if self._unread_deadline is None:
            allowance_s = self._held_bytes / MIN_PAYLOAD_BYTES_PER_S
            self._unread_deadline = self.clock.callLater(
                UNREAD_TIMEOUT_S + allowance_s, self._pipe.abort
            )

    def _push(self, news: News) -> bool:
        if self.session.is_ending:
            return False
        is_full = self._unread and self._held_bytes > MAX_UNREAD_PUSH_BYTES
        heard = not is_full and self._say(news)
        if not heard and self.session.standing is Standing.USER:
            # The box has it; the peer will see that it was cut off, but
            # could not see that something was left out.
            self._pipe.abort()
        self.proceed()
        return heard and not self._over

    def _say(self, news: News) -> bool:
        if isinstance(news, Message):
            return self.session.push(news.line(), news.body)
        return all(self.session.push(line) for line in news.lines())

    def proceed(self) -> None:
        """Do all that can be done now."""
        if self._proceeding or self._over:
            return
        self._proceeding = True
        try:
            self._carry_out()
        finally:
            self._proceeding = False
        if not self._over:
            self._regulate()

    def _carry_out(self) -> None:
        session = self.session
        while True:
            event = None if self._unread else session.next_event()
            if event is None:
                if not (self._speak() and self._has_more()):
                    return
            elif isinstance(event, Posts):
                posted = self._desk.post(self._visitor, event.items)
                posted.addCallback(self._posted, event)
            elif isinstance(event, Command):
                served = self._desk.serve(self._visitor, event)
                served.addCallback(self._served, event)
            else:
                self._transfers.take(event)

    def _has_more(self) -> bool:
        """Whether something was not read yet, or more of a download may be there."""
        return self.session.has_unread or self.session.is_amid_content

    def _speak(self) -> bool:
        """Write what there is to say; False if there was nothing."""
        if not self._unread:
            self._transfers.pull()
        chunks = self.session.data_to_send()
        for data in chunks:
            self._write(data)
        return bool(chunks)

    def _posted(self, outcome: Outcome, posts: Posts) -> None:
        self.session.answer_posts(posts, outcome.ids, outcome.refusals)
        self.proceed()

    def _served(self, result: Result, command: Command) -> None:
        avatar = self._visitor.avatar
        if avatar is not None and self.session.standing is Standing.NEW:
            self.session.standing = avatar.standing
            self.session.name = avatar.name
            self._came_in(avatar.standing)
        self.session.watching = self._visitor.watching
        if isinstance(result, Receiving):
            self._transfers.begin_upload(command, result)
        elif isinstance(result, Sending):
            self._transfers.begin_download(command, result)
        else:
            self.session.answer(command, result)
        self.proceed()

    def _regulate(self) -> None:
        """Pause or resume the transport, hang up, set the alarm."""
        session = self.session
        if session.is_ending and session.finished:
            if not self._closing:
                # TLS ends when both sides say so: a peer that keeps silent
                # has as long as for its answers, and is cut off then.
                self._closing = True
                self._transfers.end()
                self._give_time_to_read()
                self._pipe.close()
            return
        should_pause = self._unread or not session.wants_data
        if should_pause != self._paused:
            self._paused = should_pause
            if should_pause:
                self._pipe.pause()
            else:
                self._pipe.resume()
        if self._deadline is None or session.awaits_rest:
            self._set_alarm(session.deadline())

    def _set_alarm(self, deadline: float | None) -> None:
        """See to it that `_expire` is called in time; too early does no harm."""
        if deadline is None:
            return
        if self._deadline is None:
            delay = max(0.0, deadline - self.clock.seconds())
            self._deadline = self.clock.callLater(delay, self._expire)
        elif deadline < self._deadline.getTime():
            self._deadline.reset(max(0.0, deadline - self.clock.seconds()))

    def _expire(self) -> None:
        self._deadline = None
        self.session.expire(self.clock.seconds())
        self.proceed()
