"""One conversation, seen from the server, without a network and without a clock."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv import limits
from securerecv.errors import ErrorCode, MisuseError, PeerError
from securerecv.wire.budget import Share
from securerecv.wire.events import Command, Event, Posts
from securerecv.wire.lines import NOTICE, Answer
from securerecv.wire.session import (
    MAX_QUEUED_ANSWERS,
    MAX_UNSENT_BYTES,
    Session,
    Terms,
)
from securerecv.wire.verbs import VERBS, Standing
from tests.support import allowance

TOTAL = 64 * 1024 * 1024
TERMS = Terms(1000, 5000, 7, anonymous=True, sealing_key=bytes(range(32)))
LARGE = Terms(limits.MAX_POST_BYTES_IN_FLIGHT, 5000, 7, True, bytes(32))
NAMES = {Standing.NEW: "", Standing.ANONYMOUS: "anon-x", Standing.USER: "bob"}

# For each verb a request that is understood.
REQUESTS = {
    "HELP": "HELP",
    "NOTICE": "NOTICE",
    "PING": "PING",
    "WHOAMI": "WHOAMI",
    "QUIT": "QUIT",
    "KEY": "KEY",
    "LOGIN": "LOGIN bob word",
    "ANON": "ANON",
    "SAY": "SAY bob hello",
    "SEND": "SEND bob 5\nhello",
    "LAST": "LAST",
    "READ": "READ 1",
    "DROP": "DROP 1",
    "PUT": f"PUT bob 5 {'0' * 64} name",
    "FILES": "FILES",
    "GET": "GET 1",
    "WATCH": "WATCH",
    "UNWATCH": "UNWATCH",
    "TOKEN NEW": "TOKEN NEW label",
    "TOKEN LIST": "TOKEN LIST",
    "TOKEN DROP": "TOKEN DROP 1",
    "PASSWD": "PASSWD word",
}
FOR_ALL = {"HELP", "NOTICE", "PING", "WHOAMI", "QUIT", "KEY"}
FOR_NEWCOMERS = {"LOGIN", "ANON"}
FOR_USERS = {"TOKEN NEW", "TOKEN LIST", "TOKEN DROP", "PASSWD"}


def enter(
    standing: Standing = Standing.USER,
    terms: Terms = TERMS,
    budget: Share | None = None,
    now: float = 0.0,
) -> Session:
    """Make a session of somebody who has got so far; the greeting is taken."""
    session = Session(terms, budget or allowance(TOTAL), now)
    session.standing = standing
    session.name = NAMES[standing]
    session.data_to_send()
    return session


def say(session: Session, data: bytes | str, now: float = 0.0) -> list[Event]:
    """Feed bytes and take all events, as long as nothing is answered."""
    session.receive(data.encode() if isinstance(data, str) else data, now)
    return events(session)


def events(session: Session) -> list[Event]:
    """Take all events that there are."""
    return list(iter(session.next_event, None))


def accept(session: Session, posts: Posts) -> None:
    """Answer messages with ids that repeat what they say."""
    session.answer_posts(posts, [post.body for post in posts.items], {})


def one_post(event: Event) -> Posts:
    """See to it that it is messages."""
    assert isinstance(event, Posts), event
    return event


def command(event: Event) -> Command:
    """See to it that it is a command."""
    assert isinstance(event, Command), event
    return event


def hear(session: Session) -> str:
    """Take what the peer is to be sent."""
    return b"".join(session.data_to_send()).decode()


class GreetingTests(SynchronousTestCase):
    """What a peer is told first."""

    def test_greeting(self) -> None:
        """Four lines: who, notice, limits, hint."""
        session = Session(TERMS, allowance(TOTAL), 0)
        self.assertEqual(
            hear(session),
            "* securerecv/1 ready\n"
            f"* NOTICE {NOTICE}\n"
            "* LIMITS message=1000 file=5000 keep=7 anonymous=yes\n"
            "* HINT LOGIN <user> <password>, or ANON; HELP lists every command\n",
        )
        self.assertEqual(hear(session), "")

    def test_without_anonymous(self) -> None:
        """Where nobody may be anonymous, nobody is told to be."""
        terms = Terms(1, 2, 3, anonymous=False, sealing_key=bytes(32))
        greeting = hear(Session(terms, allowance(TOTAL), 0))
        self.assertIn(" keep=3 anonymous=no\n", greeting)
        self.assertIn("* HINT LOGIN <user> <password>; HELP lists", greeting)


class StandingTests(SynchronousTestCase):
    """Who may say what."""

    def test_table(self) -> None:
        """Each request is taken from those it is for, and from nobody else."""
        self.assertEqual(set(REQUESTS), set(VERBS))
        for name, text in REQUESTS.items():
            for standing in Standing:
                is_new = standing is Standing.NEW
                users = FOR_USERS if standing is Standing.USER else set()
                if name in FOR_ALL or (name in FOR_NEWCOMERS and is_new):
                    expected = ""
                elif is_new:
                    expected = "-ERR login-first "
                elif name in FOR_NEWCOMERS | (FOR_USERS - users):
                    expected = "-ERR not-allowed "
                else:
                    expected = ""
                session = enter(standing)
                carried_out = say(session, f"{text}\n")
                heard = hear(session)
                what = f"{name} by {standing}: {heard}"
                if expected:
                    self.assertEqual(carried_out, [], what)
                    self.assertTrue(heard.startswith(expected), what)
                    self.assertEqual(heard.count("\n"), 1, what)
                    is_hint = "comes after LOGIN or ANON" in heard
                    self.assertEqual(is_hint, is_new and name not in FOR_USERS, what)
                else:
                    self.assertEqual(bool(carried_out), name not in FOR_ALL, what)
                    self.assertEqual(bool(heard), name in FOR_ALL, what)
                    self.assertNotIn("-ERR", heard)

    def test_at_the_time(self) -> None:
        """Who may say what is decided when it is that request's turn."""
        session = enter(Standing.NEW)
        [login] = say(session, "LOGIN bob word\nSAY bob hi\nANON\n")
        session.standing, session.name = Standing.USER, "bob"
        session.answer(command(login), Answer("you are bob"))
        [posts] = events(session)
        accept(session, one_post(posts))
        heard = hear(session).splitlines()
        self.assertEqual(heard[:2], ["+OK you are bob", "+OK 6869"])
        self.assertTrue(heard[2].startswith("-ERR not-allowed you are bob already"))

    def test_payload_of_a_newcomer(self) -> None:
        """What a newcomer sends as a payload is not taken for requests."""
        session = enter(Standing.NEW)
        self.assertEqual(say(session, "SEND bob 5\nQUIT\n\r\nPING\n"), [])
        heard = hear(session).splitlines()
        self.assertTrue(heard[0].startswith("-ERR login-first "))
        self.assertEqual(heard[1:], ["+OK pong"])


