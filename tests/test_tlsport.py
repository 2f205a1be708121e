"""
TLS connections, over real sockets.

`EitherTests` and `TwistedTests` hold the same promises, with OpenSSL on the
socket itself and with Twisted's own TLS.
"""

from __future__ import annotations

import errno
import gc
import socket
import weakref
from typing import Any

from OpenSSL import SSL
from OpenSSL._util import lib as _openssl  # there is no public way to ask it
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    IReadWriteDescriptor,
    ISSLTransport,
)
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from securerecv.net.tlsport import (
    ListenTls,
    TlsPort,
    TurnEnd,
    listen_tls,
    listen_tls_by_twisted,
)
from securerecv.net.tlssocket import MAX_RECORD_BYTES, MAX_TURN_BYTES
from securerecv.net.tlstransport import MAX_UNSENT_BYTES, TlsTransport
from tests.clientends import server_tls
from tests.support import HOSTS, pause, resident_bytes
from tests.tlspeers import SOON_S, Ear, House, KeyChanger, Peer, until

reactor: Any = _reactor

MUCH = bytes(range(256)) * 20_000
"""Five megabytes: more than sockets hold."""


class Producer:
    """Writes down when it is told to wait and to go on; `more` is what it writes."""

    def __init__(
        self, ear: Ear, more: list[bytes] | None = None, *, hangs_up: bool = False
    ) -> None:
        self.orders: list[str] = []
        self._hangs_up = hangs_up
        self._ear = ear
        self._more = more or []

    def pauseProducing(self) -> None:
        """Wait."""
        self.orders.append("pause")

    def resumeProducing(self) -> None:
        """Go on."""
        self.orders.append("resume")
        if self._more:
            self._ear.wire.write(self._more.pop(0))
        else:
            self._ear.wire.unregisterProducer()
            if self._hangs_up:
                self._ear.wire.loseConnection()

    def stopProducing(self) -> None:
        """Stop."""
        self.orders.append("stop")


class TlsTestCase(TestCase):
    """Starts servers."""

    listen: ListenTls = staticmethod(listen_tls)

    def open_house(self, interface: str = "127.0.0.1") -> House:
        """Start a server of ears."""
        return House(self, self.listen, interface)


