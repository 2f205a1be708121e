"""A receiver inside another program: callbacks, and parts that it brings."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from twisted.application.service import IService
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from securerecv.assembly import callbacks
from securerecv.assembly.callbacks import (
    CALLBACK_TIMEOUT_S,
    MAX_UNDER_WAY,
    Callbacks,
)
from securerecv.embed import (
    ErrorCode,
    PeerError,
    ReceivedFile,
    ReceivedMessage,
    Receiver,
    Settings,
    Verdict,
    VerdictKind,
)
from securerecv.wire.sealing import SealedSender
from tests.support import (
    QUICK,
    Talker,
    add_accounts,
    anonymous,
    connect,
    logged_in,
    new_folder,
    pause,
    reactor,
    written_log,
)

SECRET = "the cellar door is open"


class Device(DatagramProtocol):
    """Sends datagrams, and hears whether there was an answer."""

    noisy = False

    def __init__(self) -> None:
        self.heard: Deferred[bytes] = Deferred()

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """Take the answer."""
        self.heard.callback(datagram)


class EmbeddedTestCase(TestCase):
    """A receiver in this process, with what a test brings."""

    def embed(self, proto: str = "tcp", **brought: Any) -> Receiver:
        """Start a receiver; alice and bob have accounts."""
        settings = Settings(
            proto=proto, port=0, interface="127.0.0.1", data=new_folder(self)
        )
        add_accounts(settings, alice="word", bob="word")
        receiver = Receiver(settings, reactor, **brought)
        receiver._work = QUICK
        receiver.privilegedStartService()
        receiver.startService()
        self.addCleanup(lambda: receiver.stopService() if receiver.running else None)
        return receiver

    async def last(self, receiver: Receiver, name: str) -> list[str]:
        """Give what a user's box holds."""
        talker = await logged_in(self, receiver, name, "word")
        return (await talker.ask("LAST"))[1:-1:2]