class AnsweredAtOnceTests(SynchronousTestCase):
    """Requests that need nobody but the session."""

    def ask(self, text: str, standing: Standing = Standing.USER) -> str:
        """Ask something that is answered at once."""
        session = enter(standing)
        self.assertEqual(say(session, f"{text}\n"), [])
        return hear(session)

    def test_small(self) -> None:
        """Each has its words, under its tag."""
        self.assertEqual(self.ask("#a PING"), "#a +OK pong\n")
        self.assertEqual(self.ask("#b NOTICE"), f"#b * NOTICE {NOTICE}\n#b +OK\n")
        self.assertEqual(self.ask("#c WHOAMI"), "#c +OK bob\n")
        key = bytes(range(32)).hex()
        self.assertEqual(self.ask("#d KEY"), f"#d +OK x25519 {key}\n")
        nobody = self.ask("WHOAMI", Standing.NEW)
        self.assertEqual(nobody, "+OK nobody yet: LOGIN or ANON\n")

    def test_help(self) -> None:
        """``HELP`` shows every verb, one, or a family, with usage and words."""
        lines = self.ask("HELP").splitlines()
        expected = [f"* {verb.usage}: {verb.help}" for verb in VERBS.values()]
        self.assertEqual(lines, [*expected, "+OK"])
        for verb in VERBS.values():
            for written in (verb.name, verb.name.lower(), verb.name.replace(" ", "  ")):
                self.assertEqual(
                    self.ask(f"#h HELP {written}"),
                    f"#h * {verb.usage}: {verb.help}\n#h +OK\n",
                )
        family = self.ask("help token").splitlines()
        names = ("TOKEN NEW", "TOKEN LIST", "TOKEN DROP")
        expected = [f"* {VERBS[name].usage}: {VERBS[name].help}" for name in names]
        self.assertEqual(family, [*expected, "+OK"])

    def test_help_for_nothing(self) -> None:
        """Help for what is no verb is a usage error."""
        for written in ("FROB", "TOKEN FROB", "SAY bob", "PING PING"):
            self.assertEqual(
                self.ask(f"#h HELP {written}"), "#h -ERR usage HELP [verb]\n"
            )

    def test_not_understood(self) -> None:
        """A wrong request is told its usage, and the conversation goes on."""
        session = enter()
        self.assertEqual(say(session, "#t LAST x\nFROB\n\nPING\n"), [])
        self.assertEqual(
            hear(session),
            "#t -ERR usage LAST [n]\n-ERR usage HELP lists every command\n+OK pong\n",
        )
        self.assertFalse(session.finished)

    def test_quit(self) -> None:
        """After ``QUIT`` nothing is read or said any more."""
        session = enter()
        [posts] = say(session, "SAY bob 1\nSAY bob 2\n#q QUIT\nSAY bob 3\nPING\n")
        self.assertEqual([post.body for post in one_post(posts).items], [b"1", b"2"])
        self.assertFalse(session.finished)
        self.assertFalse(session.wants_data)
        self.assertEqual(say(session, "PING\n"), [])
        self.assertEqual(session._reader._data, b"")
        session.push("unheard")
        accept(session, one_post(posts))
        self.assertEqual(hear(session), "+OK 31\n+OK 32\n#q +OK goodbye\n")
        self.assertTrue(session.finished)

    def test_broken_framing(self) -> None:
        """A payload that does not end is told so, and it is the end."""
        session = enter()
        self.assertEqual(say(session, "SEND bob 2\nabcd\nPING\n"), [])
        self.assertEqual(hear(session), "-ERR usage SEND <to> <bytes>\n")
        self.assertTrue(session.finished)
        self.assertFalse(session.wants_data)


