"""What a server says, understood by `securerecv.wire.replies`."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode, PeerError
from securerecv.settings import MAX_BOX_BYTES, MAX_MESSAGE_BYTES
from securerecv.wire import replies
from securerecv.wire.lines import Answer, Message, piece, refusal
from securerecv.wire.replies import (
    MAX_GREETING_LINES,
    MAX_REPLY_LINE_BYTES,
    Content,
    Event,
    Greeting,
    Limits,
    NotUnderstoodError,
    Pushed,
    Replied,
    Replies,
    message_of,
)
from securerecv.wire.session import Session, Terms
from tests.support import allowance

TERMS = Terms(1048576, 104857600, 5, True, bytes(32))
GREETING = TERMS.greeting()

words = st.text(
    st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20
).filter(lambda text: not text.startswith("MSG "))
tags = st.from_regex(r"(#[A-Za-z0-9]{1,16} )?", fullmatch=True)
messages = st.builds(
    Message,
    st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    st.sampled_from(["anon", "alice", "Zoë"]),
    st.integers(0, 4_000_000_000_000),
    st.binary(max_size=40),
)
items = st.one_of(
    words.map(lambda text: (text, None)),
    messages.map(lambda message: (message.line(), message.body)),
)
answers = st.builds(
    lambda text, lines: Answer(text, tuple(lines)), words, st.lists(items, max_size=4)
)
errors = st.builds(PeerError, st.sampled_from(ErrorCode), words)

# What is said, as bytes, and the event that it is.
said = st.one_of(
    st.tuples(tags, answers).map(
        lambda given: (
            b"".join(given[1].pieces(given[0])),
            repr(Replied(given[0].rstrip(), given[1])),
        )
    ),
    st.tuples(tags, errors).map(
        lambda given: (
            refusal(given[1], given[0]).encode(),
            repr(Replied(given[0].rstrip(), given[1])),
        )
    ),
    items.map(lambda item: (piece(f"! {item[0]}", item[1]), repr(Pushed(*item)))),
)


def understand(pieces: list[bytes]) -> tuple[list[Event], str]:
    """Give the events in a stream that comes in pieces, and what went wrong."""
    understood = Replies()
    events: list[Event] = []
    try:
        for piece in pieces:
            understood.receive(piece)
            while (event := understood.next_event()) is not None:
                events.append(event)
    except NotUnderstoodError as error:
        return events, str(error)
    return events, ""


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Cut a stream; places beyond its end count from its beginning again."""
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in pairwise(edges)]


class ContentTests(SynchronousTestCase):
    """Files that follow an answer."""

    @settings(deadline=None)
    @given(st.binary(max_size=60), st.lists(st.integers(0, 4000), max_size=12))
    def test_cuts(self, content: bytes, places: list[int]) -> None:
        """Content comes out whole, and what is behind it too, however it is cut."""
        stream = GREETING + b"#1 +OK\n" + content + b"#2 +OK\n! x\n"
        understood = Replies()
        heard = b""
        others: list[Event] = []
        for part in cut(stream, places):
            understood.receive(part)
            while (event := understood.next_event()) is not None:
                if isinstance(event, Content):
                    heard += event.data
                    continue
                others.append(event)
                if isinstance(event, Replied) and event.tag == "#1":
                    understood.expect_content(len(content))
        assert heard == content
        assert [repr(event) for event in others[1:]] == [
            repr(Replied("#1", Answer())),
            repr(Replied("#2", Answer())),
            repr(Pushed("x")),
        ]

    def test_uncopied(self) -> None:
        """What comes in one piece is given as a view of that very piece."""
        understood = Replies()
        understood.receive(GREETING)
        understood.next_event()
        understood.expect_content(2000)
        data = bytes(1000)
        understood.receive(data)
        event = understood.next_event()
        assert isinstance(event, Content)
        assert isinstance(event.data, memoryview)
        self.assertIs(event.data.obj, data)


