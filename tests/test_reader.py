"""Requests out of bytes: lines, tags, payloads, however the stream is cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode, PeerError
from securerecv.limits import MAX_LINE_BYTES, MAX_SKIPPED_PAYLOAD_BYTES
from securerecv.wire.budget import Budget, Share
from securerecv.wire.lines import Post
from securerecv.wire.reader import Item, Reader, Refused, Request
from securerecv.wire.verbs import VERBS, Verb
from tests.support import allowance

LIMIT = 200
TOTAL = 100_000
PING = Request(VERBS["PING"], (), "")


def _anybody(_: Verb) -> None:
    """Let everybody use every verb."""


def _nobody(verb: Verb) -> None:
    """Refuse a message, whoever sends it."""
    if verb.name == "SEND":
        raise PeerError(ErrorCode.LOGIN_FIRST, "not you")


def make(budget: Share | None = None, limit: int = LIMIT) -> Reader:
    """Make a reader for somebody who may use every verb."""
    return Reader(limit, budget or allowance(TOTAL), _anybody)


def read(reader: Reader, *pieces: bytes, many: int = 1000) -> list[Item]:
    """
    Feed pieces one after the other, until the framing breaks.

    Args:
        reader: what is fed.
        *pieces: what with.
        many: how many messages it is asked for at once; 0 for one by one.
    """
    items: list[Item] = []
    for piece in pieces:
        if reader.broken:
            break
        reader.feed(piece)
        while True:
            posts, _ = reader.posts(many, TOTAL) if many else ([], 0)
            items += posts
            item = None if posts else reader.next()
            if item is not None:
                items.append(item)
            elif not posts:
                break
    return items


def plain(items: Sequence[Item]) -> list[object]:
    """Give items in a form that can be compared; errors have no equality."""
    return [
        (item.error.code, item.error.words, item.tag)
        if isinstance(item, Refused)
        else item
        for item in items
    ]


def code_of(item: Item) -> ErrorCode:
    """Give the code of a refusal."""
    assert isinstance(item, Refused), item
    return item.error.code


def held(reader: Reader) -> int:
    """Count the bytes that a reader keeps."""
    return len(reader._data) - reader._at + len(reader._body)


def every_cut(data: bytes) -> list[list[bytes]]:
    """Give a stream whole, byte by byte, and in two pieces at each place."""
    single = [data[at : at + 1] for at in range(len(data))]
    return [[data], single, *([data[:at], data[at:]] for at in range(1, len(data)))]


FRAGMENTS = (
    b"PING\n",
    b"ping\r\n",
    b"\n",
    b"\r\n",
    b"\r",
    b"#a1 SAY bob hello\n",
    b"#! PING\n",
    b"FROB\n",
    b"SAY bob\n",
    b"SAY bob \xff\n",
    b"SEND bob 0\n\r\n",
    b"SEND bob 1\n\n\n",
    b"#t SEND bob 5\nQUIT\n\r\n",
    b"SEND bob 201\n" + b"QUIT\n" * 40 + b"x\r\n",
    b"SEND bob 3\n",
    b"SEND bob 3\nQUI\r\n",
    b"send Bob  3\r\nQUI\r\n",
    b"SEND anon-x 0\n\r\n",
    b"SEND bob x\n",
    b"SEND bob 99999999999999\n",
    b"x" * MAX_LINE_BYTES,
    b"x" * (MAX_LINE_BYTES + 1),
    b"#t ",
)
STREAMS = st.lists(
    st.sampled_from(FRAGMENTS) | st.binary(max_size=20), max_size=12
).map(b"".join)
JUNK_LINES = st.binary(max_size=30).filter(lambda junk: b"SEND" not in junk.upper())


@st.composite
def cut_streams(draw: st.DrawFn) -> list[bytes]:
    """Make a stream and cut it at random places."""
    data = draw(STREAMS)
    places = draw(st.lists(st.integers(0, len(data)), max_size=8))
    return [data[a:b] for a, b in pairwise([0, *sorted(places), len(data)])]


class CuttingTests(SynchronousTestCase):
    """What holds for any stream."""

    @given(cut_streams())
    @settings(deadline=None)
    def test_cuts_change_nothing(self, pieces: list[bytes]) -> None:
        """The same bytes are the same requests, whole, in pieces and one by one."""
        data = b"".join(pieces)
        whole = plain(read(make(), data))
        assert plain(read(make(), *pieces)) == whole
        assert plain(read(make(), *pieces, many=0)) == whole
        assert plain(read(make(), data, many=2)) == whole
        if len(data) < 600:
            single = [data[at : at + 1] for at in range(len(data))]
            assert plain(read(make(), *single)) == whole

    @given(cut_streams())
    @settings(deadline=None)
    def test_limits_hold(self, pieces: list[bytes]) -> None:
        """Nothing makes a reader raise, keep too much, or lose its budget."""
        budget = allowance(TOTAL)
        reader = make(budget)
        taken = 0
        for piece in pieces:
            for item in read(reader, piece):
                taken += len(item.body) if isinstance(item, Post) else 0
            assert held(reader) <= MAX_LINE_BYTES + 1
            assert budget.left == TOTAL - taken - len(reader._body)
        reader.close()
        assert held(reader) == 0
        assert budget.left == TOTAL - taken

    @given(st.lists(JUNK_LINES, max_size=10))
    @settings(deadline=None)
    def test_recovery(self, junk: list[bytes]) -> None:
        """Behind any junk, a line end makes requests understood again."""
        items = read(make(), *junk, b"\nPING\n")
        assert items[-1] == PING


class LineTests(SynchronousTestCase):
    """Where a request line ends, and how long it may be."""

    def test_limit(self) -> None:
        """A line may have `MAX_LINE_BYTES` without its end, and not one more."""
        for size in (MAX_LINE_BYTES - 1, MAX_LINE_BYTES, MAX_LINE_BYTES + 1):
            for end in (b"\n", b"\r\n"):
                line = b"SAY bob ".ljust(size, b"x")
                data = line + end + b"PING\n"
                single = [data[at : at + 1] for at in range(len(data))]
                for pieces in ([data], single, [line, end, b"PING\n"]):
                    first, second = read(make(limit=MAX_LINE_BYTES), *pieces)
                    if size > MAX_LINE_BYTES:
                        self.assertIs(code_of(first), ErrorCode.TOO_LARGE)
                    else:
                        self.assertEqual(first, Post("bob", line[8:], ""))
                    self.assertEqual(second, PING)

    def test_say_is_a_message_too(self) -> None:
        """What is said has the limit of what is sent, in bytes of UTF-8."""
        text = "ü" * (LIMIT // 2)
        fits, over = read(make(), f"SAY bob {text}\n#t SAY bob {text}x\n".encode())
        self.assertEqual(fits, Post("bob", text.encode(), ""))
        self.assertIs(code_of(over), ErrorCode.TOO_LARGE)
        self.assertEqual(over.tag, "#t ")

    def test_long_line_is_not_kept(self) -> None:
        """A line without end is refused once, and its bytes are let go."""
        reader = make()
        items = read(reader, *[b"x" * 10_000] * 100)
        self.assertEqual([code_of(item) for item in items], [ErrorCode.TOO_LARGE])
        self.assertEqual(held(reader), 0)
        self.assertTrue(reader.is_amid_request)
        self.assertEqual(read(reader, b"PING\nPING\n"), [PING])

    def test_empty_lines(self) -> None:
        """Empty lines are ignored, also a hundred thousand of them."""
        reader = make()
        self.assertEqual(read(reader, b"\n\r\n" * 50_000 + b"PING\n"), [PING])
        self.assertFalse(reader.is_amid_request)

    def test_carriage_return_inside(self) -> None:
        """Only one carriage return, right before the line end, belongs to it."""
        self.assertEqual(
            read(make(), b"SAY bob a\rb\r\r\n"), [Post("bob", b"a\rb\r", "")]
        )

    def test_half_a_line(self) -> None:
        """A line without its end is no request yet."""
        reader = make()
        self.assertEqual(read(reader, b"PING"), [])
        self.assertTrue(reader.is_amid_request)
        self.assertEqual(read(reader, b"\n"), [PING])
        self.assertFalse(reader.is_amid_request)

    def test_not_utf8(self) -> None:
        """A line that is no UTF-8 is answered with its verb's usage."""
        [item] = read(make(), b"SAY bob \xff\n")
        self.assertEqual(
            plain([item]), [(ErrorCode.USAGE, "SAY <to> <text to end of line>", "")]
        )

    def test_text_as_it_was_typed(self) -> None:
        """Behind one blank, text and passwords are taken with all their blanks."""
        for line, expected in (
            ("SAY bob  two  blanks ", " two  blanks "),
            ("SAY   bob x", "x"),
            ("SAY bob  ", " "),
            ("SAY bob ünï", "ünï"),
        ):
            [item] = read(make(), f"{line}\n".encode())
            self.assertEqual(item, Post("bob", expected.encode(), ""))
        [item] = read(make(), b"LOGIN bob  pass word \n")
        self.assertEqual(item, Request(VERBS["LOGIN"], ("bob", " pass word "), ""))