class OrderTests(SynchronousTestCase):
    """Answers come in the order of their requests."""

    def test_out_of_order(self) -> None:
        """Messages that are stored earlier than others before them must wait."""
        session = enter()
        [first] = say(session, "#1 SAY bob a\n#2 SAY bob b\n")
        [second] = say(session, "#3 SAY bob c\n")
        [third] = say(session, "#4 SAY bob d\n")
        accept(session, one_post(third))
        accept(session, one_post(second))
        self.assertEqual(hear(session), "")
        accept(session, one_post(first))
        self.assertEqual(hear(session), "#1 +OK 61\n#2 +OK 62\n#3 +OK 63\n#4 +OK 64\n")

    def test_between(self) -> None:
        """What is answered at once waits for messages before it."""
        session = enter()
        first, second = say(session, "SAY bob a\nPING\nFROB\nSAY bob b\nWHOAMI\n")
        self.assertEqual(hear(session), "")
        accept(session, one_post(second))
        self.assertEqual(hear(session), "")
        accept(session, one_post(first))
        self.assertEqual(
            hear(session),
            "+OK 61\n+OK pong\n-ERR usage HELP lists every command\n+OK 62\n+OK bob\n",
        )

    def test_refused_messages(self) -> None:
        """Of messages that were read together, each has its own answer."""
        session = enter()
        [posts] = say(session, "#1 SAY a x\nSAY b y\n#3 SAY c z\n")
        error = PeerError(ErrorCode.NO_MAILBOX, "nobody")
        session.answer_posts(
            one_post(posts), [b"\1", b"\2", b"\3"], {0: error, 1: error}
        )
        self.assertEqual(
            hear(session),
            "#1 -ERR no-mailbox nobody\n-ERR no-mailbox nobody\n#3 +OK 03\n",
        )

    def test_command_waits(self) -> None:
        """A command comes when all before it is answered; nothing overtakes it."""
        session = enter()
        [posts] = say(session, "SAY bob a\nLAST\nSAY bob b\nPING\n")
        self.assertFalse(session.wants_data)
        self.assertEqual(events(session), [])
        accept(session, one_post(posts))
        [last] = events(session)
        self.assertEqual(command(last).request.verb.name, "LAST")
        self.assertFalse(session.wants_data)
        self.assertEqual(say(session, "PING\n"), [])
        self.assertEqual(hear(session), "+OK 61\n")
        session.answer(command(last), Answer("0 messages"))
        self.assertTrue(session.wants_data)
        [posts] = events(session)
        self.assertEqual(hear(session), "+OK 0 messages\n")
        accept(session, one_post(posts))
        self.assertEqual(hear(session), "+OK 62\n+OK pong\n+OK pong\n")

    def test_refused_command(self) -> None:
        """A command that fails is answered under its tag."""
        session = enter()
        [read] = say(session, "#r READ 1\n")
        error = PeerError(ErrorCode.NO_SUCH_ID, "no such message")
        session.answer(command(read), error)
        self.assertEqual(hear(session), "#r -ERR no-such-id no such message\n")

    def test_push(self) -> None:
        """Pushed lines stand between answers, never inside one."""
        session = enter()
        [posts] = say(session, "SAY bob a\nSAY bob b\nPING\n")
        session.push("MSG 1", b"x")
        accept(session, one_post(posts))
        session.push("MSG 2", b"y")
        self.assertEqual(
            hear(session),
            "! MSG 1\nx\r\n+OK 61\n+OK 62\n+OK pong\n! MSG 2\ny\r\n",
        )

    def test_after_the_peer_has_gone(self) -> None:
        """Messages in flight at the end can still be answered, and are let go."""
        budget = allowance(TOTAL)
        session = enter(budget=budget)
        [posts] = say(session, "SAY bob abc\nLAST\nSEND bob 9\nxx")
        self.assertEqual(budget.left, TOTAL - 3)
        session.close()
        self.assertFalse(session.finished)
        self.assertIsNone(session.deadline())
        accept(session, one_post(posts))
        self.assertEqual(budget.left, TOTAL)
        self.assertTrue(session.finished)
        self.assertEqual(events(session), [])

    def test_close_amid_a_payload(self) -> None:
        """What was read of an unfinished payload is given back."""
        budget = allowance(TOTAL)
        session = enter(budget=budget)
        say(session, "SEND bob 9\nxx")
        self.assertEqual(budget.left, TOTAL - 2)
        session.close()
        self.assertEqual(budget.left, TOTAL)
        self.assertTrue(session.finished)


