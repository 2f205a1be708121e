"""The client: addresses, trust, and conversations with servers good and bad."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from OpenSSL import SSL
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test.iosim import FakeTransport, IOPump
from twisted.test.iosim import connect as join
from twisted.trial.unittest import SynchronousTestCase, TestCase

from securerecv import client as client_package
from securerecv.client.address import ServerAddress
from securerecv.client.channel import ANSWER_TIMEOUT_S, LOGIN_TIMEOUT_S
from securerecv.client.client import Client
from securerecv.client.connect import connect
from securerecv.client.errors import (
    DisconnectedError,
    UnknownServerError,
    UnreachableError,
    UntrustedServerError,
)
from securerecv.client.incoming import Incoming
from securerecv.client.keepalive import PING_INTERVAL_S, keep_alive
from securerecv.client.knownservers import KnownServers, default_path
from securerecv.client.tcp import CONNECT_TIMEOUT_S, TcpChannel
from securerecv.client.tlswords import tls_words
from securerecv.client.trust import Trust, only, parse_pins
from securerecv.errors import ErrorCode, MisuseError, OperatorError, PeerError
from securerecv.limits import MAX_LINE_BYTES, MIN_PAYLOAD_BYTES_PER_S
from securerecv.net.tls import ClientTls, ServerTls
from securerecv.service import Receiver
from securerecv.settings import Settings
from securerecv.vault.certificates import self_made_certificate
from securerecv.wire.lines import Answer, Message, piece
from securerecv.wire.replies import NotUnderstoodError
from securerecv.wire.session import Terms
from tests.support import add_accounts, new_folder, start_receiver

reactor: Any = _reactor

Problem = TypeVar("Problem", bound=Exception)

SERVER = ServerAddress("example.org", 7443)
ONE_PIN = "sha256//" + "A" * 43 + "="
OTHER_PIN = "sha256//" + "B" * 43 + "="
GREETING = Terms(100_000, 1, 5, True, bytes(32)).greeting()


def anybody(_: str) -> None:
    """Trust everybody, which only a test may do."""


async def failing(deferred: Deferred[Any], kind: type[Problem]) -> Problem:
    """Wait for a Deferred to fail, and give what it fails with."""
    try:
        result = await deferred
    except kind as error:
        return error
    raise AssertionError(f"{result!r} and no {kind.__name__}")


class AddressTests(SynchronousTestCase):
    """Servers as people write them."""

    def test_forms(self) -> None:
        """Names and addresses are read with and without a port."""
        for written, host, port in [
            ("Example.org", "example.org", 7443),
            ("localhost:1", "localhost", 1),
            ("127.0.0.1:65535", "127.0.0.1", 65535),
            ("[::1]:99", "::1", 99),
            ("[fe80::1%eth0]", "fe80::1%eth0", 7443),
            ("::1", "::1", 7443),
            ("2001:DB8::7443", "2001:db8::7443", 7443),
        ]:
            address = ServerAddress.parse(written)
            self.assertEqual((address.host, address.port), (host, port))
            self.assertEqual(ServerAddress.parse(str(address)), address)

    def test_nonsense(self) -> None:
        """What is no address is refused."""
        for written in [
            *("", ":1", "a:", "a:0", "a:65536", "a:b", "a b", "[a]", "a:1:2"),
            *("[::1", "::1]", "a:1\n"),
        ]:
            self.assertRaises(ValueError, ServerAddress.parse, written)


class PinTests(SynchronousTestCase):
    """Pins that are given."""

    def test_pins(self) -> None:
        """One pin or several are read; what is none is refused."""
        self.assertEqual(parse_pins(ONE_PIN), (ONE_PIN,))
        self.assertEqual(parse_pins(f"{ONE_PIN}; {OTHER_PIN}"), (ONE_PIN, OTHER_PIN))
        for written in ("", "sha256//", ONE_PIN[8:], f"{ONE_PIN};", "sha1//AA="):
            self.assertRaises(ValueError, parse_pins, written)

    def test_only(self) -> None:
        """A server with one of the pins is trusted, and no other."""
        trust = only((ONE_PIN,))
        trust(ONE_PIN)
        self.assertRaises(UntrustedServerError, trust, OTHER_PIN)


class KnownServersTests(SynchronousTestCase):
    """Keys of servers, remembered on first use."""

    def setUp(self) -> None:
        """Choose a file that is not there yet, in a folder that is not either."""
        self.path = Path(self.mktemp()).absolute() / "config" / "known_servers"
        self.known = KnownServers(self.path)

    def test_first_use(self) -> None:
        """An unknown server is refused with its pin; remembered, it is trusted."""
        error = self.assertRaises(UnknownServerError, self.known.check, SERVER, ONE_PIN)
        self.assertEqual(error.pin, ONE_PIN)
        self.known.remember(SERVER, ONE_PIN)
        self.known.remember(SERVER, ONE_PIN)
        self.known.check(SERVER, ONE_PIN)
        self.assertEqual(self.path.read_text(), f"example.org:7443 {ONE_PIN}\n")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.path.parent.stat().st_mode & 0o777, 0o700)
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_changed_key(self) -> None:
        """A changed key is refused; the words name the line and the file."""
        other = ServerAddress("::1", 1)
        self.known.remember(other, OTHER_PIN)
        self.known.remember(SERVER, ONE_PIN)
        for refuse in (self.known.check, self.known.remember):
            error = self.assertRaises(UntrustedServerError, refuse, SERVER, OTHER_PIN)
            self.assertNotIsInstance(error, UnknownServerError)
            self.assertIn(f"line 2 from {self.path}", str(error))
            self.assertIn(ONE_PIN, str(error))
            self.assertIn(OTHER_PIN, str(error))
        self.known.check(other, OTHER_PIN)

    def test_many_at_once(self) -> None:
        """Servers that are remembered at the same time are all remembered."""
        servers = [ServerAddress("localhost", port) for port in range(1, 33)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda s: self.known.remember(s, ONE_PIN), servers))
        for server in servers:
            self.known.check(server, ONE_PIN)

    def test_by_hand(self) -> None:
        """Comments stay; a line that is wrong is named and trusts nobody."""
        self.path.parent.mkdir(parents=True)
        self.path.write_text(f"# mine\n\nlocalhost:1 {ONE_PIN}")
        self.known.remember(SERVER, OTHER_PIN)
        self.assertEqual(
            self.path.read_text(),
            f"# mine\n\nlocalhost:1 {ONE_PIN}\nexample.org:7443 {OTHER_PIN}\n",
        )
        self.path.write_text("# mine\nexample.org:7443 sha256//\n")
        error = self.assertRaises(OperatorError, self.known.check, SERVER, ONE_PIN)
        self.assertIn("line 2", str(error))

    def test_unusable_file(self) -> None:
        """A file that cannot be read or made is named, with the reason."""
        self.path.mkdir(parents=True)
        error = self.assertRaises(OperatorError, self.known.check, SERVER, ONE_PIN)
        self.assertEqual(str(error), f"{self.path}: Is a directory")
        self.path.rmdir()
        self.path.write_bytes(b"\xff")
        self.assertRaises(OperatorError, self.known.check, SERVER, ONE_PIN)
        below = KnownServers(self.path / "below" / "known_servers")
        self.assertRaises(OperatorError, below.remember, SERVER, ONE_PIN)

    def test_failed_write(self) -> None:
        """A write that fails leaves the old file and nothing else."""
        self.known.remember(SERVER, ONE_PIN)

        def fail(_: int) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", fail)
        other = ServerAddress("other", 1)
        error = self.assertRaises(OperatorError, self.known.remember, other, ONE_PIN)
        self.assertIn("No space left", str(error))
        self.assertEqual(self.path.read_text(), f"example.org:7443 {ONE_PIN}\n")
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_place(self) -> None:
        """The file is in the XDG configuration folder, when that is absolute."""
        self.assertEqual(
            default_path({"XDG_CONFIG_HOME": "/x"}), Path("/x/securerecv/known_servers")
        )
        usual = Path.home() / ".config" / "securerecv" / "known_servers"
        self.assertEqual(default_path({"XDG_CONFIG_HOME": "x"}), usual)
        self.assertEqual(default_path({}), usual)


class Script(Protocol):
    """A server that says only what a test tells it to, and keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""

    def dataReceived(self, data: bytes) -> None:
        """Keep what came."""
        self.heard += data

    def say(self, data: bytes) -> None:
        """Say it."""
        transport: Any = self.transport
        transport.write(data)

    def hang_up(self) -> None:
        """Close the connection."""
        transport: Any = self.transport
        transport.loseConnection()


