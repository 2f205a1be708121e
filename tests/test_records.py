"""Conversations in records, on good networks and on bad ones."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode, PeerError
from securerecv.limits import (
    IDLE_TIMEOUT_S,
    LOGIN_TIMEOUT_S,
    MAX_POSTS_IN_FLIGHT,
)
from securerecv.vault.keyring import open_keyring
from securerecv.wire.answermemory import MAX_REMEMBERED
from securerecv.wire.events import Command, Posts
from securerecv.wire.lines import Answer
from securerecv.wire.records import (
    MAX_WAITING_BYTES,
    MAX_WAITING_RECORDS,
    RECORD_BYTES,
    RecordSession,
)
from securerecv.wire.session import Session, Terms
from securerecv.wire.verbs import Standing
from tests.dtlsnet import Net
from tests.support import allowance

TERMS = Terms(100_000, 5000, 5, anonymous=True, sealing_key=bytes(32))
TOTAL = 1_000_000


class RecordTests(SynchronousTestCase):
    """What a record holds, and what goes into one."""

    def setUp(self) -> None:
        """Begin a session of somebody who is in."""
        self.budget = allowance(TOTAL)
        self.session = RecordSession(TERMS, self.budget, 0.0)
        self.session.data_to_send()
        self.session.standing = Standing.USER
        self.session.name = "alice"
        self.posts: list[Posts] = []
        self.commands: list[Command] = []

    def put(self, record: bytes | str) -> list[str]:
        """Give it a record; the records that it answers with are returned."""
        data = record if isinstance(record, bytes) else record.encode()
        self.session.receive(data, 1.0)
        return self.get()

    def get(self) -> list[str]:
        """Carry out nothing, and take what is to be sent."""
        records: list[bytes] = []
        while True:
            event = self.session.next_event()
            if isinstance(event, Posts):
                self.posts.append(event)
            elif isinstance(event, Command):
                self.commands.append(event)
            else:
                said = self.session.data_to_send()
                if not said:
                    return [record.decode() for record in records]
                records += said

    def store(self) -> list[str]:
        """Answer the oldest messages that wait; take what is to be sent."""
        posts = self.posts.pop(0)
        ids = [b"\x01" * 8] * len(posts.items)
        self.session.answer_posts(posts, ids, {})
        return self.get()

    def test_greeting(self) -> None:
        """The greeting is the same, in one record."""
        session = RecordSession(TERMS, self.budget, 0.0)
        self.assertEqual(
            session.data_to_send(), Session(TERMS, self.budget, 0.0).data_to_send()
        )

    def test_line_ends(self) -> None:
        """The end of a record ends its line, too."""
        for record in ("#1 PING\n", "#2 PING\r\n", "#3 PING", "#4 ping\n\n"):
            (answer,) = self.put(record)
            self.assertEqual(answer, f"{record[:2]} +OK pong\n")

    def test_nothing(self) -> None:
        """Records without a request are not answered."""
        for record in ("", "\n", "\r\n\n", " "):
            self.assertEqual(self.put(record), [])

    def test_several_requests(self) -> None:
        """A record may hold several requests; short answers share one."""
        answers = self.put("PING\n#1 WHOAMI\nSEND bob 3\nabc\r\nPING\n")
        self.assertEqual(answers, ["+OK pong\n#1 +OK alice\n"])
        (posts,) = self.posts
        self.assertEqual([post.body for post in posts.items], [b"abc"])
        self.assertEqual(self.store(), ["+OK 0101010101010101\n+OK pong\n"])

    def test_two_answers(self) -> None:
        """A ``PUT`` that comes again gets the first answer until there is another."""
        put = f"#f PUT bob 5 {'0' * 64} x"
        self.assertEqual(self.put(put), [])
        (command,) = self.commands
        self.session.answer_twice(command, Answer("go 1 0 lane=2"))
        self.assertEqual(self.get(), ["#f +OK go 1 0 lane=2\n"])
        for number in range(2 * MAX_REMEMBERED):
            self.put(f"#{number} PING")
        self.assertEqual(self.put(put), ["#f +OK go 1 0 lane=2\n"])
        self.session.answer_again(command, Answer("received 1 clean"))
        self.assertEqual(self.get(), ["#f +OK received 1 clean\n"])
        self.assertEqual(self.put(put), ["#f +OK received 1 clean\n"])
        self.assertEqual(len(self.commands), 1)

    def test_second_answer_says_no(self) -> None:
        """The second answer may be that it came to nothing."""
        self.put(f"#f PUT bob 5 {'0' * 64} x")
        (command,) = self.commands
        self.session.answer_twice(command, Answer("go 1 0 lane=2"))
        self.get()
        error = PeerError(ErrorCode.MISMATCH, "this is not what was announced")
        self.session.answer_again(command, error)
        said = "#f -ERR mismatch this is not what was announced\n"
        self.assertEqual(self.get(), [said])

    def test_second_answer_too_late(self) -> None:
        """A conversation that is over says nothing more."""
        self.put(f"#f PUT bob 5 {'0' * 64} x")
        (command,) = self.commands
        self.session.answer_twice(command, Answer("go 1 0 lane=2"))
        self.get()
        self.session.close()
        self.session.answer_again(command, Answer("received 1 clean"))
        self.assertEqual(self.get(), [])
        self.assertTrue(self.session.finished)

    def test_tag_used_again(self) -> None:
        """Another request with the tag of a ``PUT`` is another request."""
        self.put(f"#f PUT bob 5 {'0' * 64} x")
        (command,) = self.commands
        self.session.answer_twice(command, Answer("go 1 0 lane=2"))
        self.get()
        self.assertEqual(self.put("#f PING"), ["#f +OK pong\n"])
        self.session.answer_again(command, Answer("received 1 clean"))
        self.assertEqual(self.get(), ["#f +OK received 1 clean\n"])
        self.assertEqual(self.put("#f PING"), ["#f +OK pong\n"])

    def test_payload(self) -> None:
        """A payload is in the record of its line, and the record ends it."""
        for record in (
            b"SEND bob 3\na\nb",
            b"SEND bob 3\na\nb\n",
            b"SEND bob 3\na\nb\r\n",
            b"#1 SEND bob 3\r\na\nb\r\n",
        ):
            self.assertEqual(self.put(record), [])
            self.assertEqual(self.posts[-1].items[0].body, b"a\nb")
        self.assertEqual(self.put(b"#2 SEND bob 0\n\r\n"), [])
        self.assertEqual(self.posts[-1].items[0].body, b"")

    def test_payload_cut_short(self) -> None:
        """A request that is not whole is refused, and the next record is read."""
        for record in (
            b"#1 SEND bob 9\nabc",
            b"#1 SEND bob 9",
            b"#1 SEND bob 4\nabc\n",
        ):
            (answer,) = self.put(record)
            self.assertEqual(answer, "#1 -ERR usage SEND <to> <bytes>\n")
        self.assertEqual(self.posts, [])
        self.assertEqual(self.put("PING"), ["+OK pong\n"])
        self.assertEqual(self.budget.left, TOTAL)

    def test_broken_framing(self) -> None:
        """What follows a broken payload is passed over to the end of the record."""
        answers = self.put(b"SEND bob 1\nabc\r\nQUIT\n")
        self.assertEqual(answers, ["-ERR usage SEND <to> <bytes>\n"])
        self.assertFalse(self.session.finished)
        self.assertEqual(self.put("PING"), ["+OK pong\n"])

    def test_too_large(self) -> None:
        """A size over the limit is refused; it breaks no later record."""
        for size in (100_001, 10**17):
            (answer,) = self.put(f"SEND bob {size}\nabc\r\n")
            self.assertTrue(answer.startswith("-ERR too-large "), answer)
            self.assertEqual(self.put("PING"), ["+OK pong\n"])
        (answer,) = self.put("x" * 5000 + "\nPING\n")
        self.assertRegex(answer, r"\A-ERR too-large .*\n\+OK pong\n\Z")

    def test_long_answers(self) -> None:
        """An answer is cut into records between its lines."""
        self.put("LAST\n")
        lines = tuple((f"line {'x' * size}", None) for size in range(100))
        self.session.answer(self.commands[0], Answer("", lines))
        records = self.get()
        self.assertEqual(len(records), 5)
        for record in records:
            self.assertTrue(record.endswith("\n"))
            self.assertLessEqual(len(record), RECORD_BYTES)
        self.assertEqual(
            "".join(records), "".join(f"* {line}\n" for line, _ in lines) + "+OK\n"
        )

    def test_large_messages(self) -> None:
        """A message that fits into a record has its payload, another has not."""
        self.put("#1 LAST\n")
        (command,) = self.commands
        heading = "#1 * MSG id bob when 9\n"
        fits = RECORD_BYTES - len(heading) - 2
        lines = tuple(
            ("MSG id bob when 9", b"x" * size) for size in (fits, fits + 1, 9)
        )
        self.session.answer(command, Answer("3 messages", lines))
        records = self.get()
        self.assertEqual(records[0], f"{heading}{'x' * fits}\r\n")
        self.assertEqual(
            "".join(records[1:]),
            f"{heading}{heading}{'x' * 9}\r\n#1 +OK 3 messages\n",
        )

    def test_large_push(self) -> None:
        """So it is with messages that are pushed."""
        for size, follows in ((1000, True), (RECORD_BYTES, False)):
            self.session.push(f"MSG id bob when {size}", b"x" * size)
            (record,) = self.get()
            self.assertEqual(record.endswith("x\r\n"), follows)
            self.assertLessEqual(len(record), RECORD_BYTES)

    def test_again(self) -> None:
        """A tagged request that comes again is answered again, and not done again."""
        request = "#1 SAY bob hello\n"
        self.put(request)
        self.assertEqual(self.put(request), [])
        self.assertEqual(self.store(), ["#1 +OK 0101010101010101\n"])
        self.assertEqual(self.put(request), ["#1 +OK 0101010101010101\n"])
        self.assertEqual(self.posts, [])
        self.assertEqual(self.budget.left, TOTAL)
        request = "#2 LAST\n"
        self.put(request)
        self.assertEqual(self.put(request), [])
        self.session.answer(self.commands[0], Answer("0 messages"))
        # Once for the first, and once for the one that came in the meantime.
        self.assertEqual(self.get(), ["#2 +OK 0 messages\n" * 2])
        self.assertEqual(self.put(request), ["#2 +OK 0 messages\n"])
        self.assertEqual(len(self.commands), 1)

    def test_messages_that_came_before(self) -> None:
        """Among messages that are alone in their records, no known one is taken."""
        sends = [f"#{n} SEND bob 3\r\nab{n}\r\n".encode() for n in range(9)]
        for record in sends[:3]:
            self.session.receive(record, 1.0)
        self.assertEqual(self.get(), [])
        (answers,) = self.store()
        self.assertEqual(answers.count("+OK"), 3)
        # Answered, new, under way, new, and together with others.
        for record in (sends[1], sends[3], sends[3], sends[4], sends[4] + sends[5]):
            self.session.receive(record, 1.0)
        (again,) = self.get()
        self.assertEqual(again, "#1 +OK 0101010101010101\n")
        taken = [post.body for posts in self.posts for post in posts.items]
        self.assertEqual(taken, [b"ab3", b"ab4", b"ab5"])
        while self.posts:
            self.store()
        self.assertEqual(self.budget.left, TOTAL)

    def test_messages_of_strangers(self) -> None:
        """Who is not in sends nothing, alone in a record or not, and costs nothing."""
        self.session.standing = Standing.NEW
        (answer,) = self.put("#1 SEND bob 3\r\nabc\r\n")
        self.assertTrue(answer.startswith("#1 -ERR login-first "))
        self.assertEqual(self.budget.left, TOTAL)

    def test_most_in_flight(self) -> None:
        """No more messages are read than may wait for their commit."""
        record = b"SEND bob 1\r\nx\r\n"
        for _ in range(5):
            for _ in range(MAX_WAITING_RECORDS - 1):
                self.session.receive(record, 1.0)
            self.get()
        taken = sum(len(posts.items) for posts in self.posts)
        self.assertEqual(taken, MAX_POSTS_IN_FLIGHT)
        while self.posts:
            self.store()
        self.assertEqual(self.budget.left, TOTAL)

    def test_again_after_long_answers(self) -> None:
        """A message is not sent twice, however much is read before it comes again."""
        self.put("#1 SAY bob hello\n")
        (said,) = self.store()
        lines = tuple((f"MSG {n} bob now 1000", bytes(1000)) for n in range(5))
        for number in range(2, 60):
            self.put(f"#{number} LAST\n")
            self.session.answer(self.commands.pop(), Answer("5 messages", lines))
            self.get()
        self.assertEqual(self.put("#1 SAY bob hello\n"), [said])
        self.assertEqual(self.posts, [])

    def test_refusals_again(self) -> None:
        """So it is with what was refused."""
        for request in ("#1 FROB\n", "#2 SEND bob 999999999\n", "#3 LOGIN a b\n"):
            first = self.put(request)
            self.assertIn("-ERR", first[0])
            self.assertEqual(self.put(request), first)

    def test_untagged_again(self) -> None:
        """Without a tag the same request twice is two requests."""
        self.put("SAY bob hello\n")
        self.put("SAY bob hello\n")
        self.assertEqual(len(self.posts), 2)

    def test_same_tag(self) -> None:
        """Another request with the same tag is another request."""
        self.assertEqual(self.put("#1 PING\n"), ["#1 +OK pong\n"])
        self.assertEqual(self.put("#1 WHOAMI\n"), ["#1 +OK alice\n"])
        self.assertEqual(self.put("#1 PING\n"), ["#1 +OK pong\n"])

    def test_many_again(self) -> None:
        """Repeated requests are answered in portions, not without end."""
        self.put("#1 HELP\n")
        self.session.receive(b"#1 HELP\n" * 2000, 1.0)
        self.assertIsNone(self.session.next_event())
        portion = self.session.data_to_send()
        self.assertLess(sum(map(len, portion)), 70_000)
        said = b"".join(portion).decode() + "".join(self.get())
        self.assertEqual(said.count("#1 +OK\n"), 2000)

    def test_waiting_records(self) -> None:
        """While a command is carried out so many records wait, and no more."""
        self.put("LAST\n")
        for _ in range(2 * MAX_WAITING_RECORDS):
            self.put("PING\n")
        self.assertEqual(self.budget.left, TOTAL - 5 * MAX_WAITING_RECORDS)
        self.session.answer(self.commands[0], Answer())
        self.assertEqual("".join(self.get()).count("pong"), MAX_WAITING_RECORDS)
        self.assertEqual(self.budget.left, TOTAL)

    def test_waiting_bytes(self) -> None:
        """They have a bound in bytes, too, and in what all peers may hold."""
        record = b"SAY bob " + b"x" * 4000
        self.put("LAST\n")
        for _ in range(MAX_WAITING_RECORDS):
            self.put(record)
        self.assertLessEqual(TOTAL - self.budget.left, MAX_WAITING_BYTES)
        self.session.close()
        self.assertEqual(self.budget.left, TOTAL)
        self.session = RecordSession(TERMS, self.budget, 0.0)
        self.session.standing = Standing.USER
        self.budget.take(TOTAL - 10)
        self.assertEqual(self.put("SAY bob hello\n")[1:], [])
        self.assertEqual(self.posts, [])

    def test_quit(self) -> None:
        """What comes behind QUIT is not read."""
        self.assertEqual(self.put("QUIT\nPING\n"), ["+OK goodbye\n"])
        self.assertTrue(self.session.finished)
        self.assertEqual(self.put("PING\n"), [])
        self.assertEqual(self.budget.left, TOTAL)

    def test_deadlines(self) -> None:
        """A peer must log in in time, and say something, also if it watches."""
        session = RecordSession(TERMS, self.budget, 100.0)
        self.assertEqual(session.deadline(), 100.0 + LOGIN_TIMEOUT_S)
        session.standing = Standing.ANONYMOUS
        session.receive(b"", 200.0)
        self.assertEqual(session.deadline(), 200.0 + IDLE_TIMEOUT_S)
        session.watching = True
        self.assertEqual(session.deadline(), 200.0 + IDLE_TIMEOUT_S)


class LossTests(SynchronousTestCase):
    """Networks that lose, double and delay what they carry."""

    def setUp(self) -> None:
        """Make keys."""
        self.keyring = open_keyring(Path(self.mktemp()).absolute())

    def test_loss(self) -> None:
        """Every tagged request is answered and done once, untagged ones not twice."""
        for seed in range(8):
            for trouble in (0.0, 0.1, 0.3):
                with self.subTest(seed=seed, trouble=trouble):
                    self._carry_all(seed, trouble)

    def _carry_all(self, seed: int, trouble: float) -> None:
        run = LossyRun(Net(self.keyring), seed, trouble)
        run.run()
        done = run.done
        for number in range(LossyRun.REQUESTS):
            self.assertEqual(done[f"tagged {number}"], 1)
            self.assertLessEqual(done[f"untagged {number}"], 1)
            # Answered again means: the same answer.
            self.assertEqual(len(set(run.answers[number])), 1)
        if not trouble:
            self.assertEqual(done.total(), 2 * LossyRun.REQUESTS)
        else:
            self.assertLess(done.total(), 2 * LossyRun.REQUESTS)
        self.assertEqual(run.net.house.budget.left, run.budget)


class LossyRun:
    """
    One client that sends until all is answered, over a bad path.

    Args:
        net: holds the server.
        seed: decides what happens.
        trouble: how likely a datagram is lost, how likely doubled, and how
            likely late.
    """

    REQUESTS = 120
    WINDOW = 8
    PATIENCE = 12

    def __init__(self, net: Net, seed: int, trouble: float) -> None:
        self.net = net
        self.budget = net.house.budget.left
        self.done: Counter[str] = Counter()
        self.answers: dict[int, list[str]] = {n: [] for n in range(self.REQUESTS)}
        self._rng = random.Random(seed)  # noqa: S311 - what happens must be repeatable
        self._trouble = trouble
        self._client = net.enter(("192.0.2.1", 5000))
        self._client.ask("LOGIN alice word\n")
        self._under_way: list[tuple[int, int, bool, bytes]] = []
        self._sequence = 0
        self._now = 0

    def run(self) -> None:
        """Do it."""
        sent_at: dict[int, int] = {}
        while not all(self.answers.values()):
            self._now += 1
            open_ones = [n for n in sent_at if not self.answers[n]]
            for number in open_ones:
                if self._now - sent_at[number] >= self.PATIENCE:
                    sent_at[number] = self._now
                    self._ask(number)
            if len(open_ones) < self.WINDOW and len(sent_at) < self.REQUESTS:
                number = len(sent_at)
                sent_at[number] = self._now
                self._carry(self._client.seal(f"SAY bob untagged {number}\n"), True)
                self._ask(number)
            self._move()
            assert self._now < 100_000
        # What is still under way may arrive after everything else.
        while self._under_way or self.net.house.slow_store.commits:
            self._now += 1
            self._move()

    def _ask(self, number: int) -> None:
        self._carry(self._client.seal(f"#{number} SAY bob tagged {number}\n"), True)

    def _carry(self, datagram: bytes, is_request: bool) -> None:
        """Put a datagram on its way."""
        copies = 1 + (self._rng.random() < self._trouble)
        for _ in range(copies):
            if self._rng.random() < self._trouble:
                continue
            late = self._rng.random() < self._trouble
            at = self._now + 1 + (self._rng.randrange(20) if late else 0)
            self._sequence += 1
            heapq.heappush(self._under_way, (at, self._sequence, is_request, datagram))

    def _move(self) -> None:
        """Let time go by."""
        while self._under_way and self._under_way[0][0] <= self._now:
            _, _, is_request, datagram = heapq.heappop(self._under_way)
            if is_request:
                self._client.deliver([datagram])
            else:
                self._hear(datagram)
        commits = self.net.house.slow_store.commits
        while commits and self._rng.random() < 0.5:
            group, _ = commits[0]
            self.done.update(post.body.decode() for post in group.posts)
            self.net.house.slow_store.commit()
        for datagram in self._client.take():
            self._carry(datagram, False)

    def _hear(self, datagram: bytes) -> None:
        for record in self._client.opened([datagram]):
            for line in record.decode().splitlines():
                if line.startswith("#"):
                    tag, _, answer = line.partition(" ")
                    assert answer.startswith("+OK "), line
                    self.answers[int(tag[1:])].append(answer)