class CapTests(SynchronousTestCase):
    """What a peer can make the server hold for it."""

    def test_posts_in_flight(self) -> None:
        """No more messages than the limit are under way at once."""
        for line in (b"SAY bob x\n", b"SEND bob 1\nx\r\n"):
            session = enter()
            [posts] = say(session, line * (limits.MAX_POSTS_IN_FLIGHT + 5))
            self.assertEqual(len(one_post(posts).items), limits.MAX_POSTS_IN_FLIGHT)
            self.assertFalse(session.wants_data)
            accept(session, one_post(posts))
            self.assertTrue(session.wants_data)
            session.data_to_send()
            [rest] = events(session)
            self.assertEqual(len(one_post(rest).items), 5)
            self.assertTrue(session.wants_data)

    def test_bytes_in_flight(self) -> None:
        """Nor more of their bytes than the limit and one message."""
        half = limits.MAX_POST_BYTES_IN_FLIGHT // 2
        for end in (b"\r\n", b"\n"):
            session = enter(terms=LARGE)
            data = b"SEND bob %d\n%b%b" % (half, bytes(half), end)
            [posts] = say(session, data * 3)
            self.assertEqual(len(one_post(posts).items), 2)
            self.assertFalse(session.wants_data)
            session.answer_posts(one_post(posts), [b"1", b"2"], {})
            self.assertTrue(session.wants_data)
            [rest] = events(session)
            self.assertEqual(len(one_post(rest).items), 1)

    def test_largest_message(self) -> None:
        """A message as large as all bytes in flight is taken alone."""
        session = enter(terms=LARGE)
        size = limits.MAX_POST_BYTES_IN_FLIGHT
        [posts] = say(session, b"SEND bob %d\n%b\r\nSAY bob x\n" % (size, bytes(size)))
        self.assertEqual([len(post.body) for post in one_post(posts).items], [size])

    def test_queued_answers(self) -> None:
        """Answers that wait for others before them are limited in number."""
        session = enter()
        [posts] = say(session, b"SAY bob x\n" + b"PING\n" * (MAX_QUEUED_ANSWERS + 5))
        self.assertFalse(session.wants_data)
        accept(session, one_post(posts))
        self.assertEqual(hear(session).count("pong"), MAX_QUEUED_ANSWERS - 1)
        self.assertEqual(events(session), [])
        self.assertEqual(hear(session).count("pong"), 6)
        self.assertTrue(session.wants_data)

    def test_unsent_answers(self) -> None:
        """Answers are not made without end while nobody fetches them."""
        session = enter()
        self.assertEqual(say(session, b"HELP\n" * 1000), [])
        self.assertFalse(session.wants_data)
        heard = 0
        while data := b"".join(session.data_to_send()):
            self.assertLess(len(data), MAX_UNSENT_BYTES + 4096)
            heard += data.count(b"+OK\n")
            self.assertEqual(events(session), [])
        self.assertEqual(heard, 1000)
        self.assertTrue(session.wants_data)

    def test_no_budget(self) -> None:
        """When others hold the whole budget, messages are refused as busy."""
        budget = allowance(3)
        session = enter(budget=budget)
        [posts] = say(session, "SAY bob abc\n")
        self.assertEqual(say(session, "#b SAY bob d\n#c SEND bob 1\nd\r\n"), [])
        accept(session, one_post(posts))
        heard = hear(session).splitlines()
        self.assertEqual(heard[0], "+OK 616263")
        self.assertTrue(heard[1].startswith("#b -ERR busy "))
        self.assertTrue(heard[2].startswith("#c -ERR busy "))
        self.assertEqual(budget.left, 3)


