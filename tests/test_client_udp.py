"""The client over UDP: requests that get lost, bad ways, bad servers."""

from __future__ import annotations

import secrets
import socket
from io import BytesIO
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import gatherResults

from securerecv.client import connectudp, udp
from securerecv.client.address import ServerAddress
from securerecv.client.connectudp import connect_udp
from securerecv.client.errors import (
    DisconnectedError,
    UnknownServerError,
    UnreachableError,
    UntrustedServerError,
)
from securerecv.client.knownservers import KnownServers
from securerecv.client.trust import only
from securerecv.client.udp import MAX_RECORD_BYTES
from securerecv.errors import ErrorCode, PeerError
from securerecv.service import Receiver
from securerecv.settings import Settings
from securerecv.wire.lines import Message
from securerecv.wire.replies import LargeMessage
from tests.clientends import ONE_PIN, anybody, failing
from tests.relay import Relay
from tests.support import logged_in, new_folder, pause, start_receiver
from tests.udpreceiver import ReceiverTests

reactor: Any = _reactor
APPLICATION_DATA = 23


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