class EitherTests(TlsTestCase):
    """What holds with OpenSSL on the socket and with Twisted's TLS."""

    async def test_order(self) -> None:
        """A protocol is connected, then hands are shaken, then data comes."""
        peer, ear = await self.open_house().enter(self)
        await peer.say(b"hello")
        await until(lambda: ear.heard == b"hello")
        await peer.goodbye()
        self.assertIs(await ear.lost(), ConnectionDone)
        self.assertEqual(ear.events, ["made", "shook hands", b"hello", "lost"])

    async def test_who(self) -> None:
        """Both addresses are known; the options of TCP can be set."""
        for host in HOSTS:
            house = self.open_house(host)
            peer, ear = await house.enter(self)
            kind = IPv6Address if ":" in host else IPv4Address
            self.assertEqual(
                ear.wire.getPeer(), kind("TCP", *peer.socket.getsockname())
            )
            self.assertEqual(ear.wire.getHost().port, house.port)
            for value in (True, False):
                ear.wire.setTcpNoDelay(value)
                ear.wire.setTcpKeepAlive(value)
                self.assertIs(ear.wire.getTcpNoDelay(), value)
                self.assertIs(ear.wire.getTcpKeepAlive(), value)
            self.assertIsNone(ear.wire.getPeerCertificate())
            self.assertIsInstance(ear.wire.getHandle(), SSL.Connection)

    async def test_answers(self) -> None:
        """What is said while hearing is answered, however much it is."""
        peer, ear = await self.open_house().enter(self)
        ear.when_heard = ear.wire.write
        for size in (1, 100, MAX_RECORD_BYTES, MAX_RECORD_BYTES + 1, 3_000_000):
            data = MUCH[:size]
            sending = Deferred.fromCoroutine(peer.say(data))
            self.assertEqual(await peer.hear(size), data)
            await sending

    async def test_in_one_record(self) -> None:
        """What is written in one turn goes out together."""
        peer, ear = await self.open_house().enter(self)

        def write(_: object = None) -> None:
            for number in range(100):
                ear.wire.writeSequence([b"%d" % number, b"\n"])

        expected = b"".join(b"%d\n" % number for number in range(100))
        reactor.callLater(0, write)
        self.assertEqual(await peer.record(), expected)
        ear.when_heard = write
        await peer.say(b"go")
        self.assertEqual(await peer.record(), expected)

    async def test_byte_by_byte(self) -> None:
        """Who sends one byte at a time is heard."""
        house = self.open_house()
        peer = Peer(self, house.port)
        await peer.shake_hands(pieces_of=1)
        await peer.send(peer.encrypt(b"slow") + peer.encrypt(b"ly"), pieces_of=1)
        ear = house.ears[0]
        await until(lambda: ear.heard == b"slowly")

    async def test_pause(self) -> None:
        """While reading is paused nothing comes; then all that had come does."""
        peer, ear = await self.open_house().enter(self)
        ear.wire.pauseProducing()
        await peer.send(peer.encrypt(b"x" * 40_000) + peer.encrypt(b"yz"))
        await pause(4 * SOON_S)
        self.assertEqual(ear.heard, b"")
        ear.wire.resumeProducing()
        await until(lambda: ear.heard == b"x" * 40_000 + b"yz")

    async def test_pause_while_hearing(self) -> None:
        """What has come behind what was heard last waits too."""
        peer, ear = await self.open_house().enter(self)
        ear.when_heard = lambda _: ear.wire.pauseProducing()
        sending = Deferred.fromCoroutine(peer.say(MUCH))
        await until(lambda: bool(ear.heard))
        for _ in range(3):
            events = len(ear.events)
            await pause(4 * SOON_S)
            self.assertEqual(len(ear.events), events)
            ear.wire.resumeProducing()
            await ear.has_events(events + 1)
        ear.when_heard = lambda _: None
        ear.wire.resumeProducing()
        await sending
        await until(lambda: len(ear.heard) == len(MUCH))
        self.assertEqual(ear.heard, MUCH)

    async def test_peer_does_not_read(self) -> None:
        """A producer waits while the peer does not read, and goes on when it does."""
        peer, ear = await self.open_house().enter(self)
        producer = Producer(ear, [b"more"])
        ear.wire.registerProducer(producer, True)
        ear.wire.write(MUCH)
        await pause(4 * SOON_S)
        self.assertEqual(producer.orders, ["pause"])
        self.assertEqual(await peer.hear(len(MUCH) + 4), MUCH + b"more")
        self.assertEqual(producer.orders, ["pause", "resume"])

    async def test_pull_producer(self) -> None:
        """A producer that is asked for each piece is asked until it has no more."""
        peer, ear = await self.open_house().enter(self)
        pieces = [MUCH[:100_000]] * 30 + [b"end"]
        ear.wire.registerProducer(Producer(ear, list(pieces)), False)
        expected = b"".join(pieces)
        self.assertEqual(await peer.hear(len(expected)), expected)

    async def test_producer_hangs_up(self) -> None:
        """A producer that has no more can hang up when it is told to go on."""
        for streaming in (False, True):
            peer, ear = await self.open_house().enter(self)
            producer = Producer(ear, [MUCH], hangs_up=True)
            if streaming:
                ear.wire.write(MUCH)
            ear.wire.registerProducer(producer, streaming)
            if streaming:
                ear.wire.write(b"x")
            heard, end = await peer.hear_all()
            self.assertIs(end, SSL.ZeroReturnError)
            self.assertTrue(heard.endswith(MUCH))

    async def test_one_producer(self) -> None:
        """There can be one producer at a time; it is stopped at the end."""
        peer, ear = await self.open_house().enter(self)
        producer = Producer(ear)
        ear.wire.registerProducer(producer, True)
        with self.assertRaises(RuntimeError):
            ear.wire.registerProducer(Producer(ear), True)
        peer.hang_up()
        await ear.lost()
        self.assertEqual(producer.orders, ["stop"])

    async def test_peer_says_goodbye(self) -> None:
        """What a peer says before its goodbye is heard, and the goodbye returned."""
        peer, ear = await self.open_house().enter(self)
        peer.tls.send(b"last words")
        await peer.goodbye()
        self.assertEqual(await peer.hear_all(), (b"", SSL.ZeroReturnError))
        self.assertTrue(await peer.stream_ends())
        self.assertIs(await ear.lost(), ConnectionDone)
        self.assertEqual(ear.heard, b"last words")

    async def test_goodbye(self) -> None:
        """Hanging up sends what is left, says goodbye and waits for the answer."""
        peer, ear = await self.open_house().enter(self)
        ear.wire.write(MUCH)
        ear.wire.loseConnection()
        ear.wire.write(b"too late")
        self.assertEqual(await peer.hear_all(), (MUCH, SSL.ZeroReturnError))
        self.assertEqual(ear.reasons, [])
        await peer.goodbye()
        self.assertIs(await ear.lost(), ConnectionDone)

    async def test_goodbye_while_hearing(self) -> None:
        """Who hangs up while hearing is sent nothing any more, and loses nothing."""
        peer, ear = await self.open_house().enter(self)

        def answer_and_go(_: bytes) -> None:
            ear.wire.write(b"bye")
            ear.wire.loseConnection()

        ear.when_heard = answer_and_go
        await peer.say(b"one")
        self.assertEqual(await peer.hear_all(), (b"bye", SSL.ZeroReturnError))
        await peer.goodbye()
        self.assertIs(await ear.lost(), ConnectionDone)
        self.assertEqual(ear.heard, b"one")

    async def test_goodbye_waits_for_producer(self) -> None:
        """While there is a producer what it writes is still sent."""
        peer, ear = await self.open_house().enter(self)
        ear.wire.registerProducer(Producer(ear), True)
        ear.wire.loseConnection()
        ear.wire.write(b"and ")
        await pause(SOON_S)
        ear.wire.write(b"this")
        await pause(SOON_S)
        ear.wire.unregisterProducer()
        ear.wire.write(b"not that")
        self.assertEqual(await peer.hear_all(), (b"and this", SSL.ZeroReturnError))

    async def test_goodbye_before_hands(self) -> None:
        """Hanging up before hands are shaken is at once, and not clean."""
        house = self.open_house()

        def hang_up(ear: Ear) -> None:
            ear.wire.loseConnection()

        house.prepare = lambda ear: reactor.callLater(SOON_S, hang_up, ear)
        peer = Peer(self, house.port)
        await until(lambda: len(house.ears) == 1)
        self.assertIn(await house.ears[0].lost(), (ConnectionAborted, ConnectionLost))
        self.assertFalse(await peer.stream_ends())

    async def test_written_before_hands(self) -> None:
        """What is written before hands are shaken is sent then."""
        house = self.open_house()

        def write(ear: Ear) -> None:
            ear.wire.write(b"early")
            ear.wire.loseConnection()

        house.prepare = lambda ear: reactor.callLater(0, write, ear)
        peer = Peer(self, house.port)
        await until(lambda: len(house.ears) == 1)
        await pause(SOON_S)
        await peer.shake_hands()
        self.assertEqual(await peer.hear_all(), (b"early", SSL.ZeroReturnError))

    async def test_abort(self) -> None:
        """Aborting resets, tells the protocol once and later, and nothing comes."""
        peer, ear = await self.open_house().enter(self)

        def abort(_: bytes) -> None:
            ear.wire.abortConnection()
            ear.wire.abortConnection()
            self.assertEqual(ear.reasons, [])

        ear.when_heard = abort
        await peer.send(peer.encrypt(b"one") + peer.encrypt(MUCH[:50_000]))
        self.assertIn(await ear.lost(), (ConnectionAborted, ConnectionLost))
        self.assertTrue(ear.heard.startswith(b"one"))
        self.assertFalse(await peer.stream_ends())

    async def test_cut_off(self) -> None:
        """A stream that ends without a goodbye was cut: what came whole is heard."""
        peer, ear = await self.open_house().enter(self)
        await peer.send(peer.encrypt(b"whole") + peer.encrypt(b"half")[:-1])
        await until(lambda: ear.heard == b"whole")
        peer.socket.shutdown(socket.SHUT_WR)
        self.assertIs(await ear.lost(), ConnectionLost)
        self.assertEqual(ear.heard, b"whole")

    async def test_reset(self) -> None:
        """A reset ends it, whether there is something to read or to write."""
        for is_writing in (False, True):
            peer, ear = await self.open_house().enter(self)
            if is_writing:
                ear.wire.pauseProducing()
                ear.wire.write(MUCH)
                await pause(SOON_S)
            peer.hang_up(reset=True)
            self.assertIs(await ear.lost(), ConnectionLost)

    async def test_forged(self) -> None:
        """A record that was not made by the peer ends it, others go on."""
        house = self.open_house()
        other, its_ear = await house.enter(self)
        peer, ear = await house.enter(self)
        record = bytearray(peer.encrypt(b"forged"))
        record[-1] ^= 1
        await peer.send(bytes(record))
        self.assertIs(await ear.lost(), SSL.Error)
        self.assertEqual(ear.heard, b"")
        await other.say(b"still here")
        await until(lambda: its_ear.heard == b"still here")

    async def test_no_hello(self) -> None:
        """Whatever comes instead of a hello ends it, and nothing else."""
        house = self.open_house()
        other, its_ear = await house.enter(self)
        for junk in (b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\xff" * 70_000):
            peer = Peer(self, house.port)
            await until(lambda: house.ears[-1] is not its_ear)
            ear = house.ears[-1]
            peer.socket.send(junk)
            self.assertIs(await ear.lost(), SSL.Error)
            self.assertEqual(ear.events, ["made", "lost"])
            its_ear.wire.write(b"x")
            self.assertEqual(await other.hear(1), b"x")
            house.ears.remove(ear)

    async def test_half_a_hello(self) -> None:
        """Half a hello is waited for; when its sender goes it has gone."""
        house = self.open_house()
        for reset in (False, True):
            peer = Peer(self, house.port)
            with self.assertRaises(SSL.WantReadError):
                peer.tls.do_handshake()
            hello = peer.encrypted()
            await peer.send(hello[: len(hello) // 2])
            await pause(4 * SOON_S)
            ear = house.ears[-1]
            self.assertEqual(ear.events, ["made"])
            peer.hang_up(reset=reset)
            self.assertIs(await ear.lost(), ConnectionLost)

    async def test_protocol_fails(self) -> None:
        """An error in the protocol is logged and ends its connection alone."""
        house = self.open_house()
        other, its_ear = await house.enter(self)
        peer, ear = await house.enter(self)
        ear.when_heard = lambda _: 1 / 0
        await peer.say(b"x")
        self.assertIn(await ear.lost(), (ZeroDivisionError, ConnectionLost))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        await other.say(b"still here")
        await until(lambda: its_ear.heard == b"still here")

    async def test_others_have_their_turn(self) -> None:
        """Who sends without end does not keep others waiting."""
        house = self.open_house()
        flood, its_ear = await house.enter(self)
        peer, ear = await house.enter(self)
        ear.when_heard = ear.wire.write
        sending = Deferred.fromCoroutine(flood.say(MUCH))
        for _ in range(5):
            await peer.say(b"x")
            self.assertEqual(await peer.hear(1), b"x")
        await sending
        await until(lambda: its_ear.heard == MUCH)
        largest = max(len(event) for event in its_ear.events)
        self.assertLess(largest, MAX_TURN_BYTES + MAX_RECORD_BYTES)

    async def test_stop_listening(self) -> None:
        """Who is connected when listening stops stays; others do not get in."""
        house = self.open_house()
        peer, ear = await house.enter(self)
        house.is_open = False
        await house.listening.stopListening()
        with self.assertRaises(ConnectionRefusedError):
            Peer(self, house.port)
        await peer.say(b"still here")
        await until(lambda: ear.heard == b"still here")

    async def test_taken(self) -> None:
        """A port that is taken cannot be had."""
        house = self.open_house()
        factory = Factory.forProtocol(Ear)
        tls = server_tls(self)
        with self.assertRaises(CannotListenError) as caught:
            self.listen(tls, house.port, factory, 5, "127.0.0.1", reactor)
        self.assertEqual(caught.exception.socketError.errno, errno.EADDRINUSE)

    async def test_stock_client(self) -> None:
        """``openssl s_client`` is answered, also when it asks for new keys."""
        house = self.open_house()
        person = Person()
        reactor.spawnProcess(
            person,
            "openssl",
            ["openssl", "s_client", "-connect", f"127.0.0.1:{house.port}"],
            env=None,
        )
        await until(lambda: bool(house.ears) and "shook hands" in house.ears[0].events)
        ear = house.ears[0]
        ear.when_heard = lambda data: ear.wire.write(data.upper())
        person.transport.write(b"a word\n")
        await person.has_read(b"A WORD\n")
        # With K the server is to change its keys as well, with k it need not.
        for updates, command in enumerate((b"K\n", b"k\n"), 1):
            person.transport.write(command)
            await person.updated(updates)
            person.transport.write(b"word %d\n" % updates)
            await person.has_read(b"WORD %d\n" % updates)
        self.assertEqual(ear.heard, b"a word\nword 1\nword 2\n")
        person.transport.write(b"Q\n")
        self.assertIs(await ear.lost(), ConnectionDone)
        await person.ended


class Person(ProcessProtocol):
    """Somebody at a program."""

    transport: Any

    def __init__(self) -> None:
        self.read = b""
        self.updates = 0
        self.ended: Deferred[None] = Deferred()
        self._notes = b""

    def outReceived(self, data: bytes) -> None:
        """Read what was sent."""
        self.read += data

    def errReceived(self, data: bytes) -> None:
        """Read what the program has to say."""
        self._notes += data
        self.updates = self._notes.count(b"KEYUPDATE\n")

    async def has_read(self, words: bytes) -> None:
        """Wait until something was sent."""
        await until(lambda: words in self.read)

    async def updated(self, times: int) -> None:
        """Wait until keys were changed so many times."""
        await until(lambda: self.updates == times)

    def processEnded(self, _reason: object) -> None:
        """Leave."""
        self.ended.callback(None)


class TwistedTests(EitherTests):
    """The same with Twisted's own TLS."""

    listen = staticmethod(listen_tls_by_twisted)


class OnSocketTests(TlsTestCase):
    """What holds, or can be seen, with OpenSSL on the socket alone."""

    async def test_interfaces(self) -> None:
        """A protocol can use it as it uses a transport of Twisted's."""
        house = self.open_house()
        self.assertIsInstance(house.listening, TlsPort)
        _, ear = await house.enter(self)
        for interface in (
            ISSLTransport,
            IConsumer,
            IPushProducer,
            IReadWriteDescriptor,
        ):
            self.assertTrue(verifyObject(interface, ear.wire))
        self.assertIn("Ear,127.0.0.1", ear.wire.logPrefix())

    async def test_full_records(self) -> None:
        """What is long goes out in records as long as may be."""
        peer, ear = await self.open_house().enter(self)
        ear.wire.write(MUCH[:90_000])
        sizes = [len(await peer.record()) for _ in range(6)]
        self.assertEqual(sizes, [MAX_RECORD_BYTES] * 5 + [90_000 % MAX_RECORD_BYTES])

    async def test_changes_of_keys_without_end(self) -> None:
        """Somebody who only changes keys, again and again, lets others have turns."""
        house = self.open_house()
        peer = Peer(self, house.port)
        changer = KeyChanger()
        peer.tls = changer.connection
        await peer.shake_hands()
        ear = house.ears[-1]
        await until(lambda: "shook hands" in ear.events)
        ear.wire.pauseProducing()
        await peer.send(b"".join(changer.change() for _ in range(20)))
        await peer.send(changer.record(b"at last"))
        await pause(SOON_S)
        for _ in range(20):
            ear.wire.doRead()
            self.assertEqual(ear.heard, b"")
        ear.wire.resumeProducing()
        await until(lambda: ear.heard == b"at last")

    async def test_reader_is_not_made_to_wait(self) -> None:
        """A producer of much does not wait for a peer that reads."""
        peer, ear = await self.open_house().enter(self)
        producer = Producer(ear)
        ear.wire.registerProducer(producer, True)
        for _ in range(5):
            ear.wire.write(MUCH[: MAX_UNSENT_BYTES + 1])
            await peer.hear(MAX_UNSENT_BYTES + 1)
        self.assertEqual(producer.orders, [])

    async def test_answer_to_last_words(self) -> None:
        """What is said to the words before a goodbye is sent before the own one."""
        peer, ear = await self.open_house().enter(self)
        ear.when_heard = ear.wire.write
        peer.tls.send(b"last words")
        await peer.goodbye()
        self.assertEqual(await peer.hear_all(), (b"last words", SSL.ZeroReturnError))
        self.assertIs(await ear.lost(), ConnectionDone)

    async def test_over(self) -> None:
        """Nothing can be done with a connection that is over, and nothing is wrong."""
        peer, ear = await self.open_house().enter(self)
        wire = ear.wire
        await peer.goodbye()
        await ear.lost()
        wire.write(b"nobody is there")
        wire.flush()
        wire.loseConnection()
        wire.loseWriteConnection()
        wire.pauseProducing()
        wire.resumeProducing()
        wire.unregisterProducer()
        wire.abortConnection()
        wire.doRead()
        wire.doWrite()
        self.assertEqual(wire.fileno(), -1)
        await pause(SOON_S)
        self.assertEqual(len(ear.reasons), 1)

    async def test_memory_is_given_back(self) -> None:
        """OpenSSL's part of a connection ends with it, whoever knows the transport."""
        peer, ear = await self.open_house().enter(self)
        wire = ear.wire
        there = weakref.ref(wire.getHandle())
        self.addCleanup(gc.enable)
        gc.disable()
        await peer.goodbye()
        await ear.lost()
        self.assertFalse(wire.connected)
        self.assertIsNone(there())

    async def test_half_closed(self) -> None:
        """Who has said goodbye can go on hearing, and has then a clean end."""
        peer, ear = await self.open_house().enter(self)
        ear.wire.write(b"all")
        ear.wire.loseWriteConnection()
        ear.wire.write(b"too late")
        self.assertEqual(await peer.hear_all(), (b"all", SSL.ZeroReturnError))
        self.assertTrue(await peer.stream_ends())
        await peer.say(b"and you?")
        await until(lambda: ear.heard == b"and you?")
        peer.socket.shutdown(socket.SHUT_WR)
        self.assertIs(await ear.lost(), ConnectionDone)

    async def test_goodbye_while_paused(self) -> None:
        """Who hangs up while reading is paused hears the peer's goodbye too."""
        peer, ear = await self.open_house().enter(self)
        ear.wire.pauseProducing()
        await peer.say(b"unheard")
        ear.wire.stopProducing()
        self.assertEqual(await peer.hear_all(), (b"", SSL.ZeroReturnError))
        await peer.goodbye()
        self.assertIs(await ear.lost(), ConnectionDone)
        self.assertEqual(ear.heard, b"")

    async def test_do_not_wait(self) -> None:
        """A peer whose goodbye nobody waits for has the end at once."""
        for before in (True, False):
            peer, ear = await self.open_house().enter(self)
            if before:
                ear.wire.do_not_wait()
            ear.wire.write(b"bye")
            ear.wire.loseConnection()
            if not before:
                await pause(SOON_S)
                ear.wire.do_not_wait()
            self.assertIs(await ear.lost(), ConnectionDone)
            self.assertEqual(await peer.hear_all(), (b"bye", SSL.ZeroReturnError))

    async def test_goodbye_of_who_does_not_read(self) -> None:
        """A goodbye from a peer that leaves much unread costs nothing to wait for."""
        house = self.open_house()
        peer, ear = await house.enter(self)
        ear.wire.write(MUCH)
        await pause(SOON_S)
        await peer.goodbye()
        peer.socket.shutdown(socket.SHUT_WR)
        await until(lambda: ear.wire not in house.listening.connections.getReaders())
        self.assertEqual(ear.reasons, [])
        self.assertIn(ear.wire, house.listening.connections.getWriters())
        heard, end = await peer.hear_all()
        self.assertEqual((heard, end), (MUCH, SSL.ZeroReturnError))
        self.assertIs(await ear.lost(), ConnectionDone)

    async def test_errors_stay_apart(self) -> None:
        """No error of one connection is left behind for the next one to find."""
        house = self.open_house()
        for reset in (False, True):
            peer, ear = await house.enter(self)
            ear.wire.pauseProducing()
            peer.hang_up(reset=reset)
            await pause(SOON_S)
            while not ear.reasons:
                ear.wire.write(b"is anybody there?")
                await pause(SOON_S)
            self.assertEqual(_openssl.ERR_peek_error(), 0)

    async def test_producer_comes_late(self) -> None:
        """A producer for a connection that is over is stopped."""
        peer, ear = await self.open_house().enter(self)
        wire = ear.wire
        peer.hang_up()
        await ear.lost()
        producer = Producer(ear)
        wire.registerProducer(producer, True)
        self.assertEqual(producer.orders, ["stop"])

    async def test_idle_connections(self) -> None:
        """A thousand idle connections take no more than 32 KiB each."""
        house = self.open_house()
        sockets: list[socket.socket] = []

        async def arrive() -> None:
            peers = [Peer(self, house.port) for _ in range(100)]
            await gatherResults(
                Deferred.fromCoroutine(peer.shake_hands()) for peer in peers
            )
            for peer in peers:
                await peer.say(b"hello")
            sockets.extend(peer.socket for peer in peers)
            await until(lambda: all(ear.heard for ear in house.ears))

        await arrive()
        before = resident_bytes()
        for _ in range(10):
            await arrive()
        self.assertLess(resident_bytes() - before, 1000 * 32 * 1024)
        self.assertEqual(len(house.ears), 1100)
        for sock in sockets:
            sock.close()
        for ear in house.ears:
            await ear.ended
            self.assertEqual(len(ear.reasons), 1)


class TurnEndTests(SynchronousTestCase):
    """Sending at the end of a turn."""

    def test_one_fails(self) -> None:
        """The error of one does not keep others from being sent."""
        clock = Clock()
        turn_end = TurnEnd(clock)
        flushed: list[str] = []

        class Broken(TlsTransport):
            def __init__(self) -> None:
                pass

            def flush(self) -> None:
                raise ZeroDivisionError

            def abortConnection(self) -> None:
                flushed.append("aborted")

        class Whole(Broken):
            def flush(self) -> None:
                flushed.append("flushed")

        for transport in (Whole(), Broken(), Whole()):
            turn_end.add(transport)
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        self.assertEqual(flushed, [])
        clock.advance(0)
        self.assertEqual(flushed, ["flushed", "aborted", "flushed"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