class DeadlineTests(SynchronousTestCase):
    """How long a peer may take."""

    def assert_ends_at(self, session: Session, deadline: float) -> None:
        """The conversation ends at a time, and not before."""
        self.assertEqual(session.deadline(), deadline)
        session.expire(deadline - 0.001)
        self.assertFalse(session.finished)
        self.assertEqual(hear(session), "")
        session.expire(deadline)
        self.assertTrue(session.finished)
        self.assertRegex(hear(session), r"\A-ERR timeout [^\n]+\n\Z")
        self.assertIsNone(session.deadline())
        self.assertFalse(session.wants_data)
        session.expire(deadline + 1)
        self.assertEqual(hear(session), "")

    def test_silent_newcomer(self) -> None:
        """Who does not log in is dropped at the limit, not before."""
        session = enter(Standing.NEW, now=1000)
        self.assert_ends_at(session, 1000 + limits.LOGIN_TIMEOUT_S)

    def test_talkative_newcomer(self) -> None:
        """Talking instead of logging in earns no more time."""
        session = enter(Standing.NEW, now=1000)
        say(session, "PING\n", now=1100)
        hear(session)
        self.assert_ends_at(session, 1000 + limits.LOGIN_TIMEOUT_S)

    def test_half_a_request(self) -> None:
        """A request must be complete in time, however slowly it drips in."""
        session = enter(now=0)
        say(session, "PI", now=1000)
        say(session, "N", now=1030)
        self.assert_ends_at(session, 1000 + limits.REQUEST_TIMEOUT_S)

    def test_half_a_request_of_a_newcomer(self) -> None:
        """The earlier of two deadlines counts."""
        session = enter(Standing.NEW, now=0)
        say(session, "LOG", now=10)
        self.assert_ends_at(session, 10 + limits.REQUEST_TIMEOUT_S)

    def test_long_line_without_end(self) -> None:
        """A line that is read past must end in time, too."""
        session = enter(now=0)
        say(session, "x" * 5000, now=10)
        hear(session)
        say(session, "x" * 5000, now=20)
        self.assert_ends_at(session, 10 + limits.REQUEST_TIMEOUT_S)

    def test_slow_payload(self) -> None:
        """A payload has longer, as much as its size is worth."""
        session = enter(terms=LARGE)
        size = 100 * limits.MIN_PAYLOAD_BYTES_PER_S
        say(session, f"SEND bob {size}\n", now=1000)
        for second in range(90):
            data = bytes(limits.MIN_PAYLOAD_BYTES_PER_S)
            say(session, data, now=1000.5 + second)
        self.assert_ends_at(session, 1000 + limits.REQUEST_TIMEOUT_S + 100)

    def test_tag_of_what_is_late(self) -> None:
        """That it took too long is the answer to what has a tag, and no other."""
        for said, tag in (
            ("#a SEND bob 5\nhel", "#a "),
            ("#a SEND bob 5\nhello\r", "#a "),
            ("#a PING\n", ""),
            ("#a SEND bob 5\nhello\r\n#b SEND bob 5\n", "#b "),
            (f"#a SEND bob {2**20}\nhel", ""),
        ):
            session = enter()
            for event in say(session, said, now=10):
                accept(session, one_post(event))
            hear(session)
            deadline = session.deadline()
            assert deadline is not None
            session.expire(deadline)
            self.assertRegex(hear(session), rf"\A{tag}-ERR timeout [^\n]+\n\Z")

    def test_slow_refused_payload(self) -> None:
        """So has one that was refused."""
        session = enter()
        size = 100 * limits.MIN_PAYLOAD_BYTES_PER_S
        say(session, f"SEND bob {size}\n", now=1000)
        hear(session)
        deadline = session.deadline()
        assert deadline is not None
        self.assertGreater(deadline, 1000 + limits.REQUEST_TIMEOUT_S)
        self.assert_ends_at(session, deadline)

    def test_next_request_begins_anew(self) -> None:
        """The time of a request begins when the one before it is complete."""
        for request in ("PING\n", "SAY bob a\n", "SEND bob 1\nx\r\n", "FROB\n"):
            session = enter()
            say(session, request[:-1], now=1000)
            deadline = session.deadline()
            assert deadline is not None
            self.assertAlmostEqual(deadline, 1000 + limits.REQUEST_TIMEOUT_S, 3)
            for event in say(session, f"\n{request}PI", now=1050):
                accept(session, one_post(event))
            hear(session)
            self.assertEqual(session.deadline(), 1050 + limits.REQUEST_TIMEOUT_S)

    def test_endless_stream(self) -> None:
        """Somebody who sends without pause is not taken for slow."""
        session = enter()
        message = b"SEND bob 1\nx\r\n"
        stream = message * 100
        for second in range(100):
            # Every piece ends amid a message.
            at = second * len(message)
            piece = stream[at + 5 if at else 0 : at + 5 + len(message)]
            for event in say(session, piece, now=second):
                accept(session, one_post(event))
            deadline = session.deadline()
            assert deadline is not None
            self.assertGreaterEqual(deadline, second + limits.REQUEST_TIMEOUT_S)

    def test_idle(self) -> None:
        """Who says nothing for long is dropped; every request begins anew."""
        session = enter()
        say(session, "PING\n", now=1000)
        hear(session)
        say(session, "PING\n", now=1500)
        hear(session)
        self.assert_ends_at(session, 1500 + limits.IDLE_TIMEOUT_S)

    def test_watcher(self) -> None:
        """Who watches may be silent for ever, but not amid a request."""
        session = enter()
        session.watching = True
        self.assertIsNone(session.deadline())
        say(session, "PI", now=1000)
        self.assert_ends_at(session, 1000 + limits.REQUEST_TIMEOUT_S)

    def test_not_while_it_is_our_turn(self) -> None:
        """While something is being carried out, nobody is late."""
        session = enter(Standing.NEW)
        [login] = say(session, "LOGIN bob word\n", now=119)
        self.assertIsNone(session.deadline())
        session.expire(10_000)
        self.assertFalse(session.finished)
        session.standing = Standing.USER
        session.answer(command(login), Answer())
        [posts] = say(session, "SAY bob a\nPI", now=200)
        self.assertIsNone(session.deadline())
        accept(session, one_post(posts))
        self.assertEqual(session.deadline(), 200 + limits.REQUEST_TIMEOUT_S)


