"""The server's UDP port, over loopback: DTLS from stock clients, and junk."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import select
import socket
import stat
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from attrs import define, field
from OpenSSL import SSL
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from securerecv.banner import banner, next_command
from securerecv.errors import OperatorError
from securerecv.net import counters
from securerecv.net.counters import Counters
from securerecv.net.dtls import DtlsDrop
from securerecv.net.outbox import Address
from securerecv.net.ports import take_ports
from securerecv.net.tls import ClientDtls
from securerecv.net.udp import WRITE_COUNTERS_EVERY_S, Kind, UdpServer
from securerecv.service import Receiver
from securerecv.settings import Settings
from tests.support import (
    GREETING_LINES,
    Talker,
    add_accounts,
    connect,
    new_folder,
    pause,
    reactor,
    resident_bytes,
    start_receiver,
)

PATIENCE_S = 20.0


class DtlsLine(DatagramProtocol):
    """A transport for a `Talker`: DTLS over a UDP port of its own."""

    noisy = False
    transport: Any = None

    def __init__(self, talker: Talker, port: int) -> None:
        self.is_in: Deferred[None] = Deferred()
        self._talker = talker
        self._port = port
        self._connection = ClientDtls().connection()
        self._shakes_hands = True

    def startProtocol(self) -> None:
        """Shake hands."""
        self.transport.connect("127.0.0.1", self._port)
        self._proceed()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Take a datagram."""
        self._connection.bio_write(datagram)
        self._proceed()

    def write(self, data: bytes) -> None:
        """Send a record."""
        self._connection.send(data)
        self._flush()

    def abortConnection(self) -> None:
        """Be gone without a word."""
        if not self._talker.is_lost:
            self.transport.stopListening()
            self._talker.connectionLost()

    def _proceed(self) -> None:
        try:
            if self._shakes_hands:
                self._connection.do_handshake()
                self._shakes_hands = False
                self.is_in.callback(None)
            while True:
                self._talker.dataReceived(self._connection.recv(1 << 14))
        except SSL.WantReadError:
            self._flush()
        except SSL.ZeroReturnError:
            self.abortConnection()

    def _flush(self) -> None:
        try:
            while True:
                self.transport.write(self._connection.bio_read(1 << 14))
        except SSL.WantReadError:
            pass


async def connect_udp(test: TestCase, receiver: Receiver) -> Talker:
    """Connect over DTLS and take the greeting."""
    talker = Talker()
    line = DtlsLine(talker, receiver.ports["udp"][1])
    talker.transport = line  # type: ignore[assignment] # has what a Talker uses
    reactor.listenUDP(0, line, "127.0.0.1")
    test.addCleanup(lambda: None if talker.is_lost else talker.hang_up())
    await line.is_in
    for _ in range(GREETING_LINES):
        await talker.line()
    return talker


class UdpTests(TestCase):
    """Tests with a receiver that has alice and bob."""

    proto = "both"

    def setUp(self) -> None:
        """Start a receiver."""
        self.settings = Settings(
            proto=self.proto, port=0, interface="127.0.0.1", data=new_folder(self)
        )
        add_accounts(self.settings, alice="wonder land", bob="builder")
        self.receiver = start_receiver(self, self.settings)


