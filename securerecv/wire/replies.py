"""
The conversation, seen from the client: bytes in, what the server said out.

A `Replies` has no socket, clock or thread: give it bytes with `receive`, then
ask `next_event` until it has nothing more.  ``docs/protocol.md`` section 3.

The server is not trusted with this end's memory: a line, a payload and an
answer as a whole each have a limit that is checked before they are awaited.
"""

import re
from collections.abc import Sequence
from datetime import MAXYEAR, MINYEAR, UTC, datetime

from attrs import define, field, frozen

from securerecv.errors import ErrorCode, PeerError, SecurerecvError
from securerecv.limits import MAX_LINE_BYTES, MAX_TAG_CHARACTERS
from securerecv.settings import MAX_BOX_BYTES, MAX_MESSAGE_BYTES
from securerecv.wire.lines import Answer, Message

MAX_REPLY_LINE_BYTES = 2 * MAX_LINE_BYTES
"""A line that repeats what a request line said, and more, fits into this."""

MAX_ANSWER_LINES = 16384
MAX_ANSWER_BYTES = MAX_BOX_BYTES
"""All lines and payloads of one answer together: a whole box is let in."""

MAX_GREETING_LINES = 64

_TAGGED = re.compile(rf"(#[A-Za-z0-9]{{1,{MAX_TAG_CHARACTERS}}}) ([*+-].*)", re.DOTALL)
_MESSAGE = re.compile(r"MSG ([^ ]+) ([^ ]+) ([^ ]+) ([0-9]{1,18})")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z"
)
_SOME_LIMIT = re.compile(r"[0-9]{1,18}")


class NotUnderstoodError(SecurerecvError):
    """The server said what the protocol does not allow; hang up."""


@frozen
class Limits:
    """
    What the server says it takes.

    Attributes:
        message: bytes of the largest message.
        file: bytes of the largest file.
        keep: messages that a box keeps.
        anonymous: whether ``ANON`` is let in.
    """

    message: int
    file: int
    keep: int
    anonymous: bool


@frozen
class Greeting:
    """
    The lines that open every conversation.

    Attributes:
        notice: the legal notice, one line.
        limits: what the server takes.
    """

    notice: str
    limits: Limits


@frozen
class Replied:
    """
    One request is answered.

    Attributes:
        tag: the request's tag with its ``#``, or nothing.
        result: the answer, or what the server says is wrong.
    """

    tag: str
    result: Answer | PeerError


@frozen
class Pushed:
    """
    The server says something on its own, a ``! …`` line.

    Attributes:
        text: what follows ``!`` and a blank.
        payload: what follows the line, or None.
    """

    text: str
    payload: bytes | None = field(default=None, repr=False)


@frozen
class Content:
    """
    Bytes of a file that follow an answer.

    Attributes:
        data: they, uncopied where that is possible.
    """

    data: bytes | memoryview = field(repr=False)


Event = Greeting | Replied | Pushed | Content


@define
class _Open:
    """An answer, or the greeting, that has begun and not ended."""

    tag: str
    lines: list[tuple[str, bytes | None]] = field(factory=list)
    size: int = 0


