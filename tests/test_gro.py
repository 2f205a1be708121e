"""
Datagrams in batches, over real sockets.

`BatchedTests` and `OneByOneTests` hold the same promises, with the kernel's
batches and without them.
"""

from __future__ import annotations

import errno
import math
import os
import random
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import CannotListenError, MessageLengthError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from securerecv.net import inbox
from securerecv.net.gro import (
    MAX_DATAGRAMS_PER_TURN,
    RECEIVE_BUFFER_BYTES,
    BatchPort,
    BatchProtocol,
    listen_datagrams,
)
from securerecv.net.inbox import MAX_TOGETHER
from securerecv.net.outbox import (
    MAX_BATCH_BYTES,
    MAX_QUEUED_BYTES,
    MAX_SEGMENTS,
    Address,
    DatagramCounters,
    Outbox,
    Way,
    batches,
    queued_size,
)
from securerecv.net.sockopts import (
    IP_MTU_DISCOVER,
    IP_PMTUDISC_PROBE,
    IPV6_MTU_DISCOVER,
    IPV6_PMTUDISC_PROBE,
    receive_in_batches,
    segment_control,
    sends_in_batches,
)
from tests.support import HOSTS

reactor: Any = _reactor


def addresses_of_ipv6() -> list[str]:
    """Give this machine's addresses that need no scope to be reached."""
    found = []
    for line in Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines():
        address = IPv6Address(bytes.fromhex(line.split()[0]))
        if not address.is_link_local:
            found.append(str(address))
    return found


TIMEOUT_S = 5.0
"""How long a test waits for what must come."""