class TalkTests(UdpTests):
    """What people say over UDP."""

    async def test_both_transports(self) -> None:
        """What one says over UDP another hears over TCP, and the other way."""
        alice = await connect_udp(self, self.receiver)
        await alice.ask("LOGIN alice wonder land")
        await alice.ask("WATCH")
        bob = await connect(self, self.receiver)
        await bob.ask("LOGIN bob builder")
        await bob.ask("WATCH")
        await bob.ask("SAY alice from tcp")
        self.assertRegex(await alice.line(), r"^! MSG \S+ bob \S+ 8$")
        self.assertEqual(await alice.take(10), b"from tcp\r\n")
        await alice.ask("#1 SAY bob from udp")
        self.assertRegex(await bob.line(), r"^! MSG \S+ alice \S+ 8$")
        self.assertEqual(await bob.take(10), b"from udp\r\n")

    async def test_large_message(self) -> None:
        """A message that is too large for a record is announced, not shown."""
        bob = await connect(self, self.receiver)
        await bob.ask("LOGIN bob builder")
        large = b"x" * 5000
        (said,) = await bob.ask(b"SEND alice 5000\n" + large + b"\r\n")
        alice = await connect_udp(self, self.receiver)
        await alice.ask("LOGIN alice wonder land")
        number = said.removeprefix("+OK ")
        for request in ("LAST", f"READ {number}"):
            alice.say(request)
            heading = await alice.line()
            self.assertRegex(heading, rf"^\* MSG {number} bob \S+ 5000$")
            self.assertTrue((await alice.line()).startswith("+OK"))

    async def test_as_large_as_a_record(self) -> None:
        """What a peer sends may be as large as a record of DTLS can be."""
        alice = await connect_udp(self, self.receiver)
        await alice.ask("LOGIN alice wonder land")
        body = b"x" * 16_000
        (said,) = await alice.ask(b"SEND alice 16000\n" + body + b"\r\n")
        self.assertTrue(said.startswith("+OK "), said)

    async def test_many(self) -> None:
        """Fifty peers log in at once, and each is answered."""

        async def talk() -> None:
            talker = await connect_udp(self, self.receiver)
            await talker.ask("ANON")
            for number in range(20):
                answer = await talker.ask(f"#{number} SAY bob {number}")
                self.assertTrue(answer[0].startswith(f"#{number} +OK "), answer)
            await talker.ask("QUIT")
            await talker.lost

        await gatherResults([Deferred.fromCoroutine(talk()) for _ in range(50)])
        self.assertEqual(len(self.receiver.datagram_gate), 0)

    async def test_stop(self) -> None:
        """A server that stops says so, and goodbye, over UDP too."""
        alice = await connect_udp(self, self.receiver)
        await alice.ask("LOGIN alice wonder land")
        await self.receiver.stopService()
        self.assertEqual(await alice.line(), "! CLOSING the server is stopping")
        await alice.lost


class StockTests(UdpTests):
    """Stock clients hold the same conversation as over TCP."""

    STEPS = (
        ("", r"HINT.*\n"),
        ("LOGIN alice wrong\n", r"-ERR auth.*\n"),
        ("LOGIN alice wonder land\n", r"\+OK you are alice\n"),
        ("FROB\nSAY\n", r"-ERR usage HELP.*\n-ERR usage SAY <to> .*\n"),
        ("SAY alice one\n#b SAY alice two\n", r"\+OK \S+\n#b \+OK \S+\n"),
        ("SEND alice 5\na\nb\nc\n", r"\+OK \S+\n"),
        ("LAST\n", r"\+OK 3 messages\n"),
        ("WATCH\n", r"\+OK\n"),
        ("SAY alice pushed\n", r"\+OK \S+\n"),
        ("UNWATCH\nHELP\nPING\n", r"\+OK pong\n"),
        ("QUIT\n", r"\+OK goodbye\n"),
    )

    async def test_openssl(self) -> None:
        """``openssl s_client -dtls1_2 -quiet``, and without the option over TCP."""
        port = self.receiver.ports["udp"][1]
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet"]
        over_tcp = await deferToThread(_converse, command, self.STEPS)
        for number in _numbers(over_tcp):
            await self._drop(number)
        over_udp = await deferToThread(_converse, [*command, "-dtls1_2"], self.STEPS)
        self.assertEqual(_in_common(over_udp), _in_common(over_tcp))
        self.assertIn("\n! MSG ", over_udp)
        self.assertEqual(len(self.receiver.datagram_gate), 0)

    async def test_gnutls(self) -> None:
        """``gnutls-cli --udp``."""
        port = self.receiver.ports["udp"][1]
        command = ["gnutls-cli", "--udp", "--insecure", "--port", str(port)]
        command += ["--priority", "NORMAL:-VERS-ALL:+VERS-DTLS1.2", "127.0.0.1"]
        heard = await deferToThread(_converse, command, self.STEPS)
        self.assertIn("(AES-256-GCM)", heard)
        self.assertEqual(len(_numbers(heard)), 4)

    async def test_pipelined(self) -> None:
        """Lines typed before the server was asked come in one record, and all count."""
        port = self.receiver.ports["udp"][1]
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet"]
        lines = "LOGIN bob builder\nSAY bob one\nSAY bob two\nLAST\nQUIT\n"
        steps = ((lines, r"\+OK goodbye\n"),)
        heard = await deferToThread(_converse, [*command, "-dtls1_2"], steps)
        self.assertIn("\n+OK 2 messages\n", heard)

    async def _drop(self, number: str) -> None:
        talker = await connect(self, self.receiver)
        await talker.ask("LOGIN alice wonder land")
        await talker.ask(f"DROP {number}")
        await talker.hang_up()


