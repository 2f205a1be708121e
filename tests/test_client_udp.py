"""The client over UDP: requests that get lost, bad ways, bad servers, sealed ones."""

from __future__ import annotations

import secrets
import socket
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from securerecv.client import connectudp, sealed, udp
from securerecv.client.address import ServerAddress
from securerecv.client.client import Client
from securerecv.client.connectudp import connect_udp
from securerecv.client.errors import (
    DisconnectedError,
    UnknownServerError,
    UnreachableError,
    UntrustedServerError,
)
from securerecv.client.exchanges import (
    FIRST_WAIT_S,
    MAX_UNDER_WAY,
    MAX_WAIT_S,
    Exchange,
    Exchanges,
)
from securerecv.client.knownservers import KnownServers
from securerecv.client.sealed import send_sealed
from securerecv.client.trust import Trust, only
from securerecv.client.udp import MAX_RECORD_BYTES
from securerecv.errors import ErrorCode, OperatorError, PeerError
from securerecv.service import Receiver
from securerecv.settings import Settings
from securerecv.wire.heardrecord import Heard, read_record
from securerecv.wire.hpke import Psk
from securerecv.wire.lines import Answer, Message
from securerecv.wire.replies import LargeMessage, NotUnderstoodError
from tests.relay import Relay
from tests.support import add_accounts, logged_in, new_folder, pause, start_receiver

reactor: Any = _reactor

Problem = TypeVar("Problem", bound=Exception)

ONE_PIN = "sha256//" + "A" * 43 + "="
APPLICATION_DATA = 23
WHEN = "2026-01-01T00:00:0{}Z"


def anybody(_: str) -> None:
    """Trust everybody, which only a test may do."""


async def failing(deferred: Any, kind: type[Problem]) -> Problem:
    """Wait for something to fail, and give what it fails with."""
    try:
        result = await deferred
    except kind as error:
        return error
    raise AssertionError(f"{result!r} and no {kind.__name__}")


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


class ReceiverTests(TestCase):
    """A client and a receiver, both in this process."""

    timeout = 60

    def setUp(self) -> None:
        """Start a receiver with two accounts, whose boxes are large."""
        self.settings = Settings(
            proto="both", port=0, interface="127.0.0.1", data=new_folder(self), keep=500
        )
        add_accounts(self.settings, alice="wonder land", bob="builder")
        self.receiver = start_receiver(self, self.settings)
        self.port = self.receiver.ports["udp"][1]

    async def connect(self, port: int | None = None, trust: Trust = anybody) -> Client:
        """Connect; the conversation is ended with the test."""
        address = ServerAddress("127.0.0.1", port or self.port)
        client = await connect_udp(reactor, address, trust)
        self.addCleanup(client._channel.close)
        return client

    async def alice(self, port: int | None = None) -> Client:
        """Connect as Alice."""
        client = await self.connect(port)
        await client.login("alice", "wonder land")
        return client

    async def bodies(self) -> list[bytes]:
        """Give what is in Alice's box, by a good way."""
        client = await self.alice()
        bodies = [message.body for message in await client.last()]
        await client.quit()
        return bodies


