"""Conversations over TLS with a real server on loopback."""

from __future__ import annotations

from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from securerecv import limits
from securerecv.intake.accountbook import open_account_book
from securerecv.net.tlsport import ListenTls, listen_tls, listen_tls_by_twisted
from securerecv.settings import Settings
from tests.support import (
    QUICK,
    add_accounts,
    anonymous,
    connect,
    dial,
    dialling,
    logged_in,
    new_folder,
    pause,
    remove_account,
    resident_bytes,
    start_receiver,
)


class ConversationTests(TestCase):
    """What people say to each other."""

    listen: ListenTls = staticmethod(listen_tls)

    def setUp(self) -> None:
        """Start a receiver."""
        self.settings = Settings(
            proto="tcp", port=0, interface="127.0.0.1", data=new_folder(self)
        )
        add_accounts(self.settings, alice="wonder land", bob="builder")
        self.receiver = start_receiver(self, self.settings, listen=self.listen)

    async def test_greeting(self) -> None:
        """The server introduces itself in four lines."""
        talker = await dial(self, self.receiver.ports["tcp"][1])
        lines = [await talker.line() for _ in range(4)]
        self.assertEqual(lines[0], "* securerecv/1 ready")
        self.assertIn("legal use only", lines[1])
        self.assertTrue(lines[1].startswith("* NOTICE "))
        self.assertEqual(
            lines[2],
            "* LIMITS message=1048576 file=104857600 keep=5 anonymous=yes",
        )
        self.assertEqual(
            lines[3],
            "* HINT LOGIN <user> <password>, or ANON; HELP lists every command",
        )

    async def test_anonymous_to_user(self) -> None:
        """What an anonymous session sends is in the user's box afterwards."""
        sender, address = await anonymous(self, self.receiver)
        self.assertRegex(address, r"^anon-[a-z0-9]{16}$")
        said = await sender.ask("SAY alice hello, you")
        sent = await sender.ask(b"SEND alice 7\na\nb\r\nc\0\r\n")
        alice = await logged_in(self, self.receiver, "alice", "wonder land")
        box = await alice.ask("LAST")
        self.assertEqual(box[1], "hello, you")
        self.assertEqual(box[3], "a\nb\r\nc\0")
        self.assertEqual(box[-1], "+OK 2 messages")
        for heading, answer, size in ((box[0], said, 10), (box[2], sent, 7)):
            star, kind, number, sender_name, when, count = heading.split(" ")
            self.assertEqual((star, kind, sender_name), ("*", "MSG", "anon"))
            self.assertEqual([f"+OK {number}"], answer)
            self.assertRegex(when, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertEqual(int(count), size)

    async def test_five_are_kept(self) -> None:
        """Of seven messages the last five are left, also after they settled."""
        bob = await logged_in(self, self.receiver, "bob", "builder")
        for number in range(7):
            await bob.ask(f"SAY Alice message {number}")
        alice = await logged_in(self, self.receiver, "ALICE", "wonder land")
        expected = [f"message {number}" for number in range(2, 7)]
        box = await alice.ask("LAST")
        self.assertEqual(box[1::2], expected)
        await pause(0.6)
        self.assertEqual(await alice.ask("LAST 9"), box)
        self.assertEqual((await alice.ask("LAST 2"))[1::2], expected[-2:])
        self.assertEqual(await alice.ask("LAST 0"), ["+OK 0 messages"])

    async def test_pipelined(self) -> None:
        """Requests sent in one go are answered in order, each with its tag."""
        bob = await logged_in(self, self.receiver, "bob", "builder")
        bob.say(
            b"#a SAY bob one\n#b SEND bob 3\ntwo\r\nPING\n#c LAST\n#d WHOAMI\n"
            b"SAY nobody x\n#e QUIT\n"
        )
        answers = [await bob.answer() for _ in range(7)]
        self.assertRegex(answers[0][0], r"^#a \+OK [0-9a-f]{16}$")
        self.assertRegex(answers[1][0], r"^#b \+OK [0-9a-f]{16}$")
        self.assertEqual(answers[2], ["+OK pong"])
        self.assertTrue(answers[3][0].startswith("#c * MSG "))
        self.assertEqual(answers[3][1::2], ["one", "two"])
        self.assertEqual(answers[3][-1], "#c +OK 2 messages")
        self.assertEqual(answers[4], ["#d +OK bob"])
        self.assertTrue(answers[5][0].startswith("-ERR no-mailbox "))
        self.assertTrue(answers[6][0].startswith("#e +OK"))
        await bob.lost

    async def test_read_and_drop(self) -> None:
        """One message can be read and deleted; then it is gone."""
        bob = await logged_in(self, self.receiver, "bob", "builder")
        first = (await bob.ask("SAY bob first"))[0].removeprefix("+OK ")
        second = (await bob.ask("SAY bob second"))[0].removeprefix("+OK ")
        self.assertEqual((await bob.ask(f"READ {first}"))[1], "first")
        self.assertEqual(await bob.ask(f"DROP {first}"), ["+OK"])
        for verb in ("READ", "DROP"):
            for number in (first, "feed", "xyz", "0" * 16):
                answer = await bob.ask(f"{verb} {number}")
                self.assertTrue(answer[0].startswith("-ERR no-such-id "), answer)
        self.assertEqual((await bob.ask("LAST"))[1::2], ["second"])
        await pause(0.4)
        self.assertEqual(await bob.ask(f"DROP {second}"), ["+OK"])
        self.assertEqual(await bob.ask("LAST"), ["+OK 0 messages"])

    async def test_watch(self) -> None:
        """A watching user is told of each message; after UNWATCH no more."""
        alice = await logged_in(self, self.receiver, "alice", "wonder land")
        bob = await logged_in(self, self.receiver, "bob", "builder")
        self.assertEqual(await alice.ask("WATCH"), ["+OK"])
        self.assertEqual(await alice.ask("WATCH"), ["+OK"])
        number = (await bob.ask(b"SEND ALICE 2\n\n\n\r\n"))[0].removeprefix("+OK ")
        heading = await alice.line()
        self.assertRegex(heading, rf"^! MSG {number} bob \S+ 2$")
        self.assertEqual(await alice.take(4), b"\n\n\r\n")
        self.assertEqual(await alice.ask("UNWATCH"), ["+OK"])
        await bob.ask("SAY alice unseen")
        self.assertEqual(await alice.ask("PING"), ["+OK pong"])
        self.assertEqual(len((await alice.ask("LAST"))[1::2]), 2)

    async def test_anonymous_receives_live(self) -> None:
        """An anonymous address gets messages while it watches, and keeps none."""
        watcher, address = await anonymous(self, self.receiver)
        sender, _ = await anonymous(self, self.receiver)
        answer = await sender.ask(f"SAY {address} too early")
        self.assertTrue(answer[0].startswith("-ERR no-mailbox "), answer)
        await watcher.ask("WATCH")
        answer = await sender.ask(f"SAY {address} psst")
        self.assertTrue(answer[0].startswith("+OK "), answer)
        self.assertRegex(await watcher.line(), r"^! MSG [0-9a-f]{16} anon \S+ 4$")
        self.assertEqual(await watcher.take(6), b"psst\r\n")
        self.assertEqual(await watcher.ask("LAST"), ["+OK 0 messages"])
        await watcher.hang_up()
        await pause(0.05)
        answer = await sender.ask(f"SAY {address} too late")
        self.assertTrue(answer[0].startswith("-ERR no-mailbox "), answer)

    async def test_wrong_login(self) -> None:
        """An unknown user and a wrong password are told the same."""
        talker = await connect(self, self.receiver)
        unknown = await talker.ask("LOGIN mallory wonder land")
        wrong = await talker.ask("LOGIN alice wonderland")
        strange = await talker.ask("LOGIN ../etc wonder land")
        self.assertTrue(unknown[0].startswith("-ERR auth "), unknown)
        self.assertEqual(unknown, wrong)
        self.assertEqual(unknown, strange)
        right = await talker.ask("LOGIN alice wonder land")
        self.assertEqual(right, ["+OK you are alice"])
        answer = await talker.ask("LOGIN bob builder")
        self.assertTrue(answer[0].startswith("-ERR not-allowed "), answer)

    async def test_login_first(self) -> None:
        """Nothing but looking around is for those who have not logged in."""
        talker = await connect(self, self.receiver)
        for request in (
            "SAY bob x",
            b"SEND bob 3\nabc\r\n",
            "LAST",
            "READ 1",
            "DROP 1",
            "WATCH",
            "FILES",
            "PASSWD x",
            "TOKEN LIST",
        ):
            answer = await talker.ask(request)
            self.assertTrue(answer[0].startswith("-ERR login-first "), answer)
        for request in ("PING", "NOTICE", "WHOAMI", "HELP", "KEY"):
            answer = await talker.ask(request)
            self.assertTrue(answer[-1].startswith("+OK"), answer)

    async def test_change_password(self) -> None:
        """A new password opens the same box, and other sessions must log in anew."""
        alice = await logged_in(self, self.receiver, "alice", "wonder land")
        elsewhere = await logged_in(self, self.receiver, "alice", "wonder land")
        await alice.ask("SAY alice before")
        self.assertEqual(await alice.ask("PASSWD through the glass"), ["+OK"])
        self.assertTrue((await elsewhere.line()).startswith("! CLOSING "))
        await elsewhere.lost
        self.assertEqual((await alice.ask("LAST"))[1::2], ["before"])
        talker = await connect(self, self.receiver)
        answer = await talker.ask("LOGIN alice wonder land")
        self.assertTrue(answer[0].startswith("-ERR auth "), answer)
        again = await logged_in(self, self.receiver, "alice", "through the glass")
        self.assertEqual((await again.ask("LAST"))[1::2], ["before"])

    async def test_no_password(self) -> None:
        """What is no password is a wrong argument, and nothing changes."""
        alice = await logged_in(self, self.receiver, "alice", "wonder land")
        usage = "-ERR usage PASSWD <new password to end of line>"
        for password, words in (
            ("", ""),
            (" ", ": a password has at least one character that is no blank"),
            ("a\0b", ": a password is one line, without NUL"),
            ("x" * 1025, ": a password has at most 1024 characters"),
            ("🪿" * 800, ": a password has at most 3072 bytes"),
        ):
            answer = await alice.ask(f"PASSWD {password}")
            self.assertEqual(answer, [usage + words])
        for password in ("", " ", "a\0b", "x" * 1025, "wonder land"):
            talker = await connect(self, self.receiver)
            answer = await talker.ask(f"LOGIN alice {password}")
            codes = {"": "-ERR usage", "wonder land": "+OK you"}
            expected = codes.get(password, "-ERR auth")
            self.assertTrue(answer[0].startswith(expected), answer)

    async def test_change_password_by_stranger(self) -> None:
        """An anonymous session has no password to change."""
        talker, _ = await anonymous(self, self.receiver)
        answer = await talker.ask("PASSWD x")
        self.assertTrue(answer[0].startswith("-ERR not-allowed "), answer)

    async def test_no_files_without_a_scanner(self) -> None:
        """Without a scanner files are refused, and the talk goes on."""
        bob = await logged_in(self, self.receiver, "bob", "builder")
        for request, expected in (
            (f"PUT bob 3 {'0' * 64} name", "-ERR no-scanner "),
            ("FILES", "+OK 0 files"),
            ("GET 1", "-ERR no-such-id "),
        ):
            answer = await bob.ask(request)
            self.assertTrue(answer[0].startswith(expected), answer)

    async def test_accounts_change_meanwhile(self) -> None:
        """Accounts that are added or removed beside the server are noticed."""
        bob = await logged_in(self, self.receiver, "bob", "builder")
        answer = await bob.ask("SAY carol hi")
        self.assertTrue(answer[0].startswith("-ERR no-mailbox "), answer)
        add_accounts(self.settings, carol="christmas")
        answer = await bob.ask("SAY carol hi")
        self.assertTrue(answer[0].startswith("+OK "), answer)
        carol = await logged_in(self, self.receiver, "carol", "christmas")
        remove_account(self.settings, "carol")
        answer = await bob.ask("SAY carol are you there")
        self.assertTrue(answer[0].startswith("-ERR no-mailbox "), answer)
        answer = await carol.ask("LAST")
        self.assertTrue(answer[0].startswith("-ERR no-mailbox "), answer)
        # The same name again is another box: nothing of the old one is in it.
        add_accounts(self.settings, carol="easter")
        answer = await bob.ask("SAY carol welcome")
        self.assertTrue(answer[0].startswith("+OK "), answer)
        carol = await logged_in(self, self.receiver, "carol", "easter")
        self.assertEqual((await carol.ask("LAST"))[1::2], ["welcome"])

    async def test_another_of_the_name(self) -> None:
        """A session of a removed account gets nothing of the next of its name."""
        add_accounts(self.settings, carol="christmas")
        before = await logged_in(self, self.receiver, "carol", "christmas")
        await before.ask("SAY carol mine")
        self.assertEqual((await before.ask("LAST"))[1], "mine")
        remove_account(self.settings, "carol")
        add_accounts(self.settings, carol="easter")
        bob = await logged_in(self, self.receiver, "bob", "builder")
        number = (await bob.ask("SAY carol yours"))[0].removeprefix("+OK ")
        for request in ("LAST", f"READ {number}", f"DROP {number}", "PASSWD stolen"):
            answer = await before.ask(request)
            self.assertTrue(answer[0].startswith("-ERR auth "), answer)
        after = await logged_in(self, self.receiver, "carol", "easter")
        self.assertEqual((await after.ask("LAST"))[1::2], ["yours"])

    async def test_account_changed_beside(self) -> None:
        """A session ends when its account is removed or gets another password."""
        for change in ("remove", "password"):
            carol = "carol" + change
            add_accounts(self.settings, QUICK, **{carol: "christmas"})
            session = await logged_in(self, self.receiver, carol, "christmas")
            await session.ask("WATCH")
            if change == "remove":
                remove_account(self.settings, carol)
            else:
                book = open_account_book(self.settings, QUICK)
                book.change_password(carol, "christmas", "easter")
                book.close()
            await self.receiver.office.presence.check()
            self.assertTrue((await session.line()).startswith("! CLOSING your account"))
            await session.lost
        bob = await logged_in(self, self.receiver, "bob", "builder")
        await self.receiver.office.presence.check()
        self.assertEqual(await bob.ask("PING"), ["+OK pong"])

    async def test_stop_finishes(self) -> None:
        """Messages on their way when the server stops are stored and answered."""
        bob = await logged_in(self, self.receiver, "bob", "builder")
        bob.say("".join(f"SAY bob {number}\n" for number in range(300)).encode())
        first = await bob.answer()
        self.assertTrue(first[0].startswith("+OK "), first)
        stopped = self.receiver.stopService()
        answered = 1
        closing = ""
        while not closing:
            line = await bob.line()
            if line.startswith("! CLOSING"):
                closing = line
            else:
                self.assertTrue(line.startswith("+OK "), line)
                answered += 1
        await bob.lost
        await stopped
        self.receiver = start_receiver(self, self.settings, listen=self.listen)
        bob = await logged_in(self, self.receiver, "bob", "builder")
        box = (await bob.ask("LAST"))[1::2]
        self.assertGreaterEqual(int(box[-1]), answered - 1)


class LimitTests(TestCase):
    """What a peer cannot do to the others."""

    listen: ListenTls = staticmethod(listen_tls)

    def setUp(self) -> None:
        """Start a receiver."""
        self.settings = Settings(
            proto="tcp",
            port=0,
            interface="127.0.0.1",
            data=new_folder(self),
            max_message=100_000,
            anonymous=False,
        )
        add_accounts(self.settings, alice="a", bob="b")
        self.receiver = start_receiver(self, self.settings, listen=self.listen)

    async def test_no_anonymous(self) -> None:
        """A server that wants logins says so and refuses ANON."""
        talker = await dial(self, self.receiver.ports["tcp"][1])
        lines = [await talker.line() for _ in range(4)]
        self.assertTrue(lines[2].endswith(" anonymous=no"))
        self.assertNotIn("ANON", lines[3])
        answer = await talker.ask("ANON")
        self.assertTrue(answer[0].startswith("-ERR not-allowed "), answer)

    async def test_too_large(self) -> None:
        """A payload over the limit is refused before it comes, and read past."""
        bob = await logged_in(self, self.receiver, "bob", "b")
        answer = await bob.ask("SEND alice 100001")
        self.assertTrue(answer[0].startswith("-ERR too-large "), answer)
        bob.say(b"QUIT\n" * 20_000 + b"x\r\n")
        self.assertEqual(await bob.ask("PING"), ["+OK pong"])
        largest = b"x" * 100_000
        answer = await bob.ask(b"SEND alice 100000\n" + largest + b"\r\n")
        self.assertTrue(answer[0].startswith("+OK "), answer)
        alice = await logged_in(self, self.receiver, "alice", "a")
        self.assertEqual((await alice.ask("LAST"))[1], largest.decode())

    async def test_far_too_large(self) -> None:
        """Nobody reads past terabytes: the peer is told and left."""
        bob = await logged_in(self, self.receiver, "bob", "b")
        answer = await bob.ask("SEND alice 999999999999")
        self.assertTrue(answer[0].startswith("-ERR too-large "), answer)
        await bob.lost

    async def test_long_line(self) -> None:
        """A line over the limit is refused, however long it goes on."""
        bob = await logged_in(self, self.receiver, "bob", "b")
        bob.say(b"SAY alice " + b"x" * limits.MAX_LINE_BYTES)
        answer = await bob.answer()
        self.assertTrue(answer[0].startswith("-ERR too-large "), answer)
        bob.say(b"x" * 500_000 + b"\nPING\n")
        self.assertEqual(await bob.answer(), ["+OK pong"])

    async def test_junk(self) -> None:
        """Junk is answered with the way out of it, line for line."""
        bob = await logged_in(self, self.receiver, "bob", "b")
        bob.say(bytes(range(256)) * 8)
        bob.say(b"\nPING\n")
        answers: list[list[str]] = []
        while not answers or answers[-1] != ["+OK pong"]:
            answers.append(await bob.answer())
        self.assertGreater(len(answers), 8)
        for answer in answers[:-1]:
            self.assertEqual(answer, ["-ERR usage HELP lists every command"])

    async def test_never_reads(self) -> None:
        """Answers that nobody reads are not made without end."""
        bob = await logged_in(self, self.receiver, "bob", "b")
        await bob.ask(b"SEND bob 100000\n" + b"x" * 100_000 + b"\r\n")
        greedy = await logged_in(self, self.receiver, "bob", "b")
        transport = greedy.transport
        assert transport is not None
        transport.pauseProducing()  # type: ignore[attr-defined] # it is a TCP one
        greedy.say(b"LAST\n" * 10_000)
        await pause(0.5)
        self.assertEqual(await bob.ask("PING"), ["+OK pong"])
        before = resident_bytes()
        greedy.say(b"LAST\n" * 100_000)
        await pause(1.0)
        self.assertEqual(await bob.ask("PING"), ["+OK pong"])
        self.assertLess(resident_bytes() - before, 30_000_000)

    async def test_slow_watcher(self) -> None:
        """A user who watches and does not read is cut off, the sender is not."""
        alice = await logged_in(self, self.receiver, "alice", "a")
        await alice.ask("WATCH")
        transport = alice.transport
        assert transport is not None
        transport.pauseProducing()  # type: ignore[attr-defined] # it is a TCP one
        bob = await logged_in(self, self.receiver, "bob", "b")
        sent = 0
        while len(self.receiver.gate) == 2 and sent < 400:
            answer = await bob.ask(b"SEND alice 99999\n" + b"x" * 99_999 + b"\r\n")
            self.assertTrue(answer[0].startswith("+OK "), answer)
            sent += 1
        self.assertEqual(len(self.receiver.gate), 1)
        transport.resumeProducing()  # type: ignore[attr-defined] # it is a TCP one
        await alice.lost

    async def test_silent_connections(self) -> None:
        """A thousand connections that say nothing keep nobody out."""
        port = self.receiver.ports["tcp"][1]
        silent = []
        for _ in range(10):
            batch = [dialling(self, port) for _ in range(100)]
            silent += await gatherResults(batch)
        bob = await logged_in(self, self.receiver, "bob", "b")
        self.assertEqual(await bob.ask("PING"), ["+OK pong"])
        self.assertEqual(len(self.receiver.gate), 1001)
        await gatherResults([talker.hang_up() for talker in silent])


class TwistedConversationTests(ConversationTests):
    """The same over Twisted's own TLS."""

    listen = staticmethod(listen_tls_by_twisted)


class TwistedLimitTests(LimitTests):
    """The same over Twisted's own TLS."""

    listen = staticmethod(listen_tls_by_twisted)