class JunkTests(UdpTests):
    """What is nothing at all gets nothing at all."""

    proto = "udp"
    DATAGRAMS = 100_000

    async def test_junk(self) -> None:
        """Junk of every first byte: silence, no memory, and it is counted."""
        rng = random.Random(1)  # noqa: S311 - junk
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        sock.connect(("127.0.0.1", self.receiver.ports["udp"][1]))
        alice = await connect_udp(self, self.receiver)
        junk = [bytes([n % 256]) + rng.randbytes(n % 97) for n in range(1024)]
        sock.send(b"")
        for datagram in junk:
            sock.send(datagram)
        await pause(0.1)
        before = resident_bytes()
        for number in range(self.DATAGRAMS):
            sock.send(junk[number % 1024])
            if not number % 200:
                await pause(0)
        self.assertEqual(await alice.ask("PING"), ["+OK pong"])
        with self.assertRaises(BlockingIOError):
            sock.recv(1)
        self.assertLess(resident_bytes() - before, 8_000_000)
        self.assertEqual(len(self.receiver.datagram_gate), 1)
        await alice.hang_up()
        await self.receiver.stopService()
        counted = counters.read(self.settings.data)
        assert counted is not None
        sent = self.DATAGRAMS + len(junk) + 1
        self.assertEqual(counted.socket.kernel_drops, 0)
        self.assertGreater(counted.taken["other"], sent * 200 // 256)
        self.assertGreaterEqual(counted.taken.total(), sent)
        for kind in ("other", "sealed", "lane"):
            dropped = [
                count
                for reason, count in counted.dropped.items()
                if reason.partition(" ")[0] == kind
            ]
            self.assertEqual(sum(dropped), counted.taken[kind])


class PortTests(TestCase):
    """Which ports there are."""

    def _start(self, **words: Any) -> Receiver:
        settings = Settings(**words, data=new_folder(self))
        add_accounts(settings, alice="wonder land")
        return start_receiver(self, settings)

    async def test_udp_only(self) -> None:
        """``--proto udp`` has no TCP port, and says what to type."""
        receiver = self._start(proto="udp", port=0, interface="127.0.0.1")
        self.assertEqual(list(receiver.ports), ["udp"])
        host, port = receiver.ports["udp"]
        self.assertEqual(host, "127.0.0.1")
        with socket.socket() as sock:
            self.assertEqual(sock.connect_ex((host, port)), errno.ECONNREFUSED)
        shown = banner(receiver)
        self.assertIn(f"127.0.0.1:{port}\n", shown)
        self.assertIn(f"s_client -dtls1_2 -connect 127.0.0.1:{port} ", shown)
        talker = await connect_udp(self, receiver)
        self.assertEqual(await talker.ask("PING"), ["+OK pong"])

    def test_both(self) -> None:
        """Both have the same number, also when the system chose it."""
        receiver = self._start(port=0, interface="127.0.0.1")
        self.assertEqual(list(receiver.ports), ["tcp", "udp"])
        self.assertEqual(receiver.ports["tcp"], receiver.ports["udp"])

    def test_taken(self) -> None:
        """A port that somebody else has over UDP is refused as one over TCP."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            number = sock.getsockname()[1]
            settings = Settings(
                port=number, interface="127.0.0.1", data=new_folder(self)
            )
            receiver = Receiver(settings, reactor)
            with self.assertRaises(OperatorError) as caught:
                receiver.privilegedStartService()
        self.assertIn(f"port {number} cannot be had", str(caught.exception))

    async def test_six(self) -> None:
        """Over IPv6 it is the same, and what is to be typed can be typed."""
        receiver = self._start(proto="udp", port=0, interface="::1")
        port = receiver.ports["udp"][1]
        self.assertIn(f" [::1]:{port}\n", banner(receiver))
        command = next_command(receiver).split()
        steps = (("LOGIN alice wonder land\n", r"you are alice"), ("QUIT\n", "goodbye"))
        heard = await deferToThread(_converse, command, steps)
        self.assertIn("* securerecv/1 ready\n", heard)

    async def test_many_addresses(self) -> None:
        """A server on all addresses answers from the one that was asked."""
        receiver = self._start(proto="udp", port=0)
        port = receiver.ports["udp"][1]
        for host in ("127.0.0.1", "127.0.0.2"):
            # It hears only what comes from there.
            address = f"{host}:{port}"
            command = ["openssl", "s_client", "-dtls1_2", "-connect", address, "-quiet"]
            steps = (("#1 ANON\n", r"#1 \+OK anon-"), ("QUIT\n", "goodbye"))
            heard = await deferToThread(_converse, command, steps)
            self.assertIn("* securerecv/1 ready\n", heard)


@define
class FakePort:
    """A port that is taken until it is given back."""

    number: int
    stopped: bool = False

    def getHost(self) -> FakePort:
        """Say where it is."""
        return self

    @property
    def port(self) -> int:
        """Its number."""
        return self.number

    def stopListening(self) -> None:
        """Give it back."""
        self.stopped = True


@define
class FakeSystem:
    """
    Gives out ports.

    Attributes:
        next_free: what is given to who asks for any.
        taken: what nobody can have.
        missing: addresses that the machine does not have.
        ports: what was given.
    """

    next_free: int = 40_000
    taken: set[int] = field(factory=set)
    missing: set[str] = field(factory=set)
    ports: list[FakePort] = field(factory=list)

    def take(self, number: int, address: str) -> FakePort:
        """Give a port."""
        if not number:
            number = self.next_free
            self.next_free += 1
        if address in self.missing:
            raise CannotListenError(address, number, OSError(errno.EADDRNOTAVAIL, "no"))
        if number in self.taken:
            raise CannotListenError(address, number, OSError(errno.EADDRINUSE, "used"))
        self.ports.append(FakePort(number))
        return self.ports[-1]


class TakePortsTests(SynchronousTestCase):
    """Finding a number that is free for all transports."""

    def setUp(self) -> None:
        """Have a system for each transport."""
        self.tcp, self.udp = FakeSystem(), FakeSystem()
        self.listen = {"tcp": self.tcp.take, "udp": self.udp.take}

    def test_unlucky(self) -> None:
        """When the number is taken for the second, another is tried."""
        self.udp.taken = {40_000, 40_001}
        ports = take_ports(Settings(port=0), self.listen)
        self.assertEqual([port.number for port in ports.values()], [40_002] * 2)
        self.assertEqual([p.stopped for p in self.tcp.ports], [True, True, False])

    def test_very_unlucky(self) -> None:
        """Not without end."""
        self.udp.taken = set(range(65_536))
        with self.assertRaises(OperatorError):
            take_ports(Settings(port=0), self.listen)
        self.assertTrue(all(port.stopped for port in self.tcp.ports))

    def test_given(self) -> None:
        """A number that the operator gave is the only one."""
        self.udp.taken = {7443}
        with self.assertRaises(OperatorError):
            take_ports(Settings(), self.listen)
        self.assertEqual([port.stopped for port in self.tcp.ports], [True])

    def test_without_ipv6(self) -> None:
        """A machine without IPv6 receives on IPv4."""
        self.tcp.missing = self.udp.missing = {"::"}
        ports = take_ports(Settings(), self.listen)
        self.assertEqual([port.number for port in ports.values()], [7443, 7443])


class CounterTests(TestCase):
    """What is counted, and where it can be read."""

    async def test_written(self) -> None:
        """Each minute and at the end, for the owner only, without addresses."""
        folder = new_folder(self)
        folder.mkdir(0o700)
        clock = Clock()
        server = UdpServer(folder, clock)
        server.handle(Kind.DTLS, _answer)
        port = server.listen(reactor, 0, "127.0.0.1")
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.connect(("127.0.0.1", port.getHost().port))
        for datagram in (b"\x16a", b"\x17b", b"\xc1", b"\xc3", b"", b"\x13", b"\x40"):
            sock.send(datagram)
        await pause(0.05)
        self.assertIsNone(counters.read(folder))
        clock.advance(WRITE_COUNTERS_EVERY_S)
        counted = counters.read(folder)
        assert counted is not None
        self.assertEqual(counted.taken, {"dtls": 2, "sealed": 1, "lane": 1, "other": 3})
        self.assertEqual(
            counted.dropped,
            {"dtls malformed": 1, "sealed": 1, "lane": 1, "other": 3},
        )
        self.assertEqual(counted.socket.received, 7)
        sock.send(b"\x16a")
        await pause(0.05)
        await server.stop()
        self.assertEqual(server.send([b"too late"], sock.getsockname()), 0)
        self.assertEqual(clock.getDelayedCalls(), [])
        path = folder / "counters.json"
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertNotIn("127.0.0.1", path.read_text())
        self.assertEqual(list(folder.iterdir()), [path])
        counted = counters.read(folder)
        assert counted is not None
        self.assertEqual(counted.taken["dtls"], 3)

    def test_words(self) -> None:
        """One line says it all."""
        counted = Counters()
        self.assertEqual(
            counted.words(),
            "0 datagrams received, 0 sent, 0 came to nothing, 0 lost in the kernel",
        )
        counted.taken.update(dtls=7, other=2)
        counted.dropped.update({"other": 2})
        counted.socket.received = 9
        counted.socket.too_long = 1
        counted.socket.receive_errors["ECONNREFUSED"] = 3
        self.assertEqual(
            counted.words(),
            "9 datagrams received (dtls 7, other 2), 0 sent,"
            " 2 came to nothing (other 2), 0 lost in the kernel,"
            " 1 not sent (too long 1), 3 network errors (ECONNREFUSED 3)",
        )

    def test_read(self) -> None:
        """What was written is read; what is damaged is said to be."""
        folder = new_folder(self)
        folder.mkdir(0o700)
        written = Counters()
        written.taken["dtls"] = 5
        written.socket.send_errors["ENETUNREACH"] = 2
        counters.write(folder, written)
        self.assertEqual(counters.read(folder), written)
        for damage in ("{", "[]", "{}", '{"taken": 1}', json.dumps({"taken": {}})):
            (folder / "counters.json").write_text(damage)
            with self.assertRaises(ValueError):
                counters.read(folder)

    async def test_cannot_be_written(self) -> None:
        """A full disk does not end the server."""
        clock = Clock()
        server = UdpServer(new_folder(self), clock)
        server.listen(reactor, 0, "127.0.0.1")
        clock.advance(WRITE_COUNTERS_EVERY_S)
        clock.advance(WRITE_COUNTERS_EVERY_S)
        await server.stop()


def _answer(datagrams: Sequence[bytes], _: Address) -> list[DtlsDrop]:
    return [DtlsDrop.MALFORMED for one in datagrams if one.endswith(b"b")]


def _converse(command: list[str], steps: tuple[tuple[str, str], ...]) -> str:
    """Type into a program, step by step, and wait each time for what it shows."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    heard, at = "", 0
    try:
        for text, expected in steps:
            process.stdin.write(text.encode())
            process.stdin.flush()
            deadline = time.monotonic() + PATIENCE_S
            while (match := re.search(expected, heard[at:])) is None:
                left = max(0.0, deadline - time.monotonic())
                ready, _, _ = select.select([process.stdout], [], [], left)
                data = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
                assert data, f"no {expected!r} to {text!r} in:\n{heard}"
                heard += data.decode()
            at += match.end()
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    return heard


def _numbers(heard: str) -> list[str]:
    """Give the numbers of the messages that were sent."""
    return re.findall(r"\+OK ([0-9a-f]{16})\n", heard)


def _in_common(heard: str) -> list[str]:
    """Leave out what differs from one conversation to the next."""
    same = re.sub(r"[0-9a-f]{16}", "<id>", heard)
    return re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "<when>", same).splitlines()