class MisuseTests(SynchronousTestCase):
    """What the session does not let its driver do."""

    def test_answer_without_command(self) -> None:
        """Only a command that waits can be answered, and only once."""
        session = enter()
        [last] = say(session, "LAST\n")
        session.answer(command(last), Answer())
        self.assertRaises(MisuseError, session.answer, last, Answer())
        self.assertEqual(hear(session), "+OK\n")

    def test_wrong_command(self) -> None:
        """A command that was answered is not answered in place of the next."""
        session = enter()
        [first] = say(session, "#1 LAST\n")
        session.answer(command(first), Answer())
        [second] = say(session, "#2 LAST\n")
        self.assertRaises(MisuseError, session.answer, first, Answer())
        session.answer(command(second), Answer())
        self.assertEqual(hear(session), "#1 +OK\n#2 +OK\n")

    def test_posts_answered_twice(self) -> None:
        """Messages are answered once: the budget is not given back twice."""
        budget = allowance(TOTAL)
        session = enter(budget=budget)
        [posts] = say(session, "SAY bob a\n")
        accept(session, one_post(posts))
        self.assertRaises(MisuseError, accept, session, posts)
        self.assertEqual(budget.left, TOTAL)

    def test_wrong_number_of_ids(self) -> None:
        """There is an id for each message."""
        session = enter()
        [posts] = say(session, "SAY bob a\nSAY bob b\n")
        self.assertRaises(ValueError, session.answer_posts, posts, [b"1"], {})


