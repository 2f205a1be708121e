"""
Requests out of bytes: lines, tags, verbs, arguments and payloads.

A `Reader` holds one unfinished request at most, and never more of it than the
limits allow: a length is checked before anything of its body is kept.
"""

import re
from collections.abc import Callable
from enum import Enum

from attrs import define, field

from securerecv.errors import ErrorCode, PeerError
from securerecv.limits import MAX_LINE_BYTES, MAX_SKIPPED_PAYLOAD_BYTES
from securerecv.wire.budget import Share
from securerecv.wire.lines import Post, usage
from securerecv.wire.tags import split_tag, tag_of
from securerecv.wire.verbs import VERBS, Verb, find, usage_of


@define
class Request:
    """Any other request, understood; absent arguments are empty."""

    verb: Verb
    arguments: tuple[str, ...] = field(repr=False)
    tag: str


@define
class Refused:
    """What came was no request, or none that is allowed."""

    error: PeerError
    tag: str = ""


Item = Post | Request | Refused


# A SEND up to its payload: what devices send by the thousand.  It says no more
# than `securerecv.wire.verbs` does, and what it does not match is read as any
# other line.
_PLAIN_SEND = re.compile(
    rb"(?:(#[A-Za-z0-9]{1,16}) )?(?i:SEND) ([!-~]+) ([0-9]{1,9})\r?\n"
)
# The same as all of a record, with its payload.
_WHOLE_SEND = re.compile(_PLAIN_SEND.pattern + rb"((?s:.*))\r\n")


_SEND = VERBS["SEND"]


class _Mode(Enum):
    LINE = "a request line is next"
    LONG_LINE = "the rest of a line that was too long is next"
    BODY = "the rest of a payload is next"
    SKIPPED_BODY = "the rest of a refused payload is next"
    BODY_END = "the line end behind a payload is next"


