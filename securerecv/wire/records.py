"""
Conversations in records, as over DTLS: `docs/protocol.md` section 4.

What a stream does by itself is done here: a record holds whole requests, an
answer is cut into records of whole lines, and a request that comes again is
answered again and not carried out again.
"""

from collections import deque
from collections.abc import Sequence

from securerecv.errors import PeerError
from securerecv.limits import MAX_POST_BYTES_IN_FLIGHT, MAX_POSTS_IN_FLIGHT
from securerecv.wire.answermemory import AnswerMemory
from securerecv.wire.budget import Share
from securerecv.wire.events import Command
from securerecv.wire.lines import Answer, Post
from securerecv.wire.reader import Item
from securerecv.wire.session import Session, Terms

RECORD_BYTES = 1195
"""
What certainly gets through: 1,280 bytes, which every path of IPv6 lets through
(RFC 8200 section 5), less its header (40), that of UDP (8) and that of a DTLS
record with its nonce and tag (37).
"""

MAX_WAITING_RECORDS = 256
MAX_WAITING_BYTES = 256 * 1024
"""What may wait while a command is carried out; more is lost, as datagrams are."""


class RecordSession(Session):
    """
    The server's side of one conversation whose bytes come in records.

    Args:
        terms: what the server offers.
        budget: the peer's allowance for payloads, and for records that wait.
        now: seconds on the clock that all other times are on.
    """

    _room = RECORD_BYTES

    # Nothing else tells that the peer of a datagram conversation has gone.
    _watchers_may_be_silent = False

    def __init__(self, terms: Terms, budget: Share, now: float) -> None:
        self._memory = AnswerMemory()
        self._records: deque[bytes] = deque()
        self._waiting_bytes = 0
        super().__init__(terms, budget, now)

    def receive(self, data: bytes, now: float) -> None:
        """Take one record from the peer."""
        self._now = now
        if (
            self.is_ending
            or len(self._records) >= MAX_WAITING_RECORDS
            or self._waiting_bytes + len(data) > MAX_WAITING_BYTES
            or not self._budget.take(len(data))
        ):
            return
        self._records.append(data)
        self._waiting_bytes += len(data)

    def receive_records(self, records: Sequence[bytes], now: float) -> None:
        """Take records from the peer; if there is no room for all, for some."""
        size = sum(map(len, records))
        if (
            self.is_ending
            or len(self._records) + len(records) > MAX_WAITING_RECORDS
            or self._waiting_bytes + size > MAX_WAITING_BYTES
            or not self._budget.take(size)
        ):
            super().receive_records(records, now)
            return
        self._now = now
        self._records += records
        self._waiting_bytes += size

    @property
    def has_unread(self) -> bool:
        """See `Session.has_unread`."""
        return bool(self._records) or super().has_unread

    def _read_posts(self) -> tuple[list[Post], int]:
        """Take messages that each have a record of their own and are new."""
        posts: list[Post] = []
        if not self._records or self._reader.is_amid_request:
            return posts, 0
        if not self._reader.allows_send():
            return posts, 0
        most = MAX_POSTS_IN_FLIGHT - self._posts_in_flight
        room = MAX_POST_BYTES_IN_FLIGHT - self._bytes_in_flight
        size = taken = 0
        while self._records and len(posts) < most and size < room:
            record = self._records[0]
            post = self._reader.post_of(record)
            if post is None or not self._is_new(post.tag, record):
                break
            self._records.popleft()
            posts.append(post)
            size += len(post.body)
            taken += len(record)
        self._waiting_bytes -= taken
        # The bodies' part stays taken, until they are stored.
        self._budget.give_back(taken - size)
        return posts, size

    def _is_new(self, tag: str, request: bytes) -> bool:
        return not tag or self._memory.begin(tag, request)

    def _next_record(self) -> bytes:
        record = self._records.popleft()
        self._waiting_bytes -= len(record)
        self._budget.give_back(len(record))
        return record

    def _next_item(self) -> Item | None:
        # An answer given again takes room as any other; when there is no more,
        # `next_event` is asked again after the answers were fetched.
        while self._may_read():
            if not self._reader.is_amid_request:
                if not self._records:
                    return None
                self._reader.begin_record(self._next_record())
            item = self._reader.next() or self._reader.end_record()
            if item is None:
                continue
            if self._is_new(item.tag, self._reader.last_read):
                return item
            self._put_out(list(self._memory.answer_to(item.tag)))
            if isinstance(item, Post):
                self._budget.give_back(len(item.body))
        return None

    def _end(self) -> None:
        super()._end()
        while self._records:
            self._next_record()

    def answer_twice(self, command: Command, answer: Answer) -> None:
        """
        Give the first answer to a ``PUT``, whose content comes by a lane.

        The session goes on; until `answer_again` gives the second answer, a
        ``PUT`` that is sent again gets this one.
        """
        self.answer(command, answer)
        self._memory.expect_another(command.request.tag)

    def answer_again(self, command: Command, answer: Answer | PeerError) -> None:
        """Give the second answer; a session that is ending says nothing more."""
        tag = command.request.tag
        pieces = super()._write(answer, tag)
        self._memory.replace(tag, pieces)
        if not self.is_ending:
            self._say(pieces)

    def _write(self, answer: Answer | PeerError, tag: str) -> list[bytes]:
        pieces = super()._write(answer, tag)
        if tag:
            self._memory.finish(tag, pieces)
        return pieces

    def _write_posts(self, posts: Sequence[Post], lines: Sequence[str]) -> list[bytes]:
        pieces = [line.encode() for line in lines]
        for post, answer in zip(posts, pieces, strict=True):
            if post.tag:
                self._memory.finish(post.tag, (answer,))
        return pieces

    def _pack(self, pieces: list[bytes]) -> list[bytes]:
        """Fill records with whole lines, in their order."""
        if sum(map(len, pieces)) <= self._room:
            return [b"".join(pieces)]
        records: list[bytes] = []
        record: list[bytes] = []
        size = 0
        for piece in pieces:
            if record and size + len(piece) > self._room:
                records.append(b"".join(record))
                record, size = [], 0
            record.append(piece)
            size += len(piece)
        records.append(b"".join(record))
        return records
