"""Requests over UDP and their answers, when records are lost or come twice."""

from __future__ import annotations

from itertools import pairwise

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securerecv.client.errors import DisconnectedError
from securerecv.client.exchanges import (
    FIRST_WAIT_S,
    MAX_UNDER_WAY,
    MAX_WAIT_S,
    Exchange,
    Exchanges,
)
from securerecv.errors import ErrorCode, PeerError
from securerecv.wire.heardrecord import Heard, read_record
from securerecv.wire.lines import Answer
from securerecv.wire.replies import NotUnderstoodError

WHEN = "2026-01-01T00:00:0{}Z"


class RecordTests(SynchronousTestCase):
    """What stands in one record from the server."""

    def test_lines(self) -> None:
        """Lines are read with their payloads, whatever is in these."""
        body = b"#1 +OK\n* MSG\r\n"
        lines = b"#a * MSG 1 bob %b 14\n" % WHEN.format(0).encode()
        self.assertEqual(
            read_record(lines + body + b"\r\n#a +OK 1 messages\n! CLOSING x\r\n"),
            [
                Heard("#a", "*", f"MSG 1 bob {WHEN.format(0)} 14", body),
                Heard("#a", "+OK", "1 messages"),
                Heard("", "!", "CLOSING x"),
            ],
        )

    def test_payload_left_out(self) -> None:
        """A payload that no record can hold is not looked for in what follows."""
        line = f"MSG 1 bob {WHEN.format(0)} 5000"
        heard = read_record(f"* {line}\n* {line}\n+OK 2 messages\n".encode())
        self.assertEqual([h.payload for h in heard], [None, None, None])
        self.assertEqual([h.mark for h in heard], ["*", "*", "+OK"])

    def test_nonsense(self) -> None:
        """What a server never says is refused."""
        for record in (b"x", b"x\n", b"+OK", b"* MSG x\n", b"+OK \xff\n"):
            self.assertRaises(NotUnderstoodError, read_record, record)


def message(number: int) -> Heard:
    """Give the line of one message of ``LAST``."""
    return Heard("#1", "*", f"MSG {number} bob {WHEN.format(number)} 1", b"x")


class ExchangeTests(SynchronousTestCase):
    """One answer, whose records get lost and overtake each other."""

    def exchange(self, verb: str) -> Exchange:
        """Begin one."""
        return Exchange("#1", verb, b"", 1.0)

    def test_counted(self) -> None:
        """``LAST`` is answered when as many messages are there as were counted."""
        exchange = self.exchange("LAST")
        self.assertIsNone(exchange.take(message(3)))
        self.assertIsNone(exchange.take(Heard("#1", "+OK", "3 messages")))
        self.assertIsNone(exchange.take(message(3)))
        self.assertIsNone(exchange.take(message(1)))
        answer = exchange.take(message(2))
        assert isinstance(answer, Answer)
        self.assertEqual(
            [text.split(" ")[1] for text, _ in answer.lines], ["1", "2", "3"]
        )

    def test_same_moment(self) -> None:
        """A message that was lost at first stands where it came the second time."""
        when = WHEN.format(0)
        messages = [Heard("#1", "*", f"MSG {n} bob {when} 1", b"x") for n in range(4)]
        last = Heard("#1", "+OK", "4 messages")
        for lost in range(4):
            exchange = self.exchange("LAST")
            for heard in [*messages[:lost], *messages[lost + 1 :], last]:
                self.assertIsNone(exchange.take(heard))
            answers = [exchange.take(heard) for heard in messages[: lost + 1]]
            answer = answers.pop()
            self.assertEqual(answers, [None] * lost)
            assert isinstance(answer, Answer)
            self.assertEqual(answer.lines, tuple((m.text, b"x") for m in messages))

    def test_empty_line(self) -> None:
        """A line with nothing in it is one like any other."""
        exchange = self.exchange("HELP")
        exchange.take(Heard("#1", "*", ""))
        answer = exchange.take(Heard("#1", "+OK", ""))
        assert isinstance(answer, Answer)
        self.assertEqual(answer.lines, (("", None),))

    def test_two_answers_mixed(self) -> None:
        """Parts of two answers that differ make none: it is asked for again."""
        exchange = self.exchange("LAST")
        exchange.take(message(1))
        exchange.take(message(2))
        self.assertIsNone(exchange.take(Heard("#1", "+OK", "1 messages")))
        self.assertIsNone(exchange.take(message(2)))
        answer = exchange.take(Heard("#1", "+OK", "1 messages"))
        assert isinstance(answer, Answer)
        self.assertEqual(len(answer.lines), 1)

    def test_single(self) -> None:
        """``READ`` is not answered by ``+OK`` without its message."""
        exchange = self.exchange("READ")
        self.assertIsNone(exchange.take(Heard("#1", "+OK", "")))
        self.assertIsInstance(exchange.take(message(1)), Answer)

    def test_refused(self) -> None:
        """A refusal is an answer."""
        error = self.exchange("READ").take(Heard("#1", "-ERR", "no-such-id gone"))
        assert isinstance(error, PeerError)
        self.assertIs(error.code, ErrorCode.NO_SUCH_ID)

    def test_not_counted(self) -> None:
        """A count that is none is the server's fault."""
        exchange = self.exchange("FILES")
        wrong = Heard("#1", "+OK", "many files")
        self.assertRaises(NotUnderstoodError, exchange.take, wrong)