class TalkTests(ReceiverTests):
    """Conversations over a good way."""

    async def test_conversation(self) -> None:
        """All that can be asked for over TCP can be asked for over UDP."""
        client = await self.connect()
        self.assertEqual(client.pin, self.receiver.identity.pin)
        self.assertEqual(client.limits.keep, 500)
        self.assertIn("legal use", client.notice)
        self.assertEqual(await client.sealing_key(), self.receiver.identity.sealing_key)
        self.assertEqual(
            (await failing(client.last(), PeerError)).code.value, "login-first"
        )
        await client.login("alice", "wonder land")
        self.assertEqual(await client.whoami(), "alice")
        first = await client.say("alice", "Grüße")
        second = await client.send("alice", b"\r\n\0#1 +OK\n")
        messages = await client.last()
        self.assertEqual([m.id for m in messages], [first, second])
        self.assertEqual([m.sender for m in messages], ["alice", "alice"])
        self.assertEqual(messages[1].body, b"\r\n\0#1 +OK\n")
        self.assertEqual((await client.read(second)).body, messages[1].body)
        await client.drop(first)
        self.assertEqual(len(await client.last(5)), 1)
        await client.ping()
        await client.quit()
        await client.closed()
        await failing(client.ping(), DisconnectedError)

    async def test_long_answer(self) -> None:
        """An answer of many records is put together in its order."""
        client = await self.alice()
        bodies = [b"%d " % number + b"x" * 400 for number in range(100)]
        await gatherResults([client.send("alice", body) for body in bodies])
        self.assertCountEqual([m.body for m in await client.last()], bodies)

    async def test_watch(self) -> None:
        """Messages are pushed; one that no record holds, without its body."""
        client = await self.alice()
        pushed: list[Message] = []
        await client.watch(pushed.append)
        talker = await logged_in(self, self.receiver, "bob", "builder")
        await talker.ask("SAY alice hello")
        await talker.ask(b"SEND alice 3000\n" + b"x" * 3000 + b"\r\n")
        while len(pushed) < 2:
            await pause(0.01)
        self.assertEqual(pushed[0].body, b"hello")
        assert isinstance(pushed[1], LargeMessage)
        self.assertEqual((pushed[1].size, pushed[1].sender), (3000, "bob"))
        large = (await client.last())[1]
        self.assertEqual(large, pushed[1])
        self.assertEqual(await client.read(large.id), large)

    async def test_files(self) -> None:
        """What is refused of files is said, and the talk goes on."""
        client = await self.alice()
        error = await failing(client.put("bob", BytesIO(b""), "x"), PeerError)
        self.assertIs(error.code, ErrorCode.NO_SCANNER)
        error = await failing(client.get("1", BytesIO()), PeerError)
        self.assertIs(error.code, ErrorCode.NO_SUCH_ID)
        await client.ping()

    async def test_large_message(self) -> None:
        """A message that no record holds is fetched by a lane."""
        client = await self.alice()
        talker = await logged_in(self, self.receiver, "bob", "builder")
        body = secrets.token_bytes(50_000)
        await talker.ask(b"SEND alice 50000\n" + body + b"\r\n")
        (large,) = await client.last()
        assert isinstance(large, LargeMessage)
        into = BytesIO()
        await client.get(large.id, into)
        self.assertEqual(into.getvalue(), body)

    async def test_largest_request(self) -> None:
        """A record is filled to its end; one byte more is refused and not sent."""
        client = await self.alice()
        body = b"x" * (MAX_RECORD_BYTES - len("#3 SEND alice 1174\n\r\n"))
        await client.send("alice", body)
        error = self.assertRaises(PeerError, client.send, "alice", body + b"x")
        self.assertIs(error.code, ErrorCode.TOO_LARGE)
        self.assertIn("use TCP", error.words)
        await client.ping()
        (large,) = await client.last()
        assert isinstance(large, LargeMessage)
        self.assertEqual(large.size, len(body))

    async def test_watcher_that_raises(self) -> None:
        """What a watcher raises ends the conversation and comes out of it."""
        client = await self.alice()

        def fail(_: Message) -> None:
            raise ZeroDivisionError

        await client.watch(fail)
        closed = client.closed()
        client.say("alice", "hello").addErrback(lambda _: None)
        await failing(closed, ZeroDivisionError)

    async def test_localhost(self) -> None:
        """Of a host's addresses the one is found at which somebody receives."""
        address = ServerAddress("localhost", self.port)
        client = await connect_udp(reactor, address, anybody)
        await client.quit()

    async def test_v6(self) -> None:
        """IPv6 is spoken."""
        settings = Settings(port=0, proto="udp", interface="::1", data=new_folder(self))
        receiver = start_receiver(self, settings)
        address = ServerAddress("::1", receiver.ports["udp"][1])
        client = await connect_udp(reactor, address, anybody)
        await client.anonymous()
        await client.quit()