class CallbackTests(EmbeddedTestCase):
    """``on_message``."""

    async def test_told(self) -> None:
        """It is called with each message to a user, in order and in clear."""
        told: list[ReceivedMessage] = []
        receiver = self.embed(on_message=told.append)
        self.assertTrue(verifyObject(IService, receiver))
        talker = await logged_in(self, receiver, "alice", "word")
        before_ms = int(time.time() * 1000)
        answer = await talker.ask(b"SAY Bob hello\n#2 SEND bob 2\nh\xff\r\n")
        self.assertEqual(await talker.answer(), [f"#2 +OK {told[1].id}"])
        first, second = told
        self.assertEqual(answer, [f"+OK {first.id}"])
        self.assertEqual((first.to, first.sender), ("bob", "alice"))
        self.assertEqual((first.body, first.text), (b"hello", "hello"))
        self.assertLessEqual(before_ms, first.when_ms)
        self.assertEqual(int(first.when.timestamp() * 1000), first.when_ms)
        self.assertEqual(second.text, "h\ufffd")
        self.assertNotIn("hello", repr(first))

    async def test_after_the_commit(self) -> None:
        """When it is called the message is in the box."""
        seen: Deferred[list[str]] = Deferred()

        async def look(message: ReceivedMessage) -> None:
            seen.callback(await self.last(receiver, message.to))

        receiver = self.embed(on_message=look)
        talker, _ = await anonymous(self, receiver)
        await talker.ask(f"SAY bob {SECRET}")
        self.assertEqual(await seen, [SECRET])

    async def test_not_told(self) -> None:
        """Refused messages, and those to anonymous sessions, are not for it."""
        told: list[ReceivedMessage] = []
        receiver = self.embed(on_message=told.append)
        talker, address = await anonymous(self, receiver)
        await talker.ask("WATCH")
        talker.say(f"SAY {address} psst")
        self.assertIn(b"! MSG", await talker.take(b"psst\r\n"))
        self.assertTrue((await talker.line()).startswith("+OK "))
        self.assertIn("no-mailbox", (await talker.ask("SAY nobody hello"))[0])
        self.assertEqual(told, [])

    async def test_failures(self) -> None:
        """A callback that fails, now or later, loses nothing and says nothing."""

        def now(message: ReceivedMessage) -> None:
            raise ValueError(message.text)

        def later(message: ReceivedMessage) -> Deferred[None]:
            return fail(ValueError(message.text))

        async def coroutine(message: ReceivedMessage) -> None:
            await pause(0)
            raise ValueError(message.text)

        written = written_log(self)
        for callback in (now, later, coroutine):
            receiver = self.embed(on_message=callback)
            talker, _ = await anonymous(self, receiver)
            answer = await talker.ask(f"SAY bob {SECRET}")
            self.assertTrue(answer[0].startswith("+OK "), answer)
            self.assertEqual(await self.last(receiver, "bob"), [SECRET])
            await receiver.stopService()
        lines = [line for line in written.getvalue().splitlines() if "failed" in line]
        self.assertEqual(len(lines), 3, written.getvalue())
        for line in lines:
            self.assertIn("on_message failed", line)
            self.assertIn("ValueError", line)
        self.assertNotIn(SECRET, written.getvalue())

    async def test_sealed(self) -> None:
        """What comes in a sealed datagram is told as well."""
        told: Deferred[ReceivedMessage] = Deferred()
        receiver = self.embed("udp", on_message=told.callback)
        sender = SealedSender(receiver.identity.sealing_key)
        datagram = sender.seal(b"SAY bob from a device\n", time.time())
        port = reactor.listenUDP(0, Device(), "127.0.0.1")
        self.addCleanup(port.stopListening)
        port.write(datagram, ("127.0.0.1", receiver.ports["udp"][1]))
        message = await told
        self.assertEqual((message.sender, message.text), ("anon", "from a device"))

    async def test_senders_wait(self) -> None:
        """While too many callbacks have not finished, senders get no answers."""
        self.patch(callbacks, "MAX_UNDER_WAY", 2)
        under_way: list[Deferred[None]] = []

        def slow(_: ReceivedMessage) -> Deferred[None]:
            under_way.append(Deferred())
            return under_way[-1]

        receiver = self.embed(on_message=slow)
        talker, _ = await anonymous(self, receiver)
        for word in ("one", "two"):
            await talker.ask(f"SAY bob {word}")
        third = talker.answer()
        talker.say("SAY bob three")
        other = await connect(self, receiver)
        while len(under_way) < 3:
            await other.ask("PING")
        await other.ask("PING")
        self.assertEqual(talker.heard, b"")
        under_way[0].callback(None)
        self.assertTrue((await third)[0].startswith("+OK "))
        for done in under_way[1:]:
            done.callback(None)

    async def test_stop_waits(self) -> None:
        """The receiver stops when the callbacks under way have finished."""
        under_way: list[Deferred[None]] = []

        def slow(_: ReceivedMessage) -> Deferred[None]:
            under_way.append(Deferred())
            return under_way[-1]

        receiver = self.embed(on_message=slow)
        talker, _ = await anonymous(self, receiver)
        await talker.ask("SAY bob hello")
        stopped: list[object] = []
        stopping = receiver.stopService().addCallback(stopped.append)
        await talker.lost
        await pause(0.05)
        self.assertEqual(stopped, [])
        under_way[0].callback(None)
        await stopping


class TimeTests(SynchronousTestCase):
    """Callbacks that take too long."""

    def test_cancelled(self) -> None:
        """One that does not finish is cancelled, logged, and holds nobody back."""
        written = written_log(self)
        clock = Clock()
        cancelled: list[object] = []
        telling: Callbacks[int] = Callbacks(
            "on_message", lambda _: Deferred(cancelled.append), clock
        )
        self.assertIsNone(telling.tell(range(MAX_UNDER_WAY)))
        waiting = telling.tell([0])
        assert waiting is not None
        self.assertNoResult(waiting)
        clock.advance(CALLBACK_TIMEOUT_S - 1)
        self.assertNoResult(waiting)
        clock.advance(1)
        self.assertIsNone(self.successResultOf(waiting))
        self.assertEqual(len(cancelled), MAX_UNDER_WAY + 1)
        self.assertIn("on_message failed", written.getvalue())
        self.assertIn("TimeoutError", written.getvalue())

    def test_last_moments(self) -> None:
        """At the end nobody waits for ever."""
        written = written_log(self)
        clock = Clock()
        telling: Callbacks[int] = Callbacks("on_message", lambda _: Deferred(), clock)
        self.successResultOf(telling.finish(5))
        telling.tell([0])
        waiting = telling.finish(5)
        self.assertNoResult(waiting)
        clock.advance(5)
        self.successResultOf(waiting)
        self.assertIn("1 calls of on_message have not finished", written.getvalue())


