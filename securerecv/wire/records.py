"""
Conversations in records, as over DTLS: `docs/protocol.md` section 4.

What a stream does by itself is done here: a record holds whole requests, an
answer is cut into records of whole lines, and a request that comes again is
answered again and not carried out again.
"""

from collections import deque
from collections.abc import Sequence

from securerecv.errors import PeerError
from securerecv.wire.answermemory import AnswerMemory
from securerecv.wire.budget import Budget
from securerecv.wire.lines import Answer, Post
from securerecv.wire.reader import Item
from securerecv.wire.session import Session, Terms

MAX_WAITING_RECORDS = 256
"""Records that wait while a command is carried out; the rest is lost."""

FIRST_RECORD_BYTES = 1200
"""What certainly gets through: RFC 9000 section 14 takes the same to be so."""


class RecordSession(Session):
    """
    The server's side of one conversation whose bytes come in records.

    Args:
        terms: what the server offers.
        budget: the allowance for payloads, shared by all conversations.
        now: seconds on the clock that all other times are on.

    Attributes:
        record_bytes: what fits in one record; may be changed at any time.
    """

    def __init__(self, terms: Terms, budget: Budget, now: float) -> None:
        self._room = FIRST_RECORD_BYTES
        self._memory = AnswerMemory()
        self._records: deque[bytes] = deque()
        super().__init__(terms, budget, now)

    _watchers_may_be_silent = False

    @property
    def record_bytes(self) -> int:
        """What fits in one record."""
        return self._room or FIRST_RECORD_BYTES

    @record_bytes.setter
    def record_bytes(self, count: int) -> None:
        self._room = count

    def receive(self, data: bytes, now: float) -> None:
        """Take one record from the peer."""
        self._now = now
        if not self._ending and len(self._records) < MAX_WAITING_RECORDS:
            self._records.append(data)

    def _next_item(self) -> Item | None:
        while True:
            item = self._reader.next()
            if item is None:
                item = self._reader.end_record()
            if item is None:
                if not self._records:
                    return None
                self._reader.begin_record(self._records.popleft())
            elif not item.tag or self._memory.begin(item.tag, self._reader.last_read):
                return item
            else:
                self._put_out(self._memory.answer_to(item.tag) or [])
                if isinstance(item, Post):
                    self._budget.give_back(len(item.body))

    def _write(self, answer: Answer | PeerError, tag: str) -> list[bytes]:
        pieces = super()._write(answer, tag)
        if tag:
            self._memory.finish(tag, pieces)
        return pieces

    def _write_posts(self, posts: Sequence[Post], lines: Sequence[str]) -> list[bytes]:
        pieces = [line.encode() for line in lines]
        for post, piece in zip(posts, pieces, strict=True):
            if post.tag:
                self._memory.finish(post.tag, [piece])
        return pieces

    def _pack(self, pieces: list[bytes]) -> list[bytes]:
        """Fill records with whole lines, in their order."""
        records: list[bytes] = []
        record: list[bytes] = []
        size = 0
        for piece in pieces:
            if record and size + len(piece) > self.record_bytes:
                records.append(b"".join(record))
                record, size = [], 0
            record.append(piece)
            size += len(piece)
        records.append(b"".join(record))
        return records