class StreamTests(SynchronousTestCase):
    """Streams of many things that are said."""

    @settings(deadline=None)
    @given(st.lists(said, max_size=6), st.lists(st.integers(0, 4000), max_size=12))
    def test_cuts(self, things: list[tuple[bytes, str]], places: list[int]) -> None:
        """What was said comes out, however the stream is cut."""
        stream = GREETING + b"".join(data for data, _ in things)
        events, wrong = understand(cut(stream, places))
        assert not wrong
        assert isinstance(events[0], Greeting)
        assert [repr(event) for event in events[1:]] == [text for _, text in things]

    @settings(deadline=None)
    @given(st.lists(said, max_size=4))
    def test_byte_by_byte(self, things: list[tuple[bytes, str]]) -> None:
        """What was said comes out when every byte comes alone."""
        stream = GREETING + b"".join(data for data, _ in things)
        events, _ = understand([bytes([byte]) for byte in stream])
        assert [repr(event) for event in events[1:]] == [text for _, text in things]

    @settings(deadline=None)
    @given(
        st.booleans(),
        st.lists(
            st.one_of(
                st.binary(max_size=20),
                st.sampled_from(
                    [b"* ", b"! ", b"+OK ", b"-ERR ", b"#1 ", b"MSG a b c 2\n", b"\n"]
                ),
            ),
            max_size=12,
        ),
        st.lists(st.integers(0, 300), max_size=5),
    )
    def test_junk(self, greeted: bool, parts: list[bytes], places: list[int]) -> None:
        """Junk is refused as such, at the same place however it is cut."""
        stream = (GREETING if greeted else b"") + b"".join(parts)
        whole = understand([stream])
        pieces = understand(cut(stream, places))
        assert repr(whole) == repr(pieces)


class AnswerTests(SynchronousTestCase):
    """What single answers and greetings mean."""

    def test_greeting(self) -> None:
        """The greeting gives the notice and the server's limits."""
        ((greeting,), _) = understand([GREETING])
        assert isinstance(greeting, Greeting)
        self.assertEqual(greeting.limits, Limits(1048576, 104857600, 5, True))
        self.assertIn("legal use only", greeting.notice)

    def test_later_greeting(self) -> None:
        """A greeting with lines and limits of a later version is understood."""
        later = (
            b"* securerecv/1\r\n\r\n* NEWS yes\r\n"
            b"* LIMITS file=2 more=9 message=1 x anonymous=no keep=3\r\n* HINT .\r\n"
        )
        self.assertEqual(
            understand([later]), ([Greeting("", Limits(1, 2, 3, False))], "")
        )

    def test_refused_at_the_door(self) -> None:
        """A server that lets nobody in says so instead of greeting."""
        ((reply,), _) = understand([b"-ERR busy come later\n"])
        self.assertEqual(
            repr(reply), repr(Replied("", PeerError(ErrorCode.BUSY, "come later")))
        )

    def test_unknown_code(self) -> None:
        """An error code of a later version stays readable."""
        (_, reply), _ = understand([GREETING, b"#7 -ERR asleep until nine\n"])
        assert isinstance(reply, Replied)
        assert isinstance(reply.result, PeerError)
        self.assertIs(reply.result.code, ErrorCode.INTERNAL)
        self.assertEqual(reply.result.words, "asleep until nine")

    def test_real_session(self) -> None:
        """Whatever the server's own session says is understood."""
        session = Session(TERMS, allowance(1000), 0.0)
        session.receive(
            b"#a PING\nHELP\n#b HELP LOGIN\nNOTICE\n#c WHOAMI\nKEY\nLAST\nnonsense\n"
            b"#\xff\nSEND x 99999999\n",
            0.0,
        )
        self.assertIsNone(session.next_event())
        events, wrong = understand(session.data_to_send())
        self.assertEqual(wrong, "")
        assert all(isinstance(event, Replied) for event in events[1:])
        tags = [event.tag for event in events[1:] if isinstance(event, Replied)]
        self.assertEqual(tags, ["#a", "", "#b", "", "#c", "", "", "", "", ""])

    def test_message(self) -> None:
        """A line and its payload make the message that was sent, time and all."""
        message = Message("00ff", "alice", 1_790_000_000_123, b"\0\n")
        self.assertEqual(message_of(message.line(), message.body), message)

    def test_no_message(self) -> None:
        """Lines that are no messages, or have no real time, are refused."""
        for text, body in [
            ("NOTICE", b""),
            ("MSG 1 a 2026-13-01T00:00:00Z 0", b""),
            ("MSG 1 a 20260101T000000Z 0", b""),
            ("MSG 1 a 2026-01-01T00:00:00+01:00 0", b""),
            ("MSG 1 a 0001-01-01T00:00:00Z 0", b""),
            ("MSG 1 a 9999-12-31T23:59:59Z 0", b""),
        ]:
            self.assertRaises(NotUnderstoodError, message_of, text, body)