class Shelf:
    """A store for messages that keeps them in memory."""

    def __init__(self) -> None:
        self.kept: list[ReceivedMessage] = []

    def keep(
        self, messages: Sequence[ReceivedMessage]
    ) -> Deferred[Mapping[int, PeerError]]:
        """Keep messages; carol has no box, and nothing is kept for dave."""
        if any(message.to == "dave" for message in messages):
            return fail(OSError("the shelf is broken"))
        refusal = PeerError(ErrorCode.NO_MAILBOX, "no carol here")
        self.kept += [message for message in messages if message.to != "carol"]
        return succeed(
            {at: refusal for at, to in enumerate(messages) if to.to == "carol"}
        )

    def last(self, user: str, count: int) -> Deferred[Sequence[ReceivedMessage]]:
        """Read the newest messages."""
        return succeed([m for m in self.kept if m.to == user][-count:])

    def read(self, user: str, message_id: str) -> Deferred[ReceivedMessage]:
        """Read one message."""
        for message in self.kept:
            if (message.to, message.id) == (user, message_id):
                return succeed(message)
        raise PeerError(ErrorCode.NO_SUCH_ID, "not on this shelf")

    async def _drop(self, user: str, message_id: str) -> None:
        self.kept.remove(await self.read(user, message_id))

    def drop(self, user: str, message_id: str) -> Deferred[None]:
        """Delete one message."""
        return Deferred.fromCoroutine(self._drop(user, message_id))


class Sniffer:
    """A scanner that smells one word."""

    refusal = ""

    def scan(self, descriptor: int, size: int) -> Deferred[Verdict]:
        """Look at a file."""
        if b"stinks" in os.pread(descriptor, size, 0):
            return succeed(Verdict(VerdictKind.INFECTED, "Stink.Test"))
        return succeed(Verdict(VerdictKind.CLEAN, database="nose 1"))

    def database_version(self) -> Deferred[str | None]:
        """There is only one."""
        return succeed("nose 1")

    def when_back(self, call: Callable[[], None]) -> None:
        """It is never away."""


class FileTests(EmbeddedTestCase):
    """``on_file``, and a scanner of the application's own."""

    async def put(self, talker: Talker, content: bytes, name: str) -> str:
        """Send a file to bob."""
        digest = sha256(content).hexdigest()
        answer = await talker.ask(f"PUT bob {len(content)} {digest} {name}")
        self.assertTrue(answer[0].startswith("+OK go "), answer)
        talker.say(content)
        received = await talker.line()
        self.assertTrue(received.startswith("+OK received "), received)
        return answer[0].split()[2]

    async def test_told(self) -> None:
        """It is told of each file, and what the scanner says of it."""
        told: list[ReceivedFile] = []
        enough: Deferred[None] = Deferred()

        def tell(file: ReceivedFile) -> None:
            told.append(file)
            if sum(one.state != "scanning" for one in told) == 2:
                enough.callback(None)

        receiver = self.embed(on_file=tell, scanner=Sniffer())
        self.assertEqual(receiver.office.scanner_words, "the application's")
        talker, _ = await anonymous(self, receiver)
        rose = await self.put(talker, b"a rose", "rose.txt")
        fish = await self.put(talker, b"it stinks", "fish.txt")
        await enough
        last = {file.id: file for file in told}
        self.assertEqual(set(last), {rose, fish})
        self.assertEqual(last[rose].state, "clean")
        self.assertEqual(last[rose].sha256, sha256(b"a rose").hexdigest())
        self.assertEqual((last[rose].to, last[rose].sender), ("bob", "anon"))
        self.assertEqual((last[rose].name, last[rose].size), ("rose.txt", 6))
        self.assertEqual(int(last[rose].when.timestamp() * 1000), last[rose].when_ms)
        self.assertEqual((last[fish].state, last[fish].why), ("infected", "Stink.Test"))
        self.assertNotIn("rose.txt", repr(told))
        bob = await logged_in(self, receiver, "bob", "word")
        self.assertTrue((await bob.ask(f"GET {rose}"))[-1].startswith("+OK 6 "))
        self.assertEqual(await bob.take(6), b"a rose")

    async def test_failure(self) -> None:
        """A callback that fails keeps no file from its owner."""

        def fails(_: ReceivedFile) -> None:
            raise ValueError(SECRET)

        written = written_log(self)
        receiver = self.embed(on_file=fails, scanner=Sniffer())
        talker, _ = await anonymous(self, receiver)
        rose = await self.put(talker, b"a rose", "rose.txt")
        bob = await logged_in(self, receiver, "bob", "word")
        answer = [""]
        while f"* FILE {rose} clean" not in answer[0]:
            answer = await bob.ask("FILES")
        self.assertIn("on_file failed", written.getvalue())
        self.assertNotIn(SECRET, written.getvalue())