class ExchangesTests(SynchronousTestCase):
    """Which request is sent when; the time is told."""

    def setUp(self) -> None:
        """Begin, with chance always in the middle."""
        self.exchanges = Exchanges(lambda: 0.5)

    def ask(self, line: str, patience_s: float = 60.0) -> Deferred[Answer]:
        """Ask for something."""
        verb = line.partition(" ")[0]
        tag = self.exchanges.next_tag()
        exchange = Exchange(tag, verb, f"{tag} {line}".encode(), patience_s)
        self.exchanges.add(exchange)
        return exchange.answer

    def test_back_off(self) -> None:
        """A request is sent again and again, more and more seldom, until too late."""
        answer = self.ask("PING", 30.0)
        times = []
        now: float | None = 0.0
        with self.assertRaisesRegex(DisconnectedError, "within 30 seconds"):
            while now is not None:
                times += [now] * len(self.exchanges.to_send(now))
                now = self.exchanges.next_time()
        waits = [b - a for a, b in pairwise(times)]
        self.assertAlmostEqual(waits[0], FIRST_WAIT_S)
        for shorter, longer in pairwise(waits):
            self.assertAlmostEqual(longer, min(2 * shorter, MAX_WAIT_S))
        self.assertLess(times[-1], 30.0)
        self.assertNoResult(answer)

    def test_jitter(self) -> None:
        """The waits of many clients differ, by a quarter at the most."""
        for chance, factor in ((0.0, 0.75), (1.0, 1.25)):
            self.exchanges = Exchanges(iter((chance,)).__next__)
            self.ask("PING")
            self.exchanges.to_send(0.0)
            self.assertAlmostEqual(
                self.exchanges.next_time() or 0.0, factor * FIRST_WAIT_S
            )

    def test_window(self) -> None:
        """Not more messages are under way than allowed; answers keep their order."""
        said: list[str] = []
        for _ in range(MAX_UNDER_WAY + 1):
            self.ask("SAY bob hi").addCallback(lambda answer: said.append(answer.words))
        self.assertEqual(len(self.exchanges.to_send(0.0)), MAX_UNDER_WAY)
        self.exchanges.take(Heard("#2", "+OK", "second"))
        self.assertEqual((said, self.exchanges.to_send(0.0)), ([], []))
        self.exchanges.take(Heard("#1", "+OK", "first"))
        self.assertEqual(said, ["first", "second"])
        self.assertEqual(self.exchanges.to_send(0.0), [b"#17 SAY bob hi"])

    def test_alone(self) -> None:
        """What may change who one is waits for all before it, and all behind wait."""
        for line in ("SAY bob 1", "LAST", "SAY bob 2"):
            self.ask(line)
        for number, words in enumerate(("x", "0 messages", "x"), 1):
            sent = self.exchanges.to_send(0.0)
            self.assertEqual([record[:2] for record in sent], [b"#%d" % number])
            self.exchanges.take(Heard(f"#{number}", "+OK", words))
        self.assertIsNone(self.exchanges.next_time())

    def test_repeated_and_unknown_answers(self) -> None:
        """An answer that comes twice, or to nothing, is ignored."""
        answer = self.ask("PING")
        self.exchanges.to_send(0.0)
        for heard in (Heard("#9", "+OK", ""), *[Heard("#1", "+OK", "pong")] * 2):
            self.exchanges.take(heard)
        self.assertEqual(self.successResultOf(answer).words, "pong")