class HostileTests(SynchronousTestCase):
    """Servers that do not keep to the protocol, or want this end's memory."""

    def check_refused(self, data: bytes, words: str, *, greeted: bool = True) -> None:
        """See that a stream is refused with words that name what is wrong."""
        events, wrong = understand([GREETING if greeted else b"", data])
        self.assertIn(words, wrong)
        self.assertEqual(len(events), int(greeted))

    def test_no_greeting(self) -> None:
        """A server of another kind is recognised."""
        for data, what in [
            (b"SSH-2.0-OpenSSH_9.9\r\n", "no mark"),
            (b"+OK POP3 ready\r\n", "no greeting"),
            (b"* OK IMAP4rev1\r\n", "no securerecv/1"),
            (b"* securerecv/2 ready\r\n", "no securerecv/1"),
            (b"* securerecv/1 ready\n* HINT x\n", "limits"),
            (b"* securerecv/1 ready\n* LIMITS message=x\n* HINT x\n", "limits"),
            (b"* securerecv/1\n" + b"* x\n" * MAX_GREETING_LINES, "does not end"),
            (b"#1 -ERR busy\n", "no greeting"),
        ]:
            self.check_refused(data, what, greeted=False)

    def test_wrong_lines(self) -> None:
        """Lines that the protocol does not have are refused."""
        for data, what in [
            (b"hello\n", "no mark"),
            (b"#1\n", "no mark"),
            (b"#12345678901234567 +OK\n", "no mark"),
            (b"* \xff\n", "UTF-8"),
            (b"#1 * one\n#2 +OK\n", "mixed"),
            (b"* MSG 1 a b\n", "announced"),
            (b"! MSG 1 a b -2\n", "announced"),
            (b"! MSG 1 a b 2\nabc\n", "line end"),
        ]:
            self.check_refused(data, what)

    def test_endless_line(self) -> None:
        """A line without an end is given up at the limit, not before."""
        line = b"* " + b"x" * (MAX_REPLY_LINE_BYTES - 2)
        self.assertEqual(understand([GREETING, line, b"\n+OK\n"])[1], "")
        self.check_refused(line + b"x", "does not end")
        self.check_refused(line + b"x\n", "does not end")

    def test_large_payload(self) -> None:
        """A payload that no server may keep is refused before it is awaited."""
        line = b"! MSG 1 a b %d\n"
        self.assertEqual(understand([GREETING, line % MAX_MESSAGE_BYTES])[1], "")
        self.check_refused(line % (MAX_MESSAGE_BYTES + 1), "no message")

    def test_endless_answer(self) -> None:
        """An answer of more lines or bytes than the limit is given up."""
        self.patch(replies, "MAX_ANSWER_LINES", 3)
        self.assertEqual(understand([GREETING, b"* x\n" * 3 + b"+OK\n"])[1], "")
        self.check_refused(b"* x\n" * 4, "too long")
        # The largest box that a server may have is no such answer.
        self.assertEqual(replies.MAX_ANSWER_BYTES, MAX_BOX_BYTES)
        self.patch(replies, "MAX_ANSWER_BYTES", 10)
        self.check_refused(b"* 12345\n* 123456\n", "too long")
        # Before the payload is there.
        self.check_refused(b"* MSG 1 a b 6\n123456\r\n* MSG 2 a b 5\n", "too long")
