"""Conversations of the client with servers that say what a test tells them to."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test.iosim import FakeTransport, IOPump
from twisted.test.iosim import connect as join
from twisted.trial.unittest import SynchronousTestCase

from securerecv.client.address import ServerAddress
from securerecv.client.channel import ANSWER_TIMEOUT_S, LOGIN_TIMEOUT_S
from securerecv.client.client import Client
from securerecv.client.errors import (
    DisconnectedError,
    UnreachableError,
    UntrustedServerError,
)
from securerecv.client.incoming import Incoming
from securerecv.client.keepalive import PING_INTERVAL_S, keep_alive
from securerecv.client.tcp import CONNECT_TIMEOUT_S, TcpChannel
from securerecv.client.trust import Trust, only
from securerecv.errors import ErrorCode, MisuseError, OperatorError, PeerError
from securerecv.limits import MAX_LINE_BYTES, MIN_PAYLOAD_BYTES_PER_S
from securerecv.net.tls import ClientTls
from securerecv.wire.lines import Answer, Message, piece
from securerecv.wire.replies import NotUnderstoodError
from securerecv.wire.session import Terms
from tests.clientends import ONE_PIN, anybody, server_tls

SERVER = ServerAddress("example.org", 7443)
GREETING = Terms(100_000, 1, 5, True, bytes(32)).greeting()


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