class Reader:
    """
    Cuts a stream of bytes into requests.

    Args:
        max_message: bytes of the largest payload taken.
        budget: the peer's allowance for payloads.  What
            a `Post` holds is taken from it and must be given back.
        check: raises `PeerError` if the peer may not use a verb now.

    Attributes:
        broken: the peer broke the framing; there is nothing more to read.
        is_amid_request: there is something that was not given yet, or only a part
            of a request has come.
    """

    def __init__(
        self, max_message: int, budget: Share, check: Callable[[Verb], None]
    ) -> None:
        self.broken = False
        self.is_amid_request = False
        self._max_message = max_message
        self._budget = budget
        self._check = check
        self._mode = _Mode.LINE
        self._data = b""
        self._at = 0
        self._began_at = 0
        self._body = bytearray()
        self._body_left = 0
        self._body_of: Post | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes; `next` says what they mean."""
        self._data = self._data[self._at :] + data
        self._at = 0
        if data:
            self.is_amid_request = True

    def take(self, count: int) -> bytes | memoryview:
        """
        Give bytes that are next as they are, and uncopied: a file's content.

        Args:
            count: the most that are wanted.

        Returns:
            What is there of them, which may be nothing.
        """
        data, at = self._data, self._at
        if at == 0 and len(data) <= count:
            self._data = b""
            self.is_amid_request = False
            return data
        self._at = min(at + count, len(data))
        self._look_for_more()
        return memoryview(data)[at : self._at]

    def begin_record(self, record: bytes) -> None:
        """
        Take a record, which holds whole requests: its end is a line end too.

        What was broken in the record before is so no more.
        """
        self._data = record if record.endswith(b"\n") else record + b"\n"
        self._at = 0
        self.broken = False
        self.is_amid_request = True

    def end_record(self) -> Refused | None:
        """
        Leave a record behind when `next` finds nothing more in it.

        Returns:
            The refusal of a request that is not whole, if there is one.
        """
        post, mode = self._body_of, self._mode
        self._data = b""
        self._at = 0
        self._mode = _Mode.LINE
        self.is_amid_request = False
        self._drop_body()
        if mode in (_Mode.BODY, _Mode.BODY_END) and post is not None:
            return Refused(usage(_SEND.usage), post.tag)
        return None

    @property
    def last_read(self) -> bytes:
        """The bytes of what `next` gave last, of a record."""
        return self._data[self._began_at : self._at]

    def close(self) -> None:
        """Stop reading and give back what is held."""
        self.broken = True
        self._data = b""
        self._at = 0
        self.is_amid_request = False
        self._drop_body()

    @property
    def tag(self) -> str:
        """What the answer to the request begins with whose payload is being read."""
        return self._body_of.tag if self._body_of else ""

    @property
    def payload_bytes(self) -> int:
        """The size of the payload that is being read, as far as it is known."""
        return len(self._body) + self._body_left

    def posts(self, count: int, size: int) -> tuple[list[Post], int]:
        """
        Give messages that are next and there as a whole, many at once.

        Args:
            count: how many at the most.
            size: stop when their bodies have this many bytes together.

        Returns:
            They, or none if `next` must look at what is there; and how many bytes
            their bodies have together.
        """
        posts: list[Post] = []
        data, at, held = self._data, self._at, 0
        end_of_data = len(data)
        if at == end_of_data or self._mode is not _Mode.LINE or not self.allows_send():
            return posts, 0
        left = self._budget.left
        while at < end_of_data and held < size and len(posts) < count:
            post, end = self._plain_send(data, at)
            if post is None or held + len(post.body) > left:
                break
            posts.append(post)
            held += len(post.body)
            at = end
        self._budget.take(held)
        self._at = at
        self.is_amid_request = at < end_of_data
        return posts, held

    def _plain_send(self, data: bytes, at: int) -> tuple[Post | None, int]:
        """Give a message that is there as a whole, and where it ends."""
        match = _PLAIN_SEND.match(data, at)
        if match is None:
            return None, at
        start = match.end()
        tag, to, digits = match.groups()
        size = int(digits)
        end = start + size
        if (
            data[end : end + 2] != b"\r\n"
            or size > self._max_message
            or start - at > MAX_LINE_BYTES
        ):
            return None, at
        label = tag.decode("ascii") + " " if tag else ""
        return Post(to.decode("ascii"), data[start:end], label), end + 2

    def post_of(self, record: bytes) -> Post | None:
        """
        Read a record that is one message and nothing else.

        The budget is not asked: whoever holds the record has taken it there.

        Returns:
            The message; None if `begin_record` and `next` must look at it.
        """
        match = _WHOLE_SEND.fullmatch(record)
        if match is None:
            return None
        tag, to, digits, body = match.groups()
        size = len(body)
        if (
            size != int(digits)
            or size > self._max_message
            or len(record) - size > MAX_LINE_BYTES
        ):
            return None
        label = tag.decode("ascii") + " " if tag else ""
        return Post(to.decode("ascii"), body, label)

    def allows_send(self) -> bool:
        """Tell whether the peer may send messages now."""
        try:
            self._check(_SEND)
        except PeerError:
            return False
        return True

    def next(self) -> Item | None:
        """Give the next request, or None if more bytes are needed for it."""
        item: Item | None = None
        while item is None and self._at < len(self._data):
            before = self._at, self._mode
            item = self._read()
            if before == (self._at, self._mode):
                break
        self._look_for_more()
        return item

    def _look_for_more(self) -> None:
        self.is_amid_request = (
            self._at < len(self._data) or self._mode is not _Mode.LINE
        )

    def _read(self) -> Item | None:
        match self._mode:
            case _Mode.LINE:
                return self._read_line()
            case _Mode.BODY:
                return self._read_body()
            case _Mode.BODY_END:
                return self._read_body_end()
            case _Mode.LONG_LINE:
                self._skip_line()
            case _Mode.SKIPPED_BODY:
                self._skip_body()
        return None

    # -- lines ------------------------------------------------------------------

    def _read_line(self) -> Item | None:
        self._began_at = self._at
        post, end = self._plain_send(self._data, self._at)
        if post is not None and self.allows_send() and self._try_take(post):
            self._at = end
            return post
        end = self._data.find(b"\n", self._at)
        line = self._data[self._at : end if end >= 0 else None]
        if line.endswith(b"\r"):
            line = line[:-1]
        if len(line) > MAX_LINE_BYTES:
            self._mode = _Mode.LONG_LINE
            self._skip_line()
            words = f"a line has at most {MAX_LINE_BYTES} bytes"
            tag, _ = tag_of(line.decode(errors="replace"))
            return Refused(PeerError(ErrorCode.TOO_LARGE, words), tag)
        if end < 0:
            return None
        self._at = end + 1
        return self._understand(line) if line.strip(b" ") else None

    def _skip_line(self) -> None:
        end = self._data.find(b"\n", self._at)
        self._at = len(self._data) if end < 0 else end + 1
        if end >= 0:
            self._mode = _Mode.LINE

    def _understand(self, line: bytes) -> Item | None:
        tag = ""
        try:
            words = line.decode().lstrip(" ")
            if words.startswith("#"):
                tag, words = split_tag(words)
            return self._parse(words, tag)
        except UnicodeDecodeError:
            tag, words = tag_of(line.decode(errors="replace"))
            return Refused(usage(usage_of(words)), tag)
        except PeerError as error:
            return Refused(error, tag)

    def _parse(self, words: str, tag: str) -> Item | None:
        verb, rest = find(words)
        match = verb.pattern.fullmatch(rest) if verb else None
        if verb is None or match is None:
            raise usage(usage_of(words))
        if verb.has_payload:
            to, count = match.groups()
            return self._begin_body(verb, Post(to, b"", tag), int(count))
        self._check(verb)
        if verb.name == "SAY":
            to, text = match.groups()
            body = text.encode()
            self._check_size(len(body))
            return self._take(Post(to, body, tag))
        return Request(verb, match.groups(""), tag)

    # -- payloads ---------------------------------------------------------------

    def _begin_body(self, verb: Verb, post: Post, size: int) -> Post | None:
        """Start on a payload: the limit comes before the buffer."""
        try:
            self._check(verb)
            self._check_size(size)
        except PeerError:
            self._refuse_body(size)
            raise
        end = self._at + size
        if self._data[end : end + 2] == b"\r\n":
            post.body = self._data[self._at : end]
            self._at = end + 2
            return self._take(post)
        self._mode = _Mode.BODY if size else _Mode.BODY_END
        self._body_of = post
        self._body_left = size
        return None

    def _check_size(self, size: int) -> None:
        if size > self._max_message:
            words = f"a message has at most {self._max_message} bytes"
            raise PeerError(ErrorCode.TOO_LARGE, words)

    def _read_body(self) -> Item | None:
        chunk = self._data[self._at : self._at + self._body_left]
        if not self._budget.take(len(chunk)):
            tag = self.tag
            self._refuse_body(self._body_left)
            return Refused(_too_busy(), tag)
        self._body += chunk
        self._at += len(chunk)
        self._body_left -= len(chunk)
        if not self._body_left:
            self._mode = _Mode.BODY_END
        return None

    def _read_body_end(self) -> Item | None:
        post = self._body_of
        if self._data.startswith(b"\n", self._at):
            self._at += 1
        elif self._data.startswith(b"\r\n", self._at):
            self._at += 2
        elif self._data[self._at :] == b"\r":
            return None
        else:
            self.close()
            return Refused(usage(_SEND.usage), post.tag if post else "")
        self._mode = _Mode.LINE
        self._body_of = None
        if post is not None:
            # What `_read_body` took from the budget now belongs to the post.
            post.body = bytes(self._body)
            self._body = bytearray()
        return post

    def _refuse_body(self, size: int) -> None:
        """
        Get ready to read past a payload.

        Its bytes are not looked at: a payload must never be taken for
        requests, whoever wrote it.
        """
        self._drop_body()
        self._body_left = size
        self._mode = _Mode.SKIPPED_BODY if size else _Mode.BODY_END
        if size > self._max_message + MAX_SKIPPED_PAYLOAD_BYTES:
            self.close()

    def _skip_body(self) -> None:
        count = min(self._body_left, len(self._data) - self._at)
        self._at += count
        self._body_left -= count
        if not self._body_left:
            self._mode = _Mode.BODY_END

    def _drop_body(self) -> None:
        if self._body:
            self._budget.give_back(len(self._body))
            self._body = bytearray()
        self._body_of = None

    def _try_take(self, post: Post) -> bool:
        return self._budget.take(len(post.body))

    def _take(self, post: Post) -> Post:
        if not self._try_take(post):
            raise _too_busy()
        return post


def _too_busy() -> PeerError:
    return PeerError(ErrorCode.BUSY, "too much is being received; try again")