class Replies:
    """Understands what one server says in one conversation."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._greeted = False
        self._answer: _Open | None = None
        self._announced: tuple[str, str, str] | None = None
        self._payload_bytes = 0
        self._content_left = 0
        self._content = b""

    def receive(self, data: bytes) -> None:
        """Take bytes from the server; `next_event` says what they mean."""
        if self._content_left and not self._data and not self._content:
            self._content = data
        else:
            self._data += data

    def expect_content(self, size: int) -> None:
        """Take so many bytes for content: they follow the answer that came last."""
        self._content_left = size

    def next_event(self) -> Event | None:
        """
        Give the next thing that the server has said, or None for now.

        Raises:
            NotUnderstoodError: the server's fault.  Nothing that follows can
                be understood either.
        """
        if self._content_left:
            return self._take_content()
        while True:
            if self._announced is not None:
                payload = self._take_payload()
                if payload is None:
                    return None
                tag, mark, text = self._announced
                self._announced = None
            else:
                line = self._take_line()
                if line is None:
                    return None
                if not line:
                    continue
                tag, mark, text = split_mark(line)
                payload = None
                if self._payload_follows(tag, mark, text):
                    continue
            event = self._understand(tag, mark, text, payload)
            if event is not None:
                return event

    # -- taking bytes -----------------------------------------------------------

    def _take_line(self) -> str | None:
        end = self._data.find(b"\n", 0, MAX_REPLY_LINE_BYTES + 1)
        if end < 0:
            if len(self._data) > MAX_REPLY_LINE_BYTES:
                raise NotUnderstoodError("the server's line does not end")
            return None
        line = bytes(self._data[:end]).removesuffix(b"\r")
        del self._data[: end + 1]
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise NotUnderstoodError("the server's line is not UTF-8") from None

    def _take_content(self) -> Content | None:
        """Take what has come of a file; behind it something else may stand."""
        data = self._content or self._data
        if not data:
            return None
        count = min(self._content_left, len(data))
        self._content_left -= count
        if data is self._data:
            taken = bytes(memoryview(data)[:count])
            del self._data[:count]
            return Content(taken)
        whole, self._content = self._content, b""
        self._data[:0] = whole[count:]
        return Content(memoryview(whole)[:count])

    def _payload_follows(self, tag: str, mark: str, text: str) -> bool:
        """Note that a payload follows a line, if one does."""
        if mark not in ("*", "!") or not text.startswith("MSG "):
            return False
        size = announced_bytes(text)
        # Not the limit of the greeting: a box may keep larger messages from
        # before that limit was lowered.
        if size > MAX_MESSAGE_BYTES:
            raise NotUnderstoodError(
                f"the server announced {size} bytes; no message is that large"
            )
        if mark == "*":
            self._count(tag, size)
        self._announced = (tag, mark, text)
        self._payload_bytes = size
        return True

    def _take_payload(self) -> bytes | None:
        size = self._payload_bytes
        if len(self._data) < size + 2:
            return None
        if self._data[size : size + 2] != b"\r\n":
            raise NotUnderstoodError("the server's payload has no line end behind it")
        payload = bytes(self._data[:size])
        del self._data[: size + 2]
        return payload

    # -- understanding lines -------------------------------------------------------

    def _understand(
        self, tag: str, mark: str, text: str, payload: bytes | None
    ) -> Event | None:
        if not self._greeted:
            return self._greet(tag, mark, text)
        match mark:
            case "!":
                return Pushed(text, payload)
            case "*":
                if payload is None:
                    self._count(tag, len(text))
                self._begun(tag).lines.append((text, payload))
                return None
            case "+OK":
                lines = self._begun(tag).lines
                self._answer = None
                return Replied(tag, Answer(text, tuple(lines)))
            case _:
                self._answer = None
                return Replied(tag, error_of(text))

    def _begun(self, tag: str) -> _Open:
        """Give the answer that a line with this tag belongs to."""
        if self._answer is None:
            self._answer = _Open(tag)
        if self._answer.tag != tag:
            raise NotUnderstoodError("the server mixed two answers")
        return self._answer

    def _count(self, tag: str, size: int) -> None:
        answer = self._begun(tag)
        answer.size += size
        if answer.size > MAX_ANSWER_BYTES or len(answer.lines) >= MAX_ANSWER_LINES:
            raise NotUnderstoodError("the server's answer is too long; ask for less")

    def _greet(self, tag: str, mark: str, text: str) -> Event | None:
        if mark == "-ERR" and not tag:
            return Replied(tag, error_of(text))
        if mark != "*" or tag:
            raise NotUnderstoodError("this is no securerecv server: no greeting")
        lines = self._begun(tag).lines
        if not lines and not f"{text} ".startswith("securerecv/1 "):
            raise NotUnderstoodError("this is no securerecv/1 server")
        if len(lines) >= MAX_GREETING_LINES:
            raise NotUnderstoodError("the server's greeting does not end")
        lines.append((text, None))
        if not text.startswith("HINT "):
            return None
        self._greeted = True
        self._answer = None
        return greeting_of([line for line, _ in lines])


@define
class LargeMessage(Message):
    """
    A message that was announced without its body, which no datagram can hold.

    Attributes:
        body: nothing.
        size: bytes of the body.
    """

    size: int


def announced_bytes(text: str) -> int:
    """
    Give the size of the payload that a ``MSG …`` line, without its mark, announces.

    Raises:
        NotUnderstoodError: it is no such line.
    """
    match = _MESSAGE.fullmatch(text)
    if match is None:
        raise NotUnderstoodError("the server announced a message wrongly")
    return int(match[4])


def message_of(text: str, body: bytes | None) -> Message:
    """
    Read a ``MSG …`` line, without its mark, and its payload.

    Returns:
        A message; without a payload, a `LargeMessage`.

    Raises:
        NotUnderstoodError: it is no message.
    """
    match = _MESSAGE.fullmatch(text)
    if match is None:
        raise NotUnderstoodError("the server sent something else than a message")
    when_ms = milliseconds_of(match[3])
    if body is None:
        return LargeMessage(match[1], match[2], when_ms, b"", int(match[4]))
    return Message(match[1], match[2], when_ms, body)


def milliseconds_of(when: str) -> int:
    """
    Read a time, RFC 3339 in UTC, as milliseconds since 1970.

    Raises:
        NotUnderstoodError: it is none.
    """
    try:
        moment = datetime.fromisoformat(when) if _MOMENT.fullmatch(when) else None
    except ValueError:
        moment = None
    # A time near the ends of what `datetime` can do has no local form everywhere.
    if moment is None or not MINYEAR + 1 < moment.year < MAXYEAR:
        raise NotUnderstoodError("the server wrote a time wrongly")
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def split_mark(line: str) -> tuple[str, str, str]:
    """
    Split a line into tag, mark (``* ! +OK -ERR``) and text.

    Raises:
        NotUnderstoodError: it has no mark.
    """
    tag = ""
    if line.startswith("#"):
        match = _TAGGED.fullmatch(line)
        if match is None:
            raise NotUnderstoodError("the server's line has no mark")
        tag, line = match.groups()
    mark, _, text = line.partition(" ")
    if mark not in ("*", "!", "+OK", "-ERR"):
        raise NotUnderstoodError("the server's line has no mark")
    return tag, mark, text


def error_of(text: str) -> PeerError:
    """
    Read what follows ``-ERR``.

    A code that this client does not know counts as `ErrorCode.INTERNAL`, and
    stays readable in the words.
    """
    code, _, words = text.partition(" ")
    try:
        return PeerError(ErrorCode(code), words)
    except ValueError:
        return PeerError(ErrorCode.INTERNAL, text)


def greeting_of(lines: Sequence[str]) -> Greeting:
    """
    Read the lines of a greeting, without their marks.

    Raises:
        NotUnderstoodError: they say no limits.
    """
    notice = ""
    limits: Limits | None = None
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "NOTICE":
            notice = rest
        elif word == "LIMITS":
            limits = _limits(rest)
    if limits is None:
        raise NotUnderstoodError("the server does not say its limits")
    return Greeting(notice, limits)


def _limits(text: str) -> Limits:
    given = dict(word.partition("=")[::2] for word in text.split())
    numbers = [given.get(name, "") for name in ("message", "file", "keep")]
    anonymous = given.get("anonymous")
    if not all(map(_SOME_LIMIT.fullmatch, numbers)) or anonymous not in ("yes", "no"):
        raise NotUnderstoodError("the server wrote its limits wrongly")
    message, file, keep = map(int, numbers)
    return Limits(message, file, keep, anonymous == "yes")