class TagTests(SynchronousTestCase):
    """The mark in front of a request."""

    def test_good(self) -> None:
        """One to sixteen letters and digits mark a request and its refusals."""
        for tag in ("#a", "#Z", "#0", "#" + "aZ09" * 4):
            items = read(make(), f"{tag} PING\n{tag}   PING\n{tag} FROB\n".encode())
            self.assertEqual([item.tag for item in items], [f"{tag} "] * 3)
            self.assertEqual(items[:2], [Request(VERBS["PING"], (), f"{tag} ")] * 2)
            self.assertIs(code_of(items[2]), ErrorCode.USAGE)

    def test_bad(self) -> None:
        """What is no tag makes the request be refused, without one."""
        for line, words in (
            (f"#{'a' * 17} PING", "PING"),
            ("# PING", "PING"),
            ("#a! LAST 1", "LAST [n]"),
            ("#ä PING", "PING"),
            ("##a PING", "PING"),
            ("#a\tPING", "HELP lists every command"),
        ):
            items = read(make(), f"{line}\n".encode())
            self.assertEqual(plain(items), [(ErrorCode.USAGE, words, "")], line)
        for tag in ("#a", "#aPING"):
            [item] = plain(read(make(), f"{tag}\n".encode()))
            words = "HELP lists every command"
            self.assertEqual(item, (ErrorCode.USAGE, words, f"{tag} "))

    def test_not_understood(self) -> None:
        """Lines that are too long or no UTF-8 are refused under their tag, too."""
        data = b"#t " + b"x" * MAX_LINE_BYTES + b"\n#u LAST \xff\nPING\n"
        usage = (ErrorCode.USAGE, "LAST [n]", "#u ")
        single = [data[at : at + 1] for at in range(len(data))]
        for pieces in ([data], [data[:MAX_LINE_BYTES], data[MAX_LINE_BYTES:]], single):
            first, second, third = read(make(), *pieces)
            assert isinstance(first, Refused)
            self.assertIs(code_of(first), ErrorCode.TOO_LARGE)
            self.assertEqual(first.tag, "#t ")
            self.assertEqual(plain([second]), [usage])
            self.assertEqual(third, PING)

    def test_nothing_behind(self) -> None:
        """A tag and no request is refused under that tag."""
        items = read(make(), b"#a \n")
        words = "HELP lists every command"
        self.assertEqual(plain(items), [(ErrorCode.USAGE, words, "#a ")])


