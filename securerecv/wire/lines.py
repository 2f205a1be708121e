"""
The form of lines: answers and pushes as bytes, ``docs/protocol.md`` section 3.

An answer is any number of ``* …`` lines, each perhaps with a payload, and one
``+OK …`` or ``-ERR …`` line at the end.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from attrs import define, field, frozen

from securerecv.errors import ErrorCode, PeerError

NOTICE = (
    "This service is for legal use only: obey the laws that apply to you,"
    " and send nothing that you may not send."
)


@define
class Message:
    """
    One message, opened.  Not frozen, because frozen ones take longer to make.

    Attributes:
        id: 16 hexadecimal digits.
        sender: a user name, or ``anon``.
        when_ms: when it came in, milliseconds since 1970, the server's clock.
        body: the text or bytes that were sent.
    """

    id: str
    sender: str
    when_ms: int
    body: bytes = field(repr=False)

    def line(self) -> str:
        """Give the ``MSG`` line that announces the body."""
        when = rfc3339(self.when_ms)
        return f"MSG {self.id} {self.sender} {when} {len(self.body)}"


@define
class Post:
    """A message that the peer wants delivered (``SAY`` or ``SEND``)."""

    to: str
    body: bytes = field(repr=False)
    tag: str


@frozen
class Answer:
    """
    What a request is answered with.

    Attributes:
        words: what follows ``+OK``; may be empty.
        lines: the ``* …`` lines before it, each with its payload or None.
    """

    words: str = ""
    lines: tuple[tuple[str, bytes | None], ...] = ()

    def pieces(self, tag: str, room: int | None = None) -> list[bytes]:
        """
        Give the lines of the whole answer, each behind the tag.

        Args:
            tag: the tag and a blank, or nothing.
            room: the most bytes that a line may have together with its
                payload; a longer payload is left out.  None for no limit.
        """
        final = f"{tag}+OK {self.words}\n" if self.words else f"{tag}+OK\n"
        pieces = [piece(f"{tag}* {text}", load, room) for text, load in self.lines]
        pieces.append(final.encode())
        return pieces


def information(texts: Iterable[str], words: str = "") -> Answer:
    """Make an answer of ``* …`` lines without payloads."""
    return Answer(words, tuple((text, None) for text in texts))


def refusal(error: PeerError, tag: str = "") -> str:
    """Give the ``-ERR`` line for an error that the peer is told of."""
    return f"{tag}-ERR {error.code.value} {error.words}\n"


def usage(words: str) -> PeerError:
    """Make the error for a request that cannot be understood."""
    return PeerError(ErrorCode.USAGE, words)


def piece(text: str, payload: bytes | None, room: int | None = None) -> bytes:
    """Write one line, and its payload behind it unless that has no room."""
    line = text.encode() + b"\n"
    if payload is None or (room is not None and len(line) + len(payload) + 2 > room):
        return line
    return b"%b%b\r\n" % (line, payload)


def rfc3339(when_ms: int) -> str:
    """Write a time, milliseconds since 1970, as RFC 3339 in UTC."""
    seconds, milliseconds = divmod(when_ms, 1000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"