class PartsTests(EmbeddedTestCase):
    """Parts that the application brings."""

    async def test_checker(self) -> None:
        """Who is who is the application's to say; its users may send."""
        users = InMemoryUsernamePasswordDatabaseDontUse(eve=b"apple")
        receiver = self.embed(checkers=[users])
        talker = await connect(self, receiver)
        self.assertIn("-ERR auth", (await talker.ask("LOGIN bob word"))[0])
        self.assertEqual(await talker.ask("LOGIN eve apple"), ["+OK you are eve"])
        self.assertTrue((await talker.ask("SAY bob hi"))[0].startswith("+OK "))
        self.assertIn("-ERR no-mailbox", (await talker.ask("LAST"))[0])

    async def store(self) -> tuple[Shelf, Talker]:
        """Log in where messages are on a shelf, and nobody has an account."""
        users = InMemoryUsernamePasswordDatabaseDontUse(eve=b"apple")
        shelf = Shelf()
        receiver = self.embed(checkers=[users], messages=shelf)
        return shelf, await logged_in(self, receiver, "eve", "apple")

    async def test_store(self) -> None:
        """Messages are kept, listed, read and dropped where the application says."""
        shelf, eve = await self.store()
        answers = [await eve.ask(f"SAY Eve {number}") for number in range(7)]
        newest = answers[-1][0].removeprefix("+OK ")
        self.assertEqual([message.text for message in shelf.kept], list("0123456"))
        self.assertEqual((await eve.ask("LAST"))[1::2], list("23456"))
        self.assertEqual((await eve.ask("LAST 2"))[1::2], list("56"))
        self.assertEqual(await eve.ask("LAST 0"), ["+OK 0 messages"])
        self.assertEqual((await eve.ask(f"READ {newest}"))[1], "6")
        self.assertEqual(await eve.ask(f"DROP {newest}"), ["+OK"])
        for verb in ("READ", "DROP"):
            self.assertIn("-ERR no-such-id", (await eve.ask(f"{verb} {newest}"))[0])

    async def test_store_refuses(self) -> None:
        """What the application's store does not take is refused, and only that."""
        written = written_log(self)
        shelf, eve = await self.store()
        eve.say("#1 SAY ?! x\n#2 SAY carol x\n#3 SAY eve x")
        answers = [(await eve.answer())[0] for _ in range(3)]
        self.assertEqual(
            [" ".join(answer.split()[:3]) for answer in answers[:2]],
            ["#1 -ERR no-mailbox", "#2 -ERR no-mailbox"],
        )
        self.assertEqual(answers[2], f"#3 +OK {shelf.kept[0].id}")
        self.assertIn("-ERR internal", (await eve.ask("SAY dave x"))[0])
        self.assertIn("the shelf is broken", written.getvalue())
        self.flushLoggedErrors(OSError)

    async def test_store_anonymous(self) -> None:
        """An anonymous session has no box there either."""
        receiver = self.embed(messages=Shelf())
        talker, _ = await anonymous(self, receiver)
        for verb in ("READ", "DROP"):
            answer = await talker.ask(f"{verb} 0123456789abcdef")
            self.assertIn("-ERR no-such-id", answer[0])
        self.assertEqual(await talker.ask("LAST"), ["+OK 0 messages"])

    async def test_store_and_datagrams(self) -> None:
        """A sealed datagram is kept there once, also when it comes again later."""
        shelf = Shelf()
        receiver = self.embed("udp", messages=shelf)
        sender = SealedSender(receiver.identity.sealing_key)
        datagram = sender.seal(b"#1 SAY bob from a device\n", time.time())
        for _ in range(2):
            listener = Device()
            port = reactor.listenUDP(0, listener, "127.0.0.1")
            port.write(datagram, ("127.0.0.1", receiver.ports["udp"][1]))
            if not shelf.kept:
                await listener.heard
            else:
                await pause(0.1)
            await port.stopListening()
            self.assertEqual([m.text for m in shelf.kept], ["from a device"])
            await receiver.stopService()
            receiver = Receiver(receiver.settings, reactor, messages=shelf)
            receiver.startService()
        self.addCleanup(receiver.stopService)