class BadWayTests(ReceiverTests):
    """Conversations over ways that lose, repeat, reorder and invent."""

    async def check_exactly_once(self, loss: float, seed: int) -> None:
        """Send messages over a bad way, and see that each arrives once."""
        relay = Relay(self, self.port, loss, seed)
        client = await self.alice(relay.port)
        bodies = [b"%d" % number for number in range(16)]
        ids = await gatherResults([client.send("alice", body) for body in bodies])
        self.assertEqual(len(set(ids)), len(bodies))
        self.assertCountEqual([m.body for m in await client.last()], bodies)
        dropped = ids[0]
        await client.drop(dropped)
        await client.quit()
        self.assertCountEqual(await self.bodies(), bodies[1:])

    async def test_some_loss(self) -> None:
        """At 10 % of everything bad, each request is done exactly once."""
        await self.check_exactly_once(0.1, 1)

    async def test_heavy_loss(self) -> None:
        """At 20 % of everything bad, each request is done exactly once."""
        # Timers are real here; at 30 %, `tests.test_records` has its own time.
        await self.check_exactly_once(0.2, 2)

    async def test_lost_answers(self) -> None:
        """A request whose answers are lost is sent again and not done again."""
        relay = Relay(self, self.port)
        client = await self.alice(relay.port)
        lost: list[bytes] = []

        def lose(from_server: bool, data: bytes) -> bool:
            if from_server and len(lost) < 2:
                lost.append(data)
                return True
            return False

        relay.lose = lose
        before = len(relay.passed)
        await client.say("alice", "once")
        self.assertEqual((len(lost), len(relay.passed) - before), (2, 3))
        self.assertEqual(await self.bodies(), [b"once"])

    async def test_lost_middle(self) -> None:
        """A record lost from the middle of an answer is noticed and had again."""
        relay = Relay(self, self.port)
        client = await self.alice(relay.port)
        bodies = [b"%d" % number * 500 for number in range(8)]
        for body in bodies:
            await client.send("alice", body)
        count = 0

        def lose(from_server: bool, _: bytes) -> bool:
            nonlocal count
            count += from_server
            return from_server and count == 2

        relay.lose = lose
        self.assertEqual([m.body for m in await client.last()], bodies)
        self.assertGreater(count, 4)

    async def test_lost_greeting(self) -> None:
        """A client that never sees the greeting goes on without it."""
        relay = Relay(self, self.port)
        lost: list[bytes] = []

        def lose(from_server: bool, data: bytes) -> bool:
            if from_server and data[0] == APPLICATION_DATA and not lost:
                lost.append(data)
                return True
            return False

        relay.lose = lose
        client = await self.alice(relay.port)
        self.assertEqual(len(lost), 1)
        self.assertIn("legal use", client.notice)
        self.assertEqual(client.limits.keep, 5)
        self.assertEqual(await client.whoami(), "alice")

    async def test_lost_hellos(self) -> None:
        """A client whose first hellos are lost sends them again."""
        relay = Relay(self, self.port)
        relay.lose = lambda from_server, _: not from_server and not relay.passed
        reactor.callLater(0.5, setattr, relay, "lose", lambda *_: False)
        client = await self.connect(relay.port)
        await client.quit()

    async def test_lost_goodbye(self) -> None:
        """Nobody waits long for the answer to a goodbye."""
        self.patch(udp, "GOODBYE_TIMEOUT_S", 0.5)
        relay = Relay(self, self.port)
        client = await self.alice(relay.port)
        relay.lose = lambda from_server, _: from_server
        await client.quit()
        await client.closed()


