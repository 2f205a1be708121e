"""Files' content within a conversation, without a network and without a clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, pairwise, repeat

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv import limits
from securerecv.errors import ErrorCode, MisuseError, PeerError
from securerecv.wire.budget import Share
from securerecv.wire.content import STRETCH_BYTES
from securerecv.wire.events import Chunk, Command, Posts
from securerecv.wire.lines import Answer
from securerecv.wire.session import Session, Terms
from securerecv.wire.verbs import Standing
from tests.support import allowance

TOTAL = 64 * 1024 * 1024
TERMS = Terms(1000, 5000, 7, anonymous=True, sealing_key=bytes(32))
SHA256 = "0" * 64
GO = Answer("go 1 0")


def enter(budget: Share | None = None) -> Session:
    """Make a session of a user; the greeting is taken."""
    session = Session(TERMS, budget or allowance(TOTAL), 0.0)
    session.standing = Standing.USER
    session.name = "bob"
    session.data_to_send()
    return session


def ask(session: Session, text: str | bytes, now: float = 0.0) -> Command:
    """Say something that one command comes of."""
    session.receive(text if isinstance(text, bytes) else text.encode(), now)
    event = session.next_event()
    assert isinstance(event, Command), event
    return event


def upload(session: Session, size: int, now: float = 0.0, behind: bytes = b"") -> None:
    """Ask to send a file, and let it begin."""
    put = ask(session, b"#u PUT bob %d %b x\n%b" % (size, b"0" * 64, behind), now)
    session.begin_upload(put, GO, size, now)
    assert hear(session) == "#u +OK go 1 0\n"


def download(session: Session, size: int) -> None:
    """Ask for a file, and let it begin."""
    get = ask(session, "#d GET 1\n")
    session.begin_download(get, Answer(f"{size} {SHA256} x"), size)
    assert hear(session) == f"#d +OK {size} {SHA256} x\n"


def chunk_of(session: Session) -> Chunk:
    """See to it that what comes next is content."""
    event = session.next_event()
    assert isinstance(event, Chunk), event
    return event


def hear(session: Session) -> str:
    """Take what the peer is to be sent."""
    return b"".join(session.data_to_send()).decode()


class UploadTests(SynchronousTestCase):
    """Content that comes in."""

    def test_uncopied(self) -> None:
        """What comes in one piece is handed on as that very piece."""
        session = enter()
        upload(session, 300)
        first, second = bytes(100), bytes(200)
        session.receive(first, 1.0)
        chunk = chunk_of(session)
        self.assertIs(chunk.data, first)
        self.assertFalse(chunk.is_last)
        session.next_chunk(1.0)
        session.receive(second, 1.0)
        chunk = chunk_of(session)
        self.assertIs(chunk.data, second)
        self.assertTrue(chunk.is_last)
        session.answer(chunk.command, Answer("received 1 clean"))
        self.assertEqual(hear(session), "#u +OK received 1 clean\n")
        self.assertTrue(session.wants_data)

    def test_one_chunk_at_a_time(self) -> None:
        """Nothing more is given, or read, until a chunk is done with."""
        session = enter()
        upload(session, 4)
        session.receive(b"ab", 1.0)
        self.assertEqual(chunk_of(session).data, b"ab")
        session.receive(b"cdPING\n", 1.0)
        self.assertIsNone(session.next_event())
        self.assertFalse(session.wants_data)
        session.next_chunk(1.0)
        self.assertTrue(session.wants_data)
        last = chunk_of(session)
        self.assertEqual(bytes(last.data), b"cd")
        self.assertTrue(last.is_last)
        session.next_chunk(1.0)
        self.assertIsNone(session.next_event())
        session.answer(last.command, PeerError(ErrorCode.MISMATCH, "differs"))
        self.assertIsNone(session.next_event())
        self.assertEqual(hear(session), "#u -ERR mismatch differs\n+OK pong\n")

    def test_right_behind_the_line(self) -> None:
        """Content may come in one go with the line, and requests behind it."""
        session = enter()
        upload(session, 5, behind=b"QUIT\nPING\n")
        chunk = chunk_of(session)
        self.assertEqual(bytes(chunk.data), b"QUIT\n")
        self.assertTrue(chunk.is_last)
        session.answer(chunk.command, Answer("received 1 scanning"))
        self.assertIsNone(session.next_event())
        self.assertEqual(hear(session), "#u +OK received 1 scanning\n+OK pong\n")

    def test_nothing_to_come(self) -> None:
        """A file that is empty, or there already, has one empty chunk."""
        session = enter()
        upload(session, 0, behind=b"PING\n")
        chunk = chunk_of(session)
        self.assertEqual((bytes(chunk.data), chunk.is_last), (b"", True))
        self.assertIsNone(session.next_event())
        session.answer(chunk.command, Answer("received 1 clean"))
        self.assertIsNone(session.next_event())
        self.assertEqual(hear(session), "#u +OK received 1 clean\n+OK pong\n")

    def test_refused(self) -> None:
        """What follows a PUT that is refused is read as requests."""
        session = enter()
        put = ask(session, f"PUT bob 5 {SHA256} x\nPING\n")
        session.answer(put, PeerError(ErrorCode.FULL, "no room"))
        self.assertIsNone(session.next_event())
        self.assertEqual(hear(session), "-ERR full no room\n+OK pong\n")

    def test_pushed_between_both_answers(self) -> None:
        """Who sends a file is told meanwhile of what comes in."""
        session = enter()
        upload(session, 2)
        session.push("MSG 1", b"x")
        self.assertEqual(hear(session), "! MSG 1\nx\r\n")

    def test_end_amid(self) -> None:
        """An upload that is cut off has no second answer, and nothing waits for it."""
        session = enter()
        upload(session, 2)
        session.receive(b"a", 0.0)
        chunk_of(session)
        session.close()
        self.assertTrue(session.finished)
        self.assertIsNone(session.next_event())
        session.next_chunk(1.0)
        self.assertFalse(session.wants_data)

    def test_end_before_the_last_answer(self) -> None:
        """Content that is all there is answered even when the conversation ends."""
        session = enter()
        upload(session, 1, behind=b"a")
        chunk = chunk_of(session)
        session.close()
        self.assertFalse(session.finished)
        session.answer(chunk.command, Answer("received 1 scanning"))
        self.assertTrue(session.finished)
        self.assertEqual(hear(session), "#u +OK received 1 scanning\n")

    def test_end_before_it_begins(self) -> None:
        """A conversation that is ending reads no content any more."""
        session = enter()
        put = ask(session, f"PUT bob 5 {SHA256} x\n")
        session.close()
        session.begin_upload(put, GO, 5, 0.0)
        self.assertTrue(session.finished)
        self.assertIsNone(session.next_event())


class PaceTests(SynchronousTestCase):
    """How slowly content may come."""

    def test_silence(self) -> None:
        """Who sends nothing is dropped at the limit, not before."""
        session = enter()
        upload(session, 10**9, now=1000)
        deadline = 1000 + limits.REQUEST_TIMEOUT_S
        self.assertEqual(session.deadline(), deadline)
        session.expire(deadline - 0.001)
        self.assertFalse(session.finished)
        session.expire(deadline)
        self.assertTrue(session.finished)
        self.assertTrue(hear(session).startswith("#u -ERR timeout "))
        self.assertFalse(session.wants_data)

    def test_quick_before(self) -> None:
        """A gigabyte in the first second earns no time for the rest."""
        session = enter()
        upload(session, 2 * 10**9)
        data = bytes(10**6)
        for _ in range(1000):
            session.receive(data, 1.0)
            chunk_of(session)
            session.next_chunk(1.0)
        self.assertEqual(session.deadline(), 1.0 + limits.REQUEST_TIMEOUT_S)

    def test_trickle(self) -> None:
        """A byte now and then is too slow; the least pace goes on for hours."""
        slow, steady = enter(), enter()
        upload(slow, 10**9)
        upload(steady, 10**9)
        for second in range(1, 7200):
            steady.receive(bytes(limits.MIN_PAYLOAD_BYTES_PER_S), second)
            chunk_of(steady)
            steady.next_chunk(second)
            deadline = steady.deadline()
            assert deadline is not None
            self.assertGreater(deadline, second)
            slow.receive(b"x", second)
            if slow.next_event() is not None:
                slow.next_chunk(second)
            slow.expire(second)
            self.assertEqual(slow.finished, second >= limits.REQUEST_TIMEOUT_S)

    def test_server_is_slow(self) -> None:
        """The time that a chunk takes here is not the peer's."""
        session = enter()
        upload(session, 10**9)
        session.receive(bytes(STRETCH_BYTES), 10.0)
        chunk_of(session)
        self.assertIsNone(session.deadline())
        session.expire(10_000)
        self.assertFalse(session.finished)
        session.next_chunk(10_000)
        self.assertEqual(session.deadline(), 10_000 + limits.REQUEST_TIMEOUT_S)
        session.receive(b"x", 10_030)
        chunk_of(session)
        session.next_chunk(10_040)
        self.assertEqual(session.deadline(), 10_010 + limits.REQUEST_TIMEOUT_S)


