"""The client with a real receiver, and with nobody at all."""

from __future__ import annotations

import contextlib
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from securerecv import client as client_package
from securerecv.client.address import ServerAddress
from securerecv.client.client import Client
from securerecv.client.connect import connect
from securerecv.client.errors import (
    DisconnectedError,
    UnreachableError,
    UntrustedServerError,
)
from securerecv.client.tcp import CONNECT_TIMEOUT_S
from securerecv.client.tlswords import tls_words
from securerecv.client.trust import only
from securerecv.errors import ErrorCode, PeerError
from securerecv.service import Receiver
from securerecv.settings import Settings
from securerecv.wire.lines import Message
from tests.clientends import ONE_PIN, anybody, failing
from tests.support import add_accounts, new_folder, start_receiver

reactor: Any = _reactor


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