def server_tls(test: SynchronousTestCase) -> ServerTls:
    """Make a server's TLS identity."""
    folder = Path(test.mktemp()).absolute()
    folder.mkdir(parents=True)
    certificate, key = self_made_certificate()
    (folder / "certificate").write_bytes(certificate)
    (folder / "key").write_bytes(key)
    return ServerTls(folder / "certificate", folder / "key")


class ScriptedTests(SynchronousTestCase):
    """A client and a scripted server, over TLS in memory, by the clock."""

    def setUp(self) -> None:
        """Make what both ends need."""
        self.clock = Clock()
        self.tls = server_tls(self)

    def tearDown(self) -> None:
        """No alarm is left set when a conversation is over."""
        self.pump.client.transport.abortConnection()
        self.pump.flush()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def start(self, greeting: bytes = GREETING, trust: Trust = anybody) -> None:
        """Connect, and let the server say something."""
        self.script = Script()
        self.channel = TcpChannel(trust, self.clock)
        server = TLSMemoryBIOFactory(
            self.tls,
            False,
            Factory.forProtocol(lambda: self.script),
            clock=self.clock,
        ).buildProtocol(None)
        client = TLSMemoryBIOFactory(
            ClientTls(),
            True,
            Factory.forProtocol(lambda: self.channel),
            clock=self.clock,
        ).buildProtocol(None)
        self.pump: IOPump = join(
            server,
            FakeTransport(server, True),
            client,
            FakeTransport(client, False),
            clock=self.clock,
        )
        self.pump.flush()
        self.say(greeting)

    def say(self, data: bytes) -> None:
        """Let the server say something."""
        self.script.say(data)
        self.pump.flush()

    def client(self) -> Client:
        """Give the client, once the server has greeted."""
        self.start()
        self.successResultOf(self.channel.ready)
        return Client(self.channel)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.pump.flush()

    def fails(self, deferred: Deferred[Any], kind: type[Exception], words: str) -> None:
        """See that a Deferred has failed, and how."""
        self.pump.flush()
        failure = self.failureResultOf(deferred, kind)
        self.assertIn(words, str(failure.value))

    # -- files --------------------------------------------------------------------

    def put(self, read: Callable[[int], bytes], size: int = 5) -> Deferred[Answer]:
        """Begin to send a file."""
        self.client()

        class From:
            """Where it is sent from."""

            def __init__(self) -> None:
                self.size = size

            def read(self, offset: int, _size: int) -> bytes:
                """Read."""
                return read(offset)

            def sent(self, count: int) -> None:
                """Take no notice."""

        sent = self.channel.upload("PUT", From())
        self.pump.flush()
        return sent

    def test_sent_too_early(self) -> None:
        """A server that answers before it has all of a file is left."""

        def answer_now(_offset: int) -> bytes:
            self.channel.dataReceived(b"#1 -ERR full no room\n")
            return b"x"

        sent = self.put(answer_now)
        self.say(b"#1 +OK go 1 0\n")
        self.fails(sent, DisconnectedError, "before it had all of the file")

    def test_wants_what_is_not_there(self) -> None:
        """A server that wants more than there is is left."""
        for words in (b"go 1 6", b"go 1", b"gone"):
            sent = self.put(lambda _: b"x")
            self.say(b"#1 +OK %b\n" % words)
            self.pump.flush()
            self.failureResultOf(sent, NotUnderstoodError)

    def test_silent_behind_a_file(self) -> None:
        """A server that has a file has time to answer, for each of its bytes."""
        size = 10 * MIN_PAYLOAD_BYTES_PER_S
        sent = self.put(lambda offset: bytes(size - offset), size)
        self.advance(ANSWER_TIMEOUT_S - 1)
        self.say(b"#1 +OK go 1 0\n")
        self.assertEqual(len(self.script.heard), len(b"#1 PUT\n") + size)
        self.advance(ANSWER_TIMEOUT_S + 9)
        self.assertNoResult(sent)
        self.advance(2)
        self.fails(sent, DisconnectedError, "did not answer within 70 seconds")

    def test_receipts(self) -> None:
        """Nonsense about a file is noticed."""
        for words in (b"received", b"received 1 eaten", b"no"):
            client = self.client()
            sent = client.put("bob", BytesIO(b""), "x")
            self.pump.flush()
            self.say(b"#1 +OK go 1 0\n")
            self.say(b"#1 +OK %b\n" % words)
            self.failureResultOf(sent, NotUnderstoodError)

    def test_lists(self) -> None:
        """Nonsense in a list of files is noticed; reasons find their files."""
        file = b"FILE 1 held 5 %b bob 2020-01-01T00:00:00.000Z a b" % (b"0" * 64)
        for line in (b"FILE 1", b"WHY", file.replace(b"held", b"eaten")):
            listed = self.client().files()
            self.say(b"#1 * %b\n#1 +OK 1 files\n" % line)
            self.failureResultOf(listed, NotUnderstoodError)
        listed = self.client().files()
        self.say(b"#1 * %b\n#1 * WHY 1 so it is\n#1 * WHY 2 x\n#1 +OK 1 files\n" % file)
        [record] = self.successResultOf(listed)
        self.assertEqual((record.name, record.why), ("a b", "so it is"))

    def test_nonsense_before_content(self) -> None:
        """A file that is not described, or ends before it begins, is not taken."""
        for words in (b"5 x", b"0 %b x" % (b"0" * 64), b"x"):
            into = Incoming(BytesIO())
            into.offset = 1
            fetched = self.client().get("1", into)
            self.say(b"#1 +OK %b\n" % words)
            self.failureResultOf(fetched, NotUnderstoodError)

    # -- the beginning ------------------------------------------------------------

    def test_pin_first(self) -> None:
        """A server that is not trusted hears nothing, and is left."""
        self.start(trust=only([ONE_PIN]))
        self.fails(self.channel.ready, UntrustedServerError, self.tls.pin)
        self.fails(self.channel.request("PING"), UntrustedServerError, self.tls.pin)
        self.assertEqual(self.script.heard, b"")

    def test_unreadable_file(self) -> None:
        """When it cannot be known whom to trust, nobody is."""

        def trust(_: str) -> None:
            raise OperatorError("the file is unreadable")

        self.start(trust=trust)
        self.fails(self.channel.ready, OperatorError, "unreadable")

    def test_strange_key(self) -> None:
        """A key that cannot be read is not trusted."""

        def trust(_: str) -> None:
            raise ValueError("no such curve")

        self.start(trust=trust)
        self.fails(self.channel.ready, UntrustedServerError, "no such curve")

    def test_silent_server(self) -> None:
        """A server that does not greet is left at the limit, not before."""
        self.start(greeting=b"* securerecv/1 ready\n")
        self.advance(CONNECT_TIMEOUT_S - 0.1)
        self.assertNoResult(self.channel.ready)
        self.advance(0.2)
        self.fails(self.channel.ready, UnreachableError, "within 15 seconds")

    def test_other_protocol(self) -> None:
        """A server that speaks something else is left."""
        self.start(greeting=b"220 mail.example.org ESMTP\r\n")
        self.fails(self.channel.ready, UnreachableError, "no securerecv server")

    def test_no_greeting(self) -> None:
        """A server that hangs up at once is named unreachable."""
        self.start(greeting=b"")
        self.script.hang_up()
        self.fails(self.channel.ready, UnreachableError, "before it greeted")

    def test_full_server(self) -> None:
        """A server that lets nobody in is heard."""
        self.start(greeting=b"-ERR busy too many connections\n")
        self.fails(self.channel.ready, PeerError, "busy too many connections")

    # -- answers ------------------------------------------------------------------

    def test_order(self) -> None:
        """Requests may be sent ahead; each gets its own answer."""
        client = self.client()
        first = client.whoami()
        second = client.send("bob", b"a\r\nb")
        third = client.ping()
        self.pump.flush()
        self.assertEqual(
            self.script.heard, b"#1 WHOAMI\n#2 SEND bob 4\na\r\nb\r\n#3 PING\n"
        )
        self.say(b"#1 +OK me\n#2 -ERR no-mailbox there is no bob\n")
        self.assertEqual(self.successResultOf(first), "me")
        self.fails(second, PeerError, "no-mailbox there is no bob")
        self.assertNoResult(third)
        self.say(b"#3 +OK pong\n")
        self.assertIsNone(self.successResultOf(third))

    def test_wrong_answers(self) -> None:
        """An answer that was not asked for ends the conversation."""
        for answer in (b"#2 +OK\n", b"+OK\n"):
            client = self.client()
            pinged = client.ping()
            self.say(answer)
            self.fails(pinged, DisconnectedError, "was not asked")
            self.fails(client.closed(), DisconnectedError, "was not asked")

    def test_garbage(self) -> None:
        """A server that stops keeping to the protocol is left, and told of."""
        client = self.client()
        pinged = client.ping()
        self.say(b"\xff\n#1 +OK\n")
        self.fails(pinged, NotUnderstoodError, "not UTF-8")
        self.fails(client.closed(), NotUnderstoodError, "not UTF-8")

    def test_wrong_contents(self) -> None:
        """Answers that lack what they are to contain are refused."""
        client = self.client()
        sent, read = client.say("bob", "hi"), client.read("1")
        last = client.last()
        self.say(b"#1 +OK\n#2 +OK\n#3 * NEWS\n#3 +OK\n")
        self.fails(sent, NotUnderstoodError, "lacks")
        self.fails(read, NotUnderstoodError, "one message")
        self.fails(last, NotUnderstoodError, "else than a message")

    def test_last_words(self) -> None:
        """What the server says before it hangs up is passed on."""
        client = self.client()
        pinged = client.ping()
        self.say(b"! CLOSING the server is stopping\n")
        self.script.hang_up()
        self.fails(pinged, DisconnectedError, "hung up: the server is stopping")

        client = self.client()
        ended = client.closed()
        self.say(b"-ERR timeout nothing complete came in time\n")
        self.fails(ended, PeerError, "timeout nothing complete")

    def test_lost(self) -> None:
        """What is not answered fails when the connection is lost, or was."""
        client = self.client()
        pinged = client.ping()
        self.script.hang_up()
        self.fails(pinged, DisconnectedError, "lost")
        self.fails(client.ping(), DisconnectedError, "lost")
        self.fails(client.closed(), DisconnectedError, "lost")

    def test_no_answer(self) -> None:
        """A server that owes an answer and says nothing is left at the limit."""
        client = self.client()
        self.advance(10 * ANSWER_TIMEOUT_S)
        pinged, again = client.ping(), client.ping()
        self.advance(ANSWER_TIMEOUT_S - 0.1)
        self.say(b"#1 +OK pong\n")
        self.successResultOf(pinged)
        self.advance(ANSWER_TIMEOUT_S - 0.1)
        self.assertNoResult(again)
        self.advance(0.2)
        self.fails(again, DisconnectedError, "within 60 seconds")

    def test_patience(self) -> None:
        """Logins and large messages are given more time."""
        client = self.client()
        entered = client.login("alice", "pass word")
        self.advance(LOGIN_TIMEOUT_S - 0.1)
        self.say(b"#1 +OK\n")
        self.successResultOf(entered)
        body = bytes(5 * MIN_PAYLOAD_BYTES_PER_S)
        sent = client.send("bob", body)
        self.advance(ANSWER_TIMEOUT_S + 4.9)
        self.assertNoResult(sent)
        self.advance(0.2)
        self.fails(sent, DisconnectedError, "within 65 seconds")

    def test_quit(self) -> None:
        """After QUIT the end is no error; a server that stays is left."""
        for server_hangs_up in (True, False):
            client = self.client()
            gone = client.quit()
            self.say(b"#1 +OK goodbye\n")
            self.fails(client.ping(), DisconnectedError, "is over")
            if server_hangs_up:
                self.script.hang_up()
                self.pump.flush()
            else:
                self.advance(CONNECT_TIMEOUT_S)
            self.successResultOf(gone)
            self.successResultOf(client.closed())

    def test_misuse(self) -> None:
        """What cannot be a request is refused and not sent."""
        client = self.client()
        self.assertRaises(MisuseError, client.say, "bob ray", "hi")
        self.assertRaises(MisuseError, client.say, "", "hi")
        self.assertRaises(MisuseError, client.say, "bob", "hi\nANON")
        self.assertRaises(MisuseError, client.say, "bob", "\udc80")
        self.assertRaises(MisuseError, client.login, "bob", "x" * MAX_LINE_BYTES)
        error = self.assertRaises(PeerError, client.send, "bob", bytes(100_001))
        self.assertIs(error.code, ErrorCode.TOO_LARGE)
        self.pump.flush()
        self.assertEqual(self.script.heard, b"")

    # -- pushes -------------------------------------------------------------------

    def test_watch(self) -> None:
        """Messages reach the watcher; other news, and news unasked for, do not."""
        message = Message("1", "alice", 1_790_000_000_000, b"hello")
        client = self.client()
        self.say(piece(f"! {message.line()}", message.body))
        seen: list[Message] = []
        watching = client.watch(seen.append)
        self.say(b"#1 +OK\n! NEWS\n" + piece(f"! {message.line()}", message.body))
        self.successResultOf(watching)
        self.assertEqual(seen, [message])

    def test_keep_alive(self) -> None:
        """A server that is gone without a word is noticed by its silence."""
        client = self.client()
        keep_alive(client, self.clock)
        ended = client.closed()
        self.advance(PING_INTERVAL_S)
        self.say(b"#1 +OK pong\n")
        self.advance(PING_INTERVAL_S)
        self.assertEqual(self.script.heard, b"#1 PING\n#2 PING\n")
        self.assertNoResult(ended)
        self.advance(ANSWER_TIMEOUT_S)
        self.fails(ended, DisconnectedError, "did not answer")

    def test_watcher_fails(self) -> None:
        """What a watcher raises ends the conversation and comes out."""

        def watcher(_: Message) -> None:
            raise BrokenPipeError("nobody reads")

        client = self.client()
        client.watch(watcher)
        ended = client.closed()
        message = Message("1", "alice", 1_790_000_000_000, b"hello")
        self.say(b"#1 +OK\n" + 2 * piece(f"! {message.line()}", message.body))
        self.fails(ended, BrokenPipeError, "nobody reads")