class DownloadTests(SynchronousTestCase):
    """Content that goes out."""

    def test_piece_by_piece(self) -> None:
        """Content follows its line as it is given; then the talk goes on."""
        session = enter()
        get = ask(session, "GET 1 2\nPING\n")
        session.begin_download(get, Answer(f"5 {SHA256} x"), 3)
        self.assertIsNone(session.next_event())
        self.assertFalse(session.wants_data)
        self.assertIsNone(session.deadline())
        self.assertTrue(session.is_amid_content)
        self.assertEqual(hear(session), f"+OK 5 {SHA256} x\n")
        session.send_content(b"cd", 0)
        self.assertEqual(hear(session), "cd")
        self.assertIsNone(session.next_event())
        session.send_content(b"e", 0)
        self.assertFalse(session.is_amid_content)
        self.assertIsNone(session.next_event())
        self.assertEqual(hear(session), "e+OK pong\n")
        self.assertTrue(session.wants_data)

    def test_uncopied(self) -> None:
        """A piece is sent as that very piece."""
        session = enter()
        download(session, 100)
        data = bytes(60)
        session.send_content(data, 0)
        [sent] = session.data_to_send()
        self.assertIs(sent, data)

    def test_empty(self) -> None:
        """Behind the line of an empty file the talk goes on at once."""
        session = enter()
        download(session, 0)
        self.assertFalse(session.is_amid_content)
        self.assertTrue(session.wants_data)

    def test_pushes_wait(self) -> None:
        """What comes in meanwhile is said behind the content, in its order."""
        budget = allowance(TOTAL)
        session = enter(budget)
        download(session, 4)
        session.send_content(b"ab", 0)
        self.assertTrue(session.push("MSG 1", b"x"))
        self.assertTrue(session.push("FILE 2"))
        self.assertEqual(budget.left, TOTAL - len("! MSG 1\nx\r\n! FILE 2\n"))
        self.assertEqual(hear(session), "ab")
        session.send_content(b"cd", 0)
        self.assertEqual(hear(session), "cd! MSG 1\nx\r\n! FILE 2\n")
        self.assertEqual(budget.left, TOTAL)

    def test_pushes_have_a_limit(self) -> None:
        """Too much to be said behind the content is refused, and counted till then."""
        budget = allowance(TOTAL)
        session = enter(budget)
        download(session, 4)
        count = 0
        while session.push("MSG 1", bytes(100_000)):
            count += 1
        self.assertEqual(count, limits.MAX_UNREAD_PUSH_BYTES // 100_010 + 1)
        session.close()
        self.assertEqual(budget.left, TOTAL)
        poor = enter(allowance(10))
        download(poor, 4)
        self.assertTrue(poor.push("A"))
        self.assertFalse(poor.push("BCDEFG"))

    def test_too_much(self) -> None:
        """No more is sent than was announced."""
        session = enter()
        download(session, 4)
        self.assertRaises(MisuseError, session.send_content, b"abcde", 0)
        session.send_content(b"abcd", 0)
        session.send_content(b"e", 0)
        self.assertEqual(hear(session), "abcd")

    def test_after_the_end(self) -> None:
        """Of a conversation that is over nothing more is sent, and none begins."""
        session = enter()
        download(session, 4)
        session.close()
        session.send_content(b"abcd", 0)
        self.assertEqual(hear(session), "")
        session = enter()
        get = ask(session, "GET 1\n")
        session.close()
        session.begin_download(get, Answer(f"4 {SHA256} x"), 4)
        self.assertTrue(hear(session).startswith("-ERR busy "))
        self.assertTrue(session.finished)


REQUESTS = st.sampled_from(
    [
        b"PING\n",
        b"#g GET 1\n",
        b"GET 1 3\n",
        b"FILES\n",
        b"FROB\n",
        b"SAY bob one\n",
        b"SEND bob 5\nQUIT\n\r\n",
    ]
)
CONTENTS = st.binary(max_size=40) | st.sampled_from([b"QUIT\n", b"\r\n", b"PING\n" * 9])
PUTS = CONTENTS.map(
    lambda content: b"#p PUT bob %d %b x\n%b" % (len(content), b"0" * 64, content)
)
STREAMS = st.lists(REQUESTS | PUTS, max_size=12).map(b"".join)
STORED = b"a\nb\r\n! MSG"


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut a stream into pieces."""
    inside = sorted(min(place, len(data)) for place in places)
    return [data[a:b] for a, b in pairwise([0, *inside, len(data)])]


def converse(pieces: list[bytes], sizes: Iterator[int]) -> tuple[list[bytes], bytes]:
    """
    Hold a whole conversation.

    Args:
        pieces: what the peer says.
        sizes: how much of a download is given at once, each time.

    Returns:
        What arrived, message or file, and what the peer heard.
    """
    session = enter()
    arrived: list[bytes] = []
    content = b""
    heard = b""
    for piece in pieces:
        session.receive(piece, 0)
        while True:
            event = session.next_event()
            if isinstance(event, Posts):
                arrived += [post.body for post in event.items]
                session.answer_posts(event, [b"\1"] * len(event.items), {})
            elif isinstance(event, Chunk):
                content += event.data
                session.next_chunk(0)
                if event.is_last:
                    arrived.append(content)
                    content = b""
                    session.answer(event.command, Answer(f"received {len(arrived)}"))
            elif isinstance(event, Command):
                _carry_out(session, event, sizes)
            elif data := session.data_to_send():
                heard += b"".join(data)
            else:
                break
    assert not content
    return arrived, heard


def _carry_out(session: Session, command: Command, sizes: Iterator[int]) -> None:
    arguments = command.request.arguments
    if command.request.verb.name == "PUT":
        session.begin_upload(command, GO, int(arguments[1]), 0)
    elif command.request.verb.name == "GET":
        rest = STORED[int(arguments[1] or 0) :]
        session.begin_download(command, Answer(f"{len(STORED)} y"), len(rest))
        while rest:
            size = next(sizes)
            session.push("FILE 1")
            session.send_content(rest[:size], 0)
            rest = rest[size:]
    else:
        session.answer(command, Answer())


class AnyStreamTests(SynchronousTestCase):
    """What holds for any conversation with files in it."""

    @given(STREAMS, st.lists(st.integers(0, 600), max_size=10))
    @settings(deadline=None)
    def test_cuts_change_nothing(self, data: bytes, places: list[int]) -> None:
        """However a stream is cut, the same files arrive and the same is heard."""
        whole = converse([data], repeat(100))
        assert converse(cut(data, places), repeat(100)) == whole
        single = [data[at : at + 1] for at in range(len(data))]
        assert converse(single, repeat(100)) == whole

    @given(
        st.lists(st.integers(0, len(STORED))), st.lists(st.integers(1, 9), max_size=30)
    )
    @settings(deadline=None)
    def test_pushes_stay_outside(self, offsets: list[int], sizes: list[int]) -> None:
        """However a download is cut, and whatever comes in, its content is whole."""
        data = b"".join(b"GET 1 %d\n" % offset for offset in offsets)
        _, heard = converse([data], chain(sizes, repeat(9)))
        for offset in offsets:
            answer = b"+OK %d y\n%b" % (len(STORED), STORED[offset:])
            assert heard.startswith(answer)
            heard = heard.removeprefix(answer)
            while heard.startswith(b"! FILE 1\n"):
                heard = heard.removeprefix(b"! FILE 1\n")
        assert not heard