class Collector(BatchProtocol):
    """Keeps what comes in."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[bytes], Address]] = []
        self.refusals = 0
        self._count = 0
        self._waiting: tuple[int, Deferred[None]] | None = None

    @property
    def datagrams(self) -> list[bytes]:
        """All that has come, in order."""
        return [datagram for batch, _ in self.calls for datagram in batch]

    def datagrams_received(self, datagrams: list[bytes], address: Address) -> None:
        """Keep them."""
        self.calls.append((datagrams, address))
        self._count += len(datagrams)
        self._tell()

    def connectionRefused(self) -> None:
        """Count it."""
        self.refusals += 1

    def wait_for(self, count: int) -> Deferred[None]:
        """Fire when so many datagrams have come in all."""
        arrived: Deferred[None] = Deferred()
        self._waiting = (count, arrived)
        self._tell()
        return arrived.addTimeout(TIMEOUT_S, reactor)

    def _tell(self) -> None:
        if self._waiting is not None and self._count >= self._waiting[0]:
            _, arrived = self._waiting
            self._waiting = None
            arrived.callback(None)


class Clogged(socket.socket):
    """
    A UDP socket whose send buffer has room for as much as a test says.

    Loopback takes every datagram at once, so that a real one is never full.
    """

    room: float = math.inf

    def sendmsg(self, *arguments: Any) -> int:
        """Send, or say that there is no room."""
        if self.room == 0:
            raise BlockingIOError(errno.EAGAIN, "full")
        sent = super().sendmsg(*arguments)
        self.room -= 1
        return sent


def payloads(*sizes: int) -> list[bytes]:
    """Make datagrams of these lengths that can be told from each other."""
    source = random.Random(len(sizes))  # noqa: S311  # they guard nothing
    return [source.randbytes(size) for size in sizes]


class PortTestCase(TestCase):
    """Opens ports and sockets, and closes them at the end."""

    batched = True

    def listen(
        self, interface: str = "127.0.0.1", protocol: BatchProtocol | None = None
    ) -> tuple[BatchPort, Any, Any]:
        """Open a port: the port, its protocol, and where it is."""
        protocol = protocol or Collector()
        port = listen_datagrams(reactor, 0, protocol, interface, batched=self.batched)
        self.addCleanup(port.stopListening)
        return port, protocol, port.socket.getsockname()

    def adopt(self, sock: socket.socket) -> tuple[BatchPort, Collector]:
        """Open a port on a socket."""
        protocol = Collector()
        port = BatchPort.adopt(sock, protocol, reactor, batched=self.batched)
        port.startListening()
        self.addCleanup(port.stopListening)
        return port, protocol

    def socket_at(self, host: str) -> socket.socket:
        """Open a plain socket, bound to a free port."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind((host, 0))
        sock.settimeout(TIMEOUT_S)
        return sock

    def wait(self, delay_s: float = 0.0) -> Deferred[None]:
        """Let the reactor do something else."""
        return deferLater(reactor, delay_s, lambda: None)

    def wait_until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fire when something holds; the test fails when it never does."""

        @inlineCallbacks
        def ask() -> Any:
            while not condition():
                yield self.wait(0.005)

        asked: Deferred[None] = ask()
        return asked.addTimeout(TIMEOUT_S, reactor)


class BatchedTests(PortTestCase):
    """What holds for a port, whatever the kernel can do."""

    @inlineCallbacks
    def test_receives(self) -> Any:
        """A datagram arrives as it was, with the address that it came from."""
        for host in HOSTS:
            port, protocol, address = self.listen(host)
            peer = self.socket_at(host)
            peer.sendto(b"one", address)
            yield protocol.wait_for(1)
            self.assertEqual(protocol.calls, [([b"one"], peer.getsockname())])
            self.assertEqual(port.counters.received, 1)
            self.assertEqual(port.counters.received_batches, 1)

    @inlineCallbacks
    def test_answers(self) -> Any:
        """What is sent to the address that came in reaches that peer."""
        for host in HOSTS:
            port, protocol, address = self.listen(host)
            peer = self.socket_at(host)
            peer.sendto(b"question", address)
            yield protocol.wait_for(1)
            self.assertEqual(port.send([b"answer"], protocol.calls[0][1]), 0)
            self.assertEqual(peer.recvfrom(100), (b"answer", address))
            self.assertEqual(port.counters.sent, 1)

    @inlineCallbacks
    def test_dual_stack(self) -> Any:
        """A port on `::` talks to IPv4 peers and to IPv6 peers."""
        if "::1" not in HOSTS:
            self.skipTest("this machine has no IPv6")
        port, protocol, (_, number, *_) = self.listen("::")
        for host, seen_as in (("127.0.0.1", "::ffff:127.0.0.1"), ("::1", "::1")):
            protocol.calls.clear()
            peer = self.socket_at(host)
            peer.sendto(b"question", (host, number))
            yield protocol.wait_for(protocol._count + 1)
            address = protocol.calls[0][1]
            self.assertEqual(address.host, seen_as)
            self.assertEqual(address.remote[:2], (seen_as, peer.getsockname()[1]))
            sent = payloads(700, 700, 100)
            self.assertEqual(port.send(sent, address), 0)
            self.assertEqual([peer.recv(1000) for _ in sent], sent)

    @inlineCallbacks
    def test_local_address(self) -> Any:
        """A port on all addresses answers from the one that was asked."""
        mapped = ["127.0.0.1", "127.0.0.2"]
        for interface, hosts in {
            "": mapped,
            "0.0.0.0": mapped,  # noqa: S104  # all addresses are what it is about
            "::": [*mapped, *addresses_of_ipv6()],
        }.items():
            if interface == "::" and "::1" not in HOSTS:
                continue
            port, protocol, (_, number, *_) = self.listen(interface)
            for host in hosts:
                # Connected, so that it hears only what comes from there.
                peer = self.socket_at("::" if ":" in host else "127.0.0.1")
                peer.connect((host, number))
                peer.send(b"question")
                yield protocol.wait_for(len(protocol.datagrams) + 1)
                sent = payloads(700, 700, 100)
                self.assertEqual(port.send(sent, protocol.calls[-1][1]), 0)
                self.assertEqual([peer.recv(1000) for _ in sent], sent)

    @inlineCallbacks
    def test_local_address_tells_peers_apart(self) -> Any:
        """Who speaks with two of our addresses is two peers, each always the same."""
        for interface in ("0.0.0.0", "::"):  # noqa: S104  # all of them
            if interface == "::" and "::1" not in HOSTS:
                continue
            _, protocol, (_, number, *_) = self.listen(interface)
            peer = self.socket_at("127.0.0.1")
            for host in ("127.0.0.1", "127.0.0.2") * 2:
                peer.sendto(b"question", (host, number))
                yield protocol.wait_for(len(protocol.datagrams) + 1)
            ways = [address for _, address in protocol.calls]
            self.assertEqual(ways[:2], ways[2:])
            self.assertEqual(len(set(ways)), 2)
            self.assertEqual(len({way[0] for way in ways}), 1)

    @inlineCallbacks
    def test_local_address_of_batches(self) -> Any:
        """Batches too are answered from the address that they were sent to."""
        port, protocol, (_, number, *_) = self.listen("0.0.0.0")  # noqa: S104  # all
        sender, answers, (_, own, *_) = self.listen("127.0.0.3")
        sent = payloads(*[500] * 40)
        for host in ("127.0.0.1", "127.0.0.2"):
            protocol.calls.clear()
            answers.calls.clear()
            sender.send(sent, (host, number))
            yield protocol.wait_for(protocol._count + len(sent))
            self.assertEqual(protocol.datagrams, sent)
            for datagrams, address in protocol.calls:
                assert isinstance(address, Way)
                self.assertEqual(address.remote, ("127.0.0.3", own))
                port.send(datagrams, address)
            yield answers.wait_for(answers._count + len(sent))
            self.assertEqual(answers.datagrams, sent)
            self.assertEqual({at for _, at in answers.calls}, {(host, number)})

    @inlineCallbacks
    def test_broadcast_is_answered(self) -> Any:
        """What was sent to everybody is answered from an address that is ours."""
        for interface in ("0.0.0.0", "::"):  # noqa: S104  # all of them
            if interface == "::" and "::1" not in HOSTS:
                continue
            port, protocol, (_, number, *_) = self.listen(interface)
            peer = self.socket_at("127.0.0.1")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            peer.sendto(b"question", ("127.255.255.255", number))
            yield protocol.wait_for(1)
            self.assertEqual(port.send([b"answer"], protocol.calls[0][1]), 0)
            self.assertEqual(peer.recv(100), b"answer")
            self.assertEqual(port.counters.send_errors, {})

    @inlineCallbacks
    def test_boundaries(self) -> Any:
        """What one port sends another receives, in order and cut as it was."""
        sender, _, _ = self.listen()
        for sizes in (
            [1],
            [0],
            [0, 0, 0],
            [1200] * 64,
            [1200] * 63 + [1],
            [1200] * 54 + [1199],
            [1200] * 200,
            [10, 20, 30, 30, 30, 20, 20, 0, 20, 5, 5, 5, 65507, 65507, 1],
            [40000, 40000, 25507],
            [],
        ):
            _, protocol, address = self.listen()
            sent = payloads(*sizes)
            self.assertEqual(sender.send(sent, address), 0)
            yield protocol.wait_for(len(sent))
            self.assertEqual(protocol.datagrams, sent)

    @inlineCallbacks
    def test_random_sizes(self) -> Any:
        """However lengths follow each other, the boundaries stay."""
        source = random.Random(7)  # noqa: S311  # a test's
        for host in HOSTS:
            sender, _, _ = self.listen(host)
            _, protocol, address = self.listen(host)
            sizes = source.choices([0, 1, 150, 150, 150, 1200, 1200, 9000], k=400)
            sent = payloads(*sizes)
            self.assertEqual(sender.send(sent, address), 0)
            yield protocol.wait_for(len(sent))
            self.assertEqual(protocol.datagrams, sent)
            self.assertEqual(sender.counters.sent, len(sent))

    def test_plain_receiver(self) -> None:
        """A peer that knows nothing of batches receives single datagrams."""
        port, _, _ = self.listen()
        peer = self.socket_at("127.0.0.1")
        sent = payloads(*[1200] * 64, 7)
        port.send(sent, peer.getsockname())
        self.assertEqual([peer.recv(65536) for _ in sent], sent)

    @inlineCallbacks
    def test_too_long(self) -> Any:
        """What cannot leave whole is said to be so, and does not stop the rest."""
        port, _, _ = self.listen()
        _, protocol, address = self.listen()
        too_long = bytes(65508)
        self.assertEqual(port.send([too_long], address), 1)
        sent = [b"a", too_long, b"b", too_long, too_long, b"c"]
        self.assertEqual(port.send(sent, address), 3)
        yield protocol.wait_for(3)
        self.assertEqual(protocol.datagrams, [b"a", b"b", b"c"])
        self.assertEqual(port.counters.too_long, 4)
        self.assertRaises(MessageLengthError, port.write, too_long, address)

    def test_never_fragments(self) -> None:
        """Every datagram leaves with Don't Fragment, whatever ICMP has claimed."""
        for host, level, option, value in (
            ("127.0.0.1", socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE),
            ("::", socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE),
            ("::", socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE),
        ):
            if host == "::" and "::1" not in HOSTS:
                continue
            port, _, _ = self.listen(host)
            self.assertEqual(port.socket.getsockopt(level, option), value)

    @inlineCallbacks
    def test_nobody_there(self) -> Any:
        """Sending to a port that nobody listens on disturbs nothing."""
        port, protocol, address = self.listen()
        gone = self.socket_at("127.0.0.1")
        closed = gone.getsockname()
        gone.close()
        port.send([b"x"] * 10, closed)
        yield self.wait(0.02)
        self.socket_at("127.0.0.1").sendto(b"still there", address)
        yield protocol.wait_for(1)
        self.assertEqual(protocol.refusals, 0)

    @inlineCallbacks
    def test_nobody_there_connected(self) -> Any:
        """A connected port hears of it, and goes on."""
        port, protocol, _ = self.listen()
        gone = self.socket_at("127.0.0.1")
        address = gone.getsockname()
        gone.close()
        port.connect(*address)
        port.send([b"anybody?"], None)
        yield self.wait_until(lambda: protocol.refusals == 1)
        port.send([b"anybody?"], None)
        yield self.wait_until(lambda: protocol.refusals == 2)
        self.assertEqual(port.counters.receive_errors, {"ECONNREFUSED": 2})
        back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(back.close)
        back.bind(address)
        back.sendto(b"here I am", port.socket.getsockname())
        yield protocol.wait_for(1)

    @inlineCallbacks
    def test_connected_peer_gone_while_clogged(self) -> Any:
        """What waits for room is still sent after the network reported an error."""
        sock = Clogged(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        port, protocol = self.adopt(sock)
        gone = self.socket_at("127.0.0.1")
        address = gone.getsockname()
        gone.close()
        port.connect(*address)
        port.send([b"anybody?"], None)
        sock.room = 0
        port.send([b"waits"], None)
        yield self.wait_until(lambda: protocol.refusals > 0)
        back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(back.close)
        back.bind(address)
        back.settimeout(TIMEOUT_S)
        sock.room = math.inf
        yield self.wait_until(lambda: port.counters.sent == 2)
        self.assertEqual(back.recv(100), b"waits")

    def test_cannot_be_sent(self) -> None:
        """A peer that cannot be answered costs a counter, not an exception."""
        port, _, _ = self.listen()
        self.assertEqual(port.send([b"x", b"y"], ("127.0.0.1", 0)), 0)
        self.assertEqual(port.counters.send_errors, {"EINVAL": 2})
        self.assertEqual(port.counters.sent, 0)

    @inlineCallbacks
    def test_protocol_fails(self) -> Any:
        """An exception in the protocol is logged, and the next peer is heard."""

        class Failing(Collector):
            def datagrams_received(
                self, datagrams: list[bytes], address: Address
            ) -> None:
                super().datagrams_received(datagrams, address)
                if datagrams == [b"bad"]:
                    raise ZeroDivisionError

        _, protocol, address = self.listen(protocol=Failing())
        for data in (b"bad", b"good"):
            self.socket_at("127.0.0.1").sendto(data, address)
        yield protocol.wait_for(2)
        self.assertEqual(protocol.datagrams, [b"bad", b"good"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    @inlineCallbacks
    def test_flood(self) -> Any:
        """However fast datagrams come, timers run after a bounded number."""

        class Echo(Collector):
            """Sends itself two for each, so that there is always more to read."""

            def datagrams_received(
                self, datagrams: list[bytes], address: Address
            ) -> None:
                super().datagrams_received(datagrams, address)
                if self._count < 20_000:  # a port that never stops fails, not hangs
                    self.transport.send(datagrams * 2, address)

        port, protocol, address = self.listen(protocol=Echo())
        port.send([b"boom"], address)
        yield protocol.wait_for(1000)
        yield self.wait()  # the turn in which that came is not counted from its start
        for _ in range(5):
            before = protocol._count
            yield self.wait()
            taken = protocol._count - before
            self.assertGreaterEqual(taken, MAX_DATAGRAMS_PER_TURN)
            self.assertLess(taken, MAX_DATAGRAMS_PER_TURN + MAX_SEGMENTS)

    @inlineCallbacks
    def test_stops(self) -> Any:
        """When a port has stopped its number is free, and sending is harmless."""
        port, protocol, address = self.listen()
        yield port.stopListening()
        self.assertIsNone(port.stopListening())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(address)
        self.assertEqual(port.send([b"x"], address), 0)
        self.assertEqual(port.counters.send_errors, {"EBADF": 1})
        self.assertIsNone(protocol.transport)

    @inlineCallbacks
    def test_stops_while_receiving(self) -> Any:
        """A protocol that stops its port is given nothing more."""

        class OneOnly(Collector):
            def datagrams_received(
                self, datagrams: list[bytes], address: Address
            ) -> None:
                super().datagrams_received(datagrams, address)
                self.transport.stopListening()

        protocol = OneOnly()
        port = listen_datagrams(reactor, 0, protocol, "127.0.0.1", batched=self.batched)
        for data in (b"first", b"second"):
            self.socket_at("127.0.0.1").sendto(data, port.socket.getsockname())
        yield self.wait_until(lambda: not port.connected)
        self.assertEqual(protocol.datagrams, [b"first"])

    @inlineCallbacks
    def test_handed_on_together(self) -> Any:
        """What one peer sent in separate calls is handed on together, in order."""
        port, protocol, address = self.listen()
        one, other = self.socket_at("127.0.0.1"), self.socket_at("127.0.0.1")
        sent = [b"%d" % number for number in range(2 * MAX_TOGETHER)]
        for data in sent:
            one.sendto(data, address)
        other.sendto(b"of another", address)
        one.sendto(b"last", address)
        yield protocol.wait_for(len(sent) + 2)
        sizes = [len(datagrams) for datagrams, _ in protocol.calls]
        self.assertEqual(sizes, [MAX_TOGETHER, MAX_TOGETHER, 1, 1])
        self.assertEqual(protocol.datagrams, [*sent, b"of another", b"last"])
        self.assertEqual(port.counters.received_batches, len(sent) + 2)

    @inlineCallbacks
    def test_handed_on_in_portions(self) -> Any:
        """However much has come at once, a protocol gets a part of it at a time."""
        _, protocol, address = self.listen()
        sent = payloads(*[100] * 24 * MAX_TOGETHER)
        sender, _, _ = self.listen()
        sender.send(sent, address)
        yield protocol.wait_for(len(sent))
        self.assertEqual(protocol.datagrams, sent)
        sizes = [len(datagrams) for datagrams, _ in protocol.calls]
        self.assertLess(max(sizes), 3 * MAX_TOGETHER)

    @inlineCallbacks
    def test_mixed(self) -> Any:
        """Batches and single datagrams of several peers arrive as each was sent."""
        _, protocol, address = self.listen()
        ports = [self.listen()[0] for _ in range(3)]
        sent = []
        for number, sizes in enumerate(([500] * 5, [500], [90], [90, 90, 7], [0], [8])):
            port = ports[number % 3]
            sent.append((payloads(*sizes), port.socket.getsockname()))
            port.send(sent[-1][0], address)
        yield protocol.wait_for(12)
        self.assertEqual(protocol.calls, sent)

    @inlineCallbacks
    def test_more_peers_than_are_remembered(self) -> Any:
        """However many peers there are, each one's address is right, later too."""
        self.patch(inbox, "MAX_ORIGINS", 3)
        _, protocol, address = self.listen()
        peers = [self.socket_at("127.0.0.1") for _ in range(5)] * 2
        for peer in peers:
            peer.sendto(b"x", address)
        yield protocol.wait_for(len(peers))
        found = [place for _, place in protocol.calls]
        self.assertEqual(found, [peer.getsockname() for peer in peers])

    @inlineCallbacks
    def test_turn(self) -> Any:
        """A turn ends once, behind all that was there; its failing stops nothing."""

        class Turns(Collector):
            def turn_over(self) -> None:
                self.calls.append(([], ("", 0)))
                raise ZeroDivisionError

        _, protocol, address = self.listen(protocol=Turns())
        for _ in range(2):
            for _ in range(3):
                self.socket_at("127.0.0.1").sendto(b"x", address)
            yield protocol.wait_for(protocol._count + 3)
        yield self.wait()
        counts = [len(datagrams) for datagrams, _ in protocol.calls]
        self.assertEqual(counts, [1, 1, 1, 0] * 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_taken(self) -> None:
        """An address that is taken cannot be listened on a second time."""
        _, _, (host, number) = self.listen()
        with self.assertRaises(CannotListenError):
            listen_datagrams(reactor, number, Collector(), host, batched=self.batched)

    def test_interface(self) -> None:
        """It is what Twisted wants of a port, and says where it listens."""
        port, _, address = self.listen()
        self.assertTrue(verifyObject(IListeningPort, port))
        self.assertEqual((port.getHost().host, port.getHost().port), address)

    @inlineCallbacks
    def test_adopts(self) -> Any:
        """A socket that somebody else has bound works like one of its own."""
        for host in HOSTS:
            bound = self.socket_at(host)
            address = bound.getsockname()
            bound.setblocking(True)
            port, protocol = self.adopt(socket.socket(fileno=bound.detach()))
            self.assertEqual(port.getHost().port, address[1])
            self.assertFalse(os.get_blocking(port.fileno()))
            peer = self.socket_at(host)
            peer.sendto(b"question", address)
            yield protocol.wait_for(1)
            port.send([b"answer"], protocol.calls[0][1])
            self.assertEqual(peer.recvfrom(100), (b"answer", address))
            yield port.stopListening()

    @inlineCallbacks
    def test_queue(self) -> Any:
        """What finds no room waits, in order and within bounds, and is sent then."""
        sock = Clogged(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        port, _ = self.adopt(sock)
        _, protocol, address = self.listen()
        sock.room = 0
        room = MAX_QUEUED_BYTES // queued_size([bytes(1000)])
        sent = [index.to_bytes(4) * 250 for index in range(room + 10)]
        for datagram in sent:
            self.assertEqual(port.send([datagram], address), 0)
        self.assertEqual(port.counters.dropped, 10)
        self.assertIn(port, reactor.getWriters())
        yield self.wait(0.01)
        self.assertEqual(port.counters.sent, 0)
        sock.room = 10
        yield protocol.wait_for(10)
        self.assertIn(port, reactor.getWriters())
        sock.room = math.inf
        port.send([b"last"], address)
        yield protocol.wait_for(room + 1)
        self.assertEqual(protocol.datagrams, [*sent[:room], b"last"])
        yield self.wait()
        self.assertNotIn(port, reactor.getWriters())

    @inlineCallbacks
    def test_stops_with_queue(self) -> Any:
        """What still waits when a port stops is counted as dropped."""
        sock = Clogged(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        port, _ = self.adopt(sock)
        sock.room = 0
        port.send([b"never"] * 3, sock.getsockname())
        yield port.stopListening()
        self.assertEqual(port.counters.dropped, 3)
        self.assertNotIn(port, reactor.getWriters())

    @inlineCallbacks
    def test_kernel_drops(self) -> Any:
        """What the kernel had no room for is counted, after the end too."""
        port, _, address = self.listen()
        self.assertEqual(port.counters.kernel_drops, 0)
        port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer = self.socket_at("127.0.0.1")
        for _ in range(100):
            peer.sendto(bytes(1000), address)
        drops = port.counters.kernel_drops
        self.assertGreater(drops, 0)
        yield port.stopListening()
        self.assertEqual(port.counters.kernel_drops, drops)
        self.assertEqual(port.counters.received, 0)

    def test_receive_buffer(self) -> None:
        """The receive buffer is raised as far as we may, and never made smaller."""
        plain = self.socket_at("127.0.0.1")
        default = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        port, _, _ = self.listen()
        granted = port.receive_buffer_bytes
        self.assertEqual(
            granted, port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        )
        self.assertGreaterEqual(granted, default)
        large = self.socket_at("127.0.0.1")
        large.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 3 * RECEIVE_BUFFER_BYTES)
        before = large.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        adopted, _ = self.adopt(socket.socket(fileno=large.detach()))
        self.assertGreaterEqual(adopted.receive_buffer_bytes, min(before, granted))

    @inlineCallbacks
    def test_many_peers(self) -> Any:
        """Datagrams of many peers are each credited to the one that sent it."""
        _, protocol, address = self.listen()
        peers = [self.socket_at("127.0.0.1") for _ in range(50)]
        for turn in range(4):
            for index, peer in enumerate(peers):
                peer.sendto(struct.pack("=HH", index, turn), address)
        yield protocol.wait_for(200)
        seen = [(data, peer) for batch, peer in protocol.calls for data in batch]
        self.assertEqual(
            seen,
            [
                (struct.pack("=HH", index, turn), peer.getsockname())
                for turn in range(4)
                for index, peer in enumerate(peers)
            ],
        )


class OneByOneTests(BatchedTests):
    """The same, as on a kernel that knows no batches."""

    batched = False

    @inlineCallbacks
    def test_one_by_one(self) -> Any:
        """Each datagram takes a system call of its own."""
        port, _, _ = self.listen()
        receiver, protocol, address = self.listen()
        port.send([bytes(1200)] * 64, address)
        yield protocol.wait_for(64)
        self.assertEqual(port.counters.sent_batches, 64)
        self.assertEqual(receiver.counters.received_batches, 64)


class KernelTests(PortTestCase):
    """That the kernel's batches are used where it has them."""

    def setUp(self) -> None:
        """Find out what it has."""
        sock = self.socket_at("127.0.0.1")
        if not (receive_in_batches(sock) and sends_in_batches(sock)):
            self.skipTest("this kernel has no UDP_GRO, or no UDP_SEGMENT")

    @inlineCallbacks
    def test_one_call(self) -> Any:
        """64 datagrams leave in one system call and arrive in one."""
        port, _, _ = self.listen()
        receiver, protocol, address = self.listen()
        sent = payloads(*[1000] * 63, 1)
        port.send(sent, address)
        yield protocol.wait_for(64)
        self.assertEqual(protocol.datagrams, sent)
        self.assertEqual(port.counters.sent_batches, 1)
        self.assertEqual(receiver.counters.received_batches, 1)

    @inlineCallbacks
    def test_foreign_batch(self) -> Any:
        """A batch of somebody else's is cut where the kernel says."""
        _, protocol, address = self.listen()
        peer = self.socket_at("127.0.0.1")
        for size, count, last in ((1200, 54, 1), (1, 64, 1), (600, 2, 599)):
            data = random.Random(size).randbytes(  # noqa: S311  # it guards nothing
                size * (count - 1) + last
            )
            protocol.calls.clear()
            peer.sendmsg([data], segment_control(size), 0, address)
            yield protocol.wait_for(protocol._count + count)
            self.assertEqual({len(one) for one in protocol.datagrams}, {size, last})
            self.assertEqual(b"".join(protocol.datagrams), data)

    def test_batch_refused(self) -> None:
        """A batch that the kernel refuses as a whole is sent piece by piece."""
        sock = Clogged(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        # With checksums off, the kernel refuses to cut a buffer (EIO).
        so_no_check = 11
        sock.setsockopt(socket.SOL_SOCKET, so_no_check, 1)
        counters = DatagramCounters()
        outbox = Outbox(sock, counters, batched=True)
        peer = self.socket_at("127.0.0.1")
        sent = payloads(*[900] * 10)
        sock.room = 4
        self.assertEqual(outbox.send(sent, peer.getsockname()), 0)
        self.assertEqual((counters.sent, counters.sent_batches), (4, 4))
        sock.room = math.inf
        outbox.flush()
        self.assertEqual([peer.recv(1000) for _ in sent], sent)
        self.assertEqual((counters.sent, counters.sent_batches), (10, 10))
        self.assertFalse(counters.send_errors)


class FullSocketTests(SynchronousTestCase):
    """An outbox on a socket whose buffer is really full."""

    def test_full(self) -> None:
        """Nothing is lost or swapped while the bound is kept."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        ours.setblocking(False)
        counters = DatagramCounters()
        outbox = Outbox(ours, counters, batched=False)
        sent = [index.to_bytes(4) * 1000 for index in range(200)]
        self.assertEqual(outbox.send(sent, None), 0)
        self.assertTrue(outbox)
        self.assertLess(counters.sent, 200)
        self.assertEqual(counters.dropped, 0)
        received = []
        while outbox:
            received.append(theirs.recv(5000))
            outbox.flush()
        received += [theirs.recv(5000) for _ in range(200 - len(received))]
        self.assertEqual(received, sent)
        self.assertEqual((counters.sent, counters.dropped), (200, 0))

    def test_bound(self) -> None:
        """Memory is bounded by bytes, and empty datagrams are not free."""
        for payload in (b"", bytes(1000), bytes(65507)):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            ours.setblocking(False)
            counters = DatagramCounters()
            outbox = Outbox(ours, counters, batched=True)
            room = MAX_QUEUED_BYTES // queued_size([payload])
            for _ in range(room + 1000):
                outbox.send([payload], None)
            self.assertEqual(counters.sent + counters.dropped, 1000)
            outbox.clear()
            self.assertEqual(counters.sent + counters.dropped, room + 1000)
            ours.close()
            theirs.close()


class BatchTests(SynchronousTestCase):
    """How datagrams are grouped for sending."""

    def check(self, sizes: list[int], *expected: list[int]) -> None:
        """Datagrams of these sizes make these groups."""
        grouped = list(batches([bytes(size) for size in sizes]))
        self.assertEqual(
            [[len(one) for one in group] for group in grouped], [*expected]
        )

    def test_groups(self) -> None:
        """Equal lengths go together, with one shorter at the end."""
        self.check([])
        self.check([5], [5])
        self.check([5, 5, 5], [5, 5, 5])
        self.check([5, 5, 3, 3], [5, 5, 3], [3])
        self.check([3, 5], [3], [5])
        self.check([5, 3, 5], [5, 3], [5])

    def test_empty(self) -> None:
        """An empty datagram cannot be a piece of anything."""
        self.check([0, 0, 5, 0, 5], [0], [0], [5], [0], [5])

    def test_bounds(self) -> None:
        """A group is never more than the kernel takes."""
        full = [5] * MAX_SEGMENTS
        self.check([*full, 5], full, [5])
        self.check([*full, 4], full, [4])
        half = MAX_BATCH_BYTES // 2
        self.check([half, half, 1], [half, half, 1])
        self.check([half, half, 2], [half, half], [2])
        self.check([65507, 1], [65507], [1])