class ReceiverTests(TestCase):
    """The client and a real receiver, on loopback."""

    def setUp(self) -> None:
        """Start a receiver with two accounts."""
        self.settings = Settings(
            proto="tcp", port=0, interface="127.0.0.1", data=new_folder(self)
        )
        add_accounts(self.settings, alice="wonder land", bob="builder")
        self.receiver = start_receiver(self, self.settings)
        self.server = ServerAddress("127.0.0.1", self.receiver.ports["tcp"][1])

    async def connect(self, receiver: Receiver | None = None) -> Client:
        """Connect to the receiver, known by its pin."""
        pin = (receiver or self.receiver).identity.pin
        client = await connect(reactor, self.server, only([pin]))
        self.addCleanup(self.leave, client)
        return client

    async def leave(self, client: Client) -> None:
        """End a conversation, if it has not ended yet."""
        client._channel.close()
        with contextlib.suppress(DisconnectedError):
            await client.closed()

    async def test_messages(self) -> None:
        """Messages are sent, listed, read, dropped."""
        alice = await self.connect()
        self.assertEqual((alice.limits.message, alice.limits.keep), (1048576, 5))
        self.assertIn("legal use only", alice.notice)
        self.assertEqual(alice.pin, self.receiver.identity.pin)
        await alice.login("Alice", "wonder land")
        self.assertEqual(await alice.whoami(), "alice")
        bob = await self.connect()
        await bob.login("bob", "builder")
        said = await bob.say("alice", "one line")
        sent = await bob.send("alice", b"\n\0two\r\n")
        empty = await bob.send("alice", b"")
        first, second, third = await alice.last()
        self.assertEqual(
            [(m.id, m.sender, m.body) for m in (first, second, third)],
            [
                (said, "bob", b"one line"),
                (sent, "bob", b"\n\0two\r\n"),
                (empty, "bob", b""),
            ],
        )
        self.assertEqual(await alice.last(2), [second, third])
        self.assertEqual(await alice.read(second.id), second)
        await alice.drop(second.id)
        self.assertEqual(await alice.last(), [first, third])
        await failing(alice.read(second.id), PeerError)
        await gatherResults([alice.quit(), bob.quit()])

    async def test_pipeline(self) -> None:
        """Many requests at once are answered in their order."""
        client = await self.connect()
        address, who, *ids = await gatherResults(
            [
                client.anonymous(),
                client.whoami(),
                *(client.say("alice", f"number {n}") for n in range(50)),
            ]
        )
        self.assertEqual(address, who)
        self.assertEqual(len(set(ids)), 50)
        alice = await self.connect()
        await alice.login("alice", "wonder land")
        self.assertEqual([m.id for m in await alice.last()], ids[-5:])

    async def test_watching(self) -> None:
        """An anonymous session is told what is sent to it, until it stops."""
        watcher, sender = await self.connect(), await self.connect()
        address = await watcher.anonymous()
        await sender.anonymous()
        seen: Deferred[Message] = Deferred()
        await watcher.watch(seen.callback)
        message_id = await sender.say(address, "psst")
        message = await seen
        self.assertEqual((message.id, message.body), (message_id, b"psst"))
        await watcher.unwatch()
        error = await failing(sender.say(address, "psst"), PeerError)
        self.assertIs(error.code, ErrorCode.NO_MAILBOX)

    async def test_passwd(self) -> None:
        """A changed password counts at once, and the old one no more."""
        alice, again = await self.connect(), await self.connect()
        await alice.login("alice", "wonder land")
        await alice.passwd("looking glass")
        error = await failing(again.login("alice", "wonder land"), PeerError)
        self.assertIs(error.code, ErrorCode.AUTH)
        await again.login("alice", "looking glass")

    async def test_server_stops(self) -> None:
        """A server that stops says so."""
        client = await self.connect()
        ended = client.closed()
        await self.receiver.stopService()
        error = await failing(ended, DisconnectedError)
        self.assertIn("the server is stopping", str(error))

    async def test_wrong_pin(self) -> None:
        """A server with another key is left."""
        connecting = connect(reactor, self.server, only([ONE_PIN]))
        await failing(connecting, UntrustedServerError)