class PayloadTests(SynchronousTestCase):
    """What follows ``SEND``."""

    def test_sizes(self) -> None:
        """Payloads of 0, 1 and the limit are taken, with either line end."""
        for size in (0, 1, LIMIT - 1, LIMIT):
            for end in (b"\n", b"\r\n"):
                body = (b"QUIT\n" * LIMIT)[:size]
                data = b"#t send bob %d\n%b%bPING\n" % (size, body, end)
                for pieces in every_cut(data):
                    items = read(make(), *pieces)
                    self.assertEqual(items, [Post("bob", body, "#t "), PING])

    def test_too_large(self) -> None:
        """One byte over the limit is refused at once, and read past."""
        heading = b"#t SEND bob %d\n" % (LIMIT + 1)
        reader = make()
        [item] = read(reader, heading)
        self.assertIs(code_of(item), ErrorCode.TOO_LARGE)
        self.assertEqual(item.tag, "#t ")
        payload = b"QUIT\n" * (LIMIT // 5) + b"Q"
        for end in (b"\n", b"\r\n"):
            for pieces in every_cut(heading + payload + end + b"PING\n"):
                reader = make()
                items = read(reader, *pieces)
                self.assertIs(code_of(items[0]), ErrorCode.TOO_LARGE)
                self.assertEqual(items[1:], [PING])
                self.assertFalse(reader.broken)

    def test_refused_for_who_it_is(self) -> None:
        """The payload of someone who may not send is never taken for requests."""
        data = b"SEND bob 10\nQUIT\nQUIT\n\r\nSEND bob 0\n\nPING\n"
        for pieces in every_cut(data):
            items = read(Reader(LIMIT, allowance(TOTAL), _nobody), *pieces)
            codes = [code_of(item) for item in items[:2]]
            self.assertEqual(codes, [ErrorCode.LOGIN_FIRST] * 2)
            self.assertEqual(items[2:], [PING])

    def test_wrong_end(self) -> None:
        """Without a line end behind a payload nothing can be read any more."""
        usage = (ErrorCode.USAGE, "SEND <to> <bytes>", "#t ")
        for end in (b"x\n", b"\rx", b"\r\r\n", b"PING\n"):
            data = b"#t SEND bob 3\nabc" + end + b"\nPING\n"
            for pieces in every_cut(data):
                budget = allowance(TOTAL)
                reader = make(budget)
                self.assertEqual(plain(read(reader, *pieces)), [usage])
                self.assertTrue(reader.broken)
                self.assertEqual((held(reader), budget.left), (0, TOTAL))

    def test_wrong_end_of_refused(self) -> None:
        """The same holds behind a payload that was refused."""
        reader = make()
        items = read(reader, b"SEND bob 201\n" + b"x" * 201 + b"yz\nPING\n")
        codes = [code_of(item) for item in items]
        self.assertEqual(codes, [ErrorCode.TOO_LARGE, ErrorCode.USAGE])
        self.assertTrue(reader.broken)

    def test_far_too_large(self) -> None:
        """Up to a limit refused payloads are read past; beyond, nothing is."""
        reader = make()
        most = MAX_SKIPPED_PAYLOAD_BYTES + reader._max_message
        read(reader, b"SEND bob %d\n" % most)
        self.assertFalse(reader.broken)
        chunk = b"QUIT" * 65536
        for _ in range(most // len(chunk)):
            self.assertEqual(read(reader, chunk), [])
            self.assertEqual(held(reader), 0)
        self.assertEqual(read(reader, chunk[: most % len(chunk)]), [])
        self.assertEqual(read(reader, b"\r\nPING\n"), [PING])
        reader = make()
        items = read(reader, b"SEND bob %d\nPING\n" % (most + 1))
        self.assertEqual([code_of(item) for item in items], [ErrorCode.TOO_LARGE])
        self.assertTrue(reader.broken)

    def test_progress_is_known(self) -> None:
        """While a payload is read, its size is known and that it is not all."""
        reader = make()
        read(reader, b"SEND bob 50\nabc")
        self.assertEqual(reader.payload_bytes, 50)
        self.assertTrue(reader.is_amid_request)
        read(reader, b"x" * 47)
        self.assertTrue(reader.is_amid_request)
        read(reader, b"\r\n")
        self.assertEqual(reader.payload_bytes, 0)
        self.assertFalse(reader.is_amid_request)

    def test_texts_in_repr(self) -> None:
        """What a message says is not in what a log might show of it."""
        [post, login] = read(make(), b"SAY bob geheim\nLOGIN bob geheim\n")
        self.assertNotIn("geheim", f"{post!r} {login!r}")


class ManyTests(SynchronousTestCase):
    """Messages that are taken many at once."""

    DATA = b"".join(b"SEND bob 2\n%02d\r\n" % number for number in range(10))

    def take(self, reader: Reader, count: int = 100, size: int = 100) -> list[Post]:
        """Take what there is; the size that is told is that of the bodies."""
        posts, told = reader.posts(count, size)
        self.assertEqual(told, sum(len(post.body) for post in posts))
        return posts

    def test_all(self) -> None:
        """Messages that are there as a whole come together."""
        reader = make()
        reader.feed(self.DATA + b"SEND bob 2\n1")
        posts = self.take(reader)
        self.assertEqual(posts, [Post("bob", b"%02d" % n, "") for n in range(10)])
        self.assertEqual(self.take(reader), [])
        self.assertEqual(read(reader, b"0\r\n"), [Post("bob", b"10", "")])

    def test_tags(self) -> None:
        """Tagged ones come with theirs."""
        reader = make()
        reader.feed(b"#t1 SEND bob 1\nx\r\nsend bob 1\r\ny\r\n#t2 send b 0\n\r\n")
        self.assertEqual(
            self.take(reader),
            [Post("bob", b"x", "#t1 "), Post("bob", b"y", ""), Post("b", b"", "#t2 ")],
        )

    def test_limits(self) -> None:
        """Never more than is asked for, in number and in bytes."""
        for count, size, expected in ((3, 100, 3), (100, 5, 3), (100, 6, 3), (1, 1, 1)):
            reader = make()
            reader.feed(self.DATA)
            self.assertEqual(len(self.take(reader, count, size)), expected)
            rest = self.take(reader)
            self.assertEqual(len(rest), 10 - expected)

    def test_budget(self) -> None:
        """They take from the budget; those it has no room for are left to `next`."""
        reader = make(allowance(5))
        reader.feed(self.DATA)
        self.assertEqual(len(self.take(reader)), 2)
        self.assertEqual(self.take(reader), [])
        self.assertIsInstance(reader.next(), Refused)
        budget = allowance(20)
        reader = make(budget)
        reader.feed(self.DATA)
        self.assertEqual(len(self.take(reader)), 10)
        self.assertEqual(budget.left, 0)
        reader.feed(self.DATA)
        self.assertEqual(self.take(reader), [])
        self.assertIsInstance(reader.next(), Refused)

    def test_not_plain(self) -> None:
        """What needs a closer look is left to it."""
        for data in (
            b"PING\n",
            b"SEND bob 1\nx\n",
            b"SEND bob 1\nxy\r\n",
            b"SEND bob 201\n" + b"x" * 201 + b"\r\n",
            b"SEND " + b"x" * MAX_LINE_BYTES + b" 1\nx\r\n",
            "SEND bób 1\nx\r\n".encode(),
        ):
            reader = make()
            reader.feed(data)
            self.assertEqual(self.take(reader), [], data)
            self.assertEqual(self.take(reader), [], data)

    def test_not_amid_a_payload(self) -> None:
        """What looks like messages inside a payload is none."""
        reader = make()
        size = len(self.DATA)
        self.assertEqual(read(reader, b"SEND bob %d\n" % size), [])
        reader.feed(self.DATA)
        self.assertEqual(self.take(reader), [])
        self.assertEqual(read(reader, b"\n"), [Post("bob", self.DATA, "")])

    def test_not_allowed(self) -> None:
        """Who may not send is not served faster."""
        reader = Reader(LIMIT, allowance(TOTAL), _nobody)
        reader.feed(self.DATA)
        self.assertEqual(self.take(reader), [])


class BudgetTests(SynchronousTestCase):
    """The allowance that all conversations share."""

    def test_take(self) -> None:
        """What is there can be taken, to the last byte, and given back."""
        budget = allowance(10)
        self.assertTrue(budget.take(4))
        self.assertFalse(budget.take(7))
        self.assertEqual(budget.left, 6)
        self.assertTrue(budget.take(6))
        self.assertTrue(budget.take(0))
        self.assertFalse(budget.take(1))
        budget.give_back(10)
        self.assertEqual(budget.left, 10)

    def test_shares(self) -> None:
        """One address has a quarter of all, whatever others have; all is the sum."""
        budget = Budget(100)
        first = budget.share_of("first")
        self.assertFalse(first.take(26))
        self.assertTrue(first.take(20))
        self.assertFalse(budget.share_of("first").take(6))
        others = [budget.share_of(other) for other in ("second", "third", "fourth")]
        for other in others:
            self.assertTrue(other.take(25))
        self.assertFalse(budget.share_of("fifth").take(6))
        self.assertTrue(budget.share_of("fifth").take(5))
        first.give_back(20)
        self.assertEqual((budget.left, first.left), (20, 20))

    def test_nobody_is_remembered(self) -> None:
        """An address whose conversations have ended takes no memory."""
        budget = Budget(100)
        share = budget.share_of("sends")
        self.assertTrue(share.take(7))
        share.give_back(7)
        self.assertEqual(len(budget._shares), 1)
        del share
        self.assertEqual(len(budget._shares), 0)

    def test_posts_take(self) -> None:
        """A post holds as much of the budget as its body is long."""
        for data in (
            b"SAY bob hello\n",
            b"SEND bob 5\nhello\r\n",
            b"SEND bob 5\nhello\n",
        ):
            for pieces in every_cut(data):
                budget = allowance(TOTAL)
                self.assertEqual(
                    read(make(budget), *pieces), [Post("bob", b"hello", "")]
                )
                self.assertEqual(budget.left, TOTAL - 5)

    def test_only_what_came_is_taken(self) -> None:
        """An announced payload costs nothing until its bytes are there."""
        budget = allowance(TOTAL)
        reader = make(budget)
        read(reader, b"SEND bob 50\nabc")
        self.assertEqual(budget.left, TOTAL - 3)
        reader.close()
        self.assertEqual(budget.left, TOTAL)
        self.assertTrue(reader.broken)

    def test_none_left(self) -> None:
        """Without budget a message is refused, read past, and the next taken."""
        for data in (
            b"#t SAY bob hello\nPING\n",
            b"#t SEND bob 5\nQUIT\n\r\nPING\n",
            b"#t SEND bob 5\nQUIT\n\nPING\n",
        ):
            for pieces in every_cut(data):
                budget = allowance(4)
                reader = make(budget)
                items = read(reader, *pieces)
                self.assertIs(code_of(items[0]), ErrorCode.BUSY)
                self.assertEqual(items[0].tag, "#t ")
                self.assertEqual(items[1:], [PING])
                self.assertEqual(budget.left, 4)
                self.assertEqual(
                    read(reader, b"SAY bob hell\n"), [Post("bob", b"hell", "")]
                )