REQUEST_LINES = st.sampled_from(
    [
        b"PING\n",
        b"\r\n",
        b"#a WHOAMI\r\n",
        b"FROB\n",
        b"LAST\n",
        b"#l WATCH\n",
        b"SAY bob one\n",
        b"#s SAY bob two\n",
        b"SEND bob 5\nQUIT\n\r\n",
        b"SEND bob 5\nPING\n\n",
        b"#p SEND bob 0\n\r\n",
        b"SEND bob 1001\n" + b"QUIT\n" * 200 + b"x\r\n",
        b"x" * 5000 + b"\n",
        b"ANON\n",
        b"\xff\n",
        b"SEND bob 2\nabc\n",
        b"QUIT\n",
    ]
)
STREAMS = st.lists(REQUEST_LINES, max_size=20).map(b"".join)
CUTS = st.lists(st.integers(0, 10_000), max_size=10)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut a stream into pieces."""
    inside = sorted(min(place, len(data)) for place in places)
    return [data[a:b] for a, b in pairwise([0, *inside, len(data)])]


def converse(pieces: list[bytes], turns: Iterable[int]) -> tuple[list[str], bytes]:
    """
    Hold a whole conversation.

    Args:
        pieces: what the peer says.
        turns: which of the messages that wait is answered next, each time.

    Returns:
        What was carried out, and what the peer heard.
    """
    budget = allowance(TOTAL)
    session = enter(budget=budget)
    turn = iter(turns)
    done: list[str] = []
    waiting: list[Posts] = []
    heard = b""
    for piece in [*pieces, b""]:
        session.receive(piece, 0)
        while True:
            event = session.next_event()
            if isinstance(event, Posts):
                done += [f"{post.tag}{post.to} {post.body!r}" for post in event.items]
                waiting.append(event)
            elif isinstance(event, Command):
                done.append(event.request.verb.name)
                lines = (("LINE 2", b"\n\n"),)
                session.answer(event, Answer(f"{len(done)}", lines))
            elif data := b"".join(session.data_to_send()):
                heard += data
            elif waiting and (piece or not pieces or not session.wants_data):
                accept(session, waiting.pop(next(turn, 0) % len(waiting)))
            else:
                break
    while waiting:
        accept(session, waiting.pop(next(turn, 0) % len(waiting)))
        assert session.next_event() is None or not session.finished
        heard += b"".join(session.data_to_send())
    assert session.data_to_send() == []
    session.close()
    assert session.finished
    assert budget.left == TOTAL
    return done, heard


class AnyStreamTests(SynchronousTestCase):
    """What holds for any conversation."""

    @given(STREAMS, CUTS, st.lists(st.integers(0, 5), max_size=30))
    @settings(deadline=None)
    def test_same_conversation(
        self, data: bytes, places: list[int], turns: list[int]
    ) -> None:
        """Neither cuts nor the order in which messages are stored change it."""
        whole = converse([data], [])
        assert converse(cut(data, places), turns) == whole
        assert converse(cut(data, range(0, len(data), 7)), turns) == whole

    @given(st.lists(st.binary(max_size=40) | REQUEST_LINES, max_size=20))
    @settings(deadline=None)
    def test_junk(self, pieces: list[bytes]) -> None:
        """Whatever comes, what is said is answers, line for line."""
        _, heard = converse(pieces, [])
        line = re.compile(rb"(#\w+ )?(\+OK|-ERR [a-z-]+ |\* )[^\n]*\n(\n\n\r\n)?")
        at = 0
        while at < len(heard):
            match = line.match(heard, at)
            assert match, heard[at:]
            at = match.end()