class UnreachableTests(TestCase):
    """Where there is no server."""

    async def fails(self, server: ServerAddress, words: str) -> None:
        """See that no connection is made, and what is said about it."""
        error = await failing(connect(reactor, server, anybody), UnreachableError)
        self.assertEqual(str(error), f"cannot reach {server}: {words}")

    async def test_nothing_listens(self) -> None:
        """A port where nothing listens is named."""
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        number = port.getHost().port
        await port.stopListening()
        words = "nothing listens there (connection refused)"
        await self.fails(ServerAddress("127.0.0.1", number), words)

    async def test_no_such_host(self) -> None:
        """Names of no host, and what is no name, are named."""
        words = "there is no host of that name"
        await self.fails(ServerAddress("no-such-host.invalid", 1), words)
        await self.fails(ServerAddress("a..b", 1), "invalid hostname: a..b")

    def test_tls_words(self) -> None:
        """OpenSSL's last reason is passed on, where it gives any."""
        reasons = [("", "", "first"), ("SSL routines", "", "last")]
        self.assertEqual(tls_words(SSL.Error(reasons)), "last")
        for error in (SSL.SysCallError(-1, "Unexpected EOF"), SSL.Error()):
            self.assertEqual(tls_words(error), "the handshake was broken off")

    async def test_no_tls(self) -> None:
        """A server without TLS, or that hangs up at once, is named as such."""

        class Plain(Protocol):
            def connectionMade(self) -> None:
                """Say something else than TLS."""
                transport: Any = self.transport
                transport.write(b"220 mail.example.org ESMTP\r\n")

        class Refusing(Protocol):
            def dataReceived(self, _: bytes) -> None:
                """Hang up in the middle of the handshake."""
                transport: Any = self.transport
                transport.loseConnection()

        for protocol, words in [
            (Plain, "no TLS 1.3 server answered (wrong version number)"),
            (Refusing, "the server hung up before it greeted"),
        ]:
            factory = Factory.forProtocol(protocol)
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
            self.addCleanup(port.stopListening)
            await self.fails(ServerAddress("127.0.0.1", port.getHost().port), words)

    def test_slow_network(self) -> None:
        """An address that does not answer is given up at the limit, not before."""
        network = MemoryReactorClock()
        connecting = connect(network, ServerAddress("127.0.0.1", 1), anybody)
        network.advance(CONNECT_TIMEOUT_S - 0.1)
        self.assertNoResult(connecting)
        network.advance(0.2)
        failure = self.failureResultOf(connecting, UnreachableError)
        self.assertIn("no answer within 15 seconds", str(failure.value))


class ExportTests(SynchronousTestCase):
    """What programs import from the package."""

    def test_exports(self) -> None:
        """Everything that is promised is there, and nothing else is made up."""
        for name in client_package.__all__:
            self.assertIsNotNone(getattr(client_package, name))
        self.assertRaises(AttributeError, getattr, client_package, "nobody")