class EndTests(ReceiverTests):
    """Servers that end, and servers that are not there or the wrong ones."""

    async def test_stopped(self) -> None:
        """A server that stops says so."""
        client = await self.alice()
        closed = client.closed()
        await self.receiver.stopService()
        error = await failing(closed, DisconnectedError)
        self.assertEqual(str(error), "the server hung up: the server is stopping")
        await failing(client.ping(), DisconnectedError)

    async def test_restarted(self) -> None:
        """A server that forgot the conversation is noticed; a new one begins."""
        relay = Relay(self, self.port)
        client = await self.alice(relay.port)
        relay.lose = lambda *_: True
        await self.receiver.stopService()
        again = Receiver(self.settings, reactor)
        again.privilegedStartService()
        again.startService()
        self.addCleanup(again.stopService)
        relay.lose = lambda *_: False
        relay.server = self.port = again.ports["udp"][1]
        lost = client._channel.request("SAY alice hello", timeout_s=1.0)
        error = await failing(lost, DisconnectedError)
        self.assertEqual(str(error), "the server did not answer within 1 seconds")
        await failing(client.closed(), DisconnectedError)
        client = await self.alice(relay.port)
        await client.say("alice", "hello again")
        self.assertEqual(await self.bodies(), [b"hello again"])

    async def test_gone(self) -> None:
        """A server whose port is closed in mid-conversation is given up at once."""
        relay = Relay(self, self.port)
        client = await self.alice(relay.port)
        await relay.stop()
        error = await failing(client.ping(), DisconnectedError)
        self.assertEqual(
            str(error),
            "the server has gone: nothing receives UDP there (port unreachable)",
        )

    async def test_wrong_key(self) -> None:
        """Nothing is said to a server with another key than the pinned one."""
        relay = Relay(self, self.port)
        connecting = self.connect(relay.port, only((ONE_PIN,)))
        await failing(connecting, UntrustedServerError)
        encrypted = [data for data in relay.passed if data[0] == APPLICATION_DATA]
        self.assertEqual(encrypted, [])

    async def test_known_servers(self) -> None:
        """A server that was met over TCP is known over UDP, for it is the same."""
        known = KnownServers(new_folder(self) / "known_servers")
        address = ServerAddress("127.0.0.1", self.port)

        def trust(pin: str) -> None:
            known.check(address, pin)

        error = await failing(self.connect(trust=trust), UnknownServerError)
        self.assertEqual(error.pin, self.receiver.identity.pin)
        known.remember(address, error.pin)
        await self.connect(trust=trust)

    async def test_nobody(self) -> None:
        """Where nobody receives, that is said at once."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        error = await failing(self.connect(port), UnreachableError)
        self.assertIn(f"cannot reach 127.0.0.1:{port}: nothing receives", str(error))

    async def test_silence(self) -> None:
        """Where somebody receives and never answers, it is given up in time."""
        self.patch(connectudp, "GREETING_TIMEOUT_S", 0.5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            port = silent.getsockname()[1]
            error = await failing(self.connect(port), UnreachableError)
        self.assertIn("nobody answers there on UDP", str(error))

    async def test_handshake_that_does_not_end(self) -> None:
        """A handshake that never ends is given up in time."""
        self.patch(udp, "GREETING_TIMEOUT_S", 0.7)
        relay = Relay(self, self.port)
        relay.lose = lambda from_server, _: from_server and len(relay.passed) > 1
        error = await failing(self.connect(relay.port), UnreachableError)
        self.assertIn("no securerecv server answered on UDP", str(error))

    async def test_no_such_host(self) -> None:
        """A name that is none is named."""
        for host in ("no-such-host.invalid", "a..b"):
            address = ServerAddress(host, 1)
            error = await failing(
                connect_udp(reactor, address, anybody), UnreachableError
            )
            self.assertIn("there is no host of that name", str(error))


class SealedTests(ReceiverTests):
    """One datagram and no conversation."""

    async def send(self, body: bytes, to: str = "alice", **more: Any) -> str | None:
        """Send a sealed datagram."""
        address = ServerAddress("127.0.0.1", more.pop("port", self.port))
        key = more.pop("key", self.receiver.identity.sealing_key)
        return await send_sealed(reactor, address, key, to, body, **more)

    async def arrived(self) -> list[Message]:
        """Wait for a message in Alice's box."""
        client = await self.alice()
        while not (messages := await client.last()):
            await pause(0.02)
        await client.quit()
        return messages

    async def test_fired(self) -> None:
        """A datagram that nobody answers is stored, as from nobody."""
        self.assertIsNone(await self.send(b"\0 one"))
        (message,) = await self.arrived()
        self.assertEqual((message.sender, message.body), ("anon", b"\0 one"))

    async def test_answered(self) -> None:
        """With a tag the answer comes, and names the message."""
        message_id = await self.send(b"one", ack=True)
        (message,) = await self.arrived()
        self.assertEqual(message.id, message_id)

    async def test_token(self) -> None:
        """With a token the message is its owner's; a wrong one is not heard."""
        talker = await logged_in(self, self.receiver, "bob", "builder")
        _, token_id, secret = (await talker.ask("TOKEN NEW sensor"))[-1].split(" ")
        token = Psk(bytes.fromhex(token_id), bytes.fromhex(secret))
        await self.send(b"one", token=token, ack=True)
        (message,) = await self.arrived()
        self.assertEqual(message.sender, "bob")
        self.patch(sealed, "ACK_TIMEOUT_S", 0.3)
        wrong = Psk(token.psk_id, secrets.token_bytes(32))
        sending = self.send(b"two", token=wrong, ack=True)
        error = await failing(sending, DisconnectedError)
        self.assertIn("nobody knows whether", str(error))

    async def test_refused(self) -> None:
        """What the server refuses is said when an answer is waited for."""
        error = await failing(self.send(b"x" * 40, "nobody", ack=True), PeerError)
        self.assertIs(error.code, ErrorCode.NO_MAILBOX)

    async def test_size(self) -> None:
        """A datagram is filled to its end; one byte more is not sent."""
        body = b"x" * 1137
        await self.send(body, ack=True)
        error = await failing(self.send(body + b"x", ack=True), PeerError)
        self.assertIs(error.code, ErrorCode.TOO_LARGE)
        self.assertIn("holds 1137 bytes", error.words)

    async def test_nobody(self) -> None:
        """Where nobody receives, who waits for an answer is told."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        sending = self.send(b"one", ack=True, port=port)
        error = await failing(sending, UnreachableError)
        self.assertIn("port unreachable", str(error))

    async def test_repeated(self) -> None:
        """A datagram that the way repeats is stored once."""
        relay = Relay(self, self.port)
        await self.send(b"one", ack=True, port=relay.port)
        (datagram,) = relay.passed
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.sendto(datagram, ("127.0.0.1", self.port))
        await self.send(b"two", ack=True)
        self.assertEqual(await self.bodies(), [b"one", b"two"])

    async def test_forged_answers(self) -> None:
        """Answers that are none, or not to this request, are passed over."""
        relay = Relay(self, self.port, 0.0)
        answers: list[bytes] = []

        def lose(from_server: bool, data: bytes) -> bool:
            if from_server and not answers:
                answers.append(data)
                for forged in (b"x", data[:-1], data[:1] + b"\1" + data[2:]):
                    relay.answered(forged, next(iter(relay._sides)))
            return False

        relay.lose = lose
        self.assertIsNotNone(await self.send(b"one", ack=True, port=relay.port))


class RememberedKeyTests(SynchronousTestCase):
    """The sealing keys of known servers."""

    def test_remembered(self) -> None:
        """A key is stored beside the pin that vouched for it, and no other."""
        known = KnownServers(Path(self.mktemp()).absolute() / "known_servers")
        address, other = ServerAddress("a", 1), ServerAddress("b", 2)
        self.assertIsNone(known.sealing_key(address))
        known.remember(other, ONE_PIN)
        known.remember(address, ONE_PIN)
        self.assertIsNone(known.sealing_key(address))
        for key in (bytes(32), bytes(range(32))):
            known.remember_sealing_key(address, ONE_PIN, key)
            self.assertEqual(known.sealing_key(address), (ONE_PIN, key))
            known.check(address, ONE_PIN)
        known.remember_sealing_key(other, "sha256//another", bytes(32))
        self.assertIsNone(known.sealing_key(other))
        self.assertEqual(
            known.path.read_text(),
            f"b:2 {ONE_PIN}\na:1 {ONE_PIN} x25519//{bytes(range(32)).hex()}\n",
        )

    def test_new_folder(self) -> None:
        """Where nothing is known yet, nothing is stored, and that is no fault."""
        folder = Path(self.mktemp()).absolute() / "deep" / "er"
        known = KnownServers(folder / "known_servers")
        known.remember_sealing_key(ServerAddress("a", 1), ONE_PIN, bytes(32))
        self.assertEqual(list(folder.iterdir()), [])
        self.assertIsNone(known.sealing_key(ServerAddress("a", 1)))

    def test_wrong_line(self) -> None:
        """A line that is wrong is named."""
        known = KnownServers(Path(self.mktemp()).absolute() / "known_servers")
        known.remember(ServerAddress("a", 1), ONE_PIN)
        for more in ("x25519//00", "x25519//" + "0" * 64 + " more"):
            known.path.write_text(f"a:1 {ONE_PIN} {more}\n")
            error = self.assertRaises(
                OperatorError, known.sealing_key, ServerAddress("a", 1)
            )
            self.assertIn("line 1", str(error))
