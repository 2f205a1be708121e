"""Descriptors in one epoll object, over real sockets and the real reactor."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet import reactor as _reactor
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import (
    IReactorFDSet,
    IReadDescriptor,
    IReadWriteDescriptor,
)
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from securerecv.net import epollset
from securerecv.net.epollset import EpollSet, set_on
from tests.support import pause
from tests.tlspeers import SOON_S, until

reactor: Any = _reactor


@implementer(IReadWriteDescriptor)
class End:
    """One end of a pair of sockets; writes down what it is called for."""

    def __init__(self, test: TestCase, wire: socket.socket, into: EpollSet) -> None:
        wire.setblocking(False)
        self.wire = wire
        self.into = into
        self.heard = b""
        self.writes = 0
        self.reasons: list[Any] = []
        self.when_read: Callable[[], object] = lambda: None
        self.when_lost: Callable[[], object] = lambda: None
        test.addCleanup(self.close)

    def fileno(self) -> int:
        """Give the number of the socket."""
        return self.wire.fileno()

    def logPrefix(self) -> str:
        """Name it."""
        return "end"

    def doRead(self) -> None:
        """Read what there is."""
        self.heard += self.wire.recv(100)
        self.when_read()

    def doWrite(self) -> None:
        """Write no more."""
        self.writes += 1
        self.wire.send(b"w")
        self.into.removeWriter(self)

    def connectionLost(self, reason: Failure) -> None:
        """Remove it."""
        self.reasons.append(reason.type)
        self.close()
        self.when_lost()

    def close(self) -> None:
        """Remove it, once."""
        if self.wire.fileno() >= 0:
            self.into.removeReader(self)
            self.into.removeWriter(self)
            self.wire.close()


class EpollSetTests(TestCase):
    """Descriptors in a set of their own are served as a reactor serves them."""

    def setUp(self) -> None:
        """Make a set in the reactor."""
        self.set = EpollSet(reactor)

    def pair(self) -> tuple[End, socket.socket]:
        """Connect two sockets; the first is to be watched."""
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        return End(self, near, self.set), far

    def test_interfaces(self) -> None:
        """It is to descriptors what a reactor is, and to a reactor a descriptor."""
        verifyObject(IReactorFDSet, self.set)
        verifyObject(IReadDescriptor, self.set)
        self.assertEqual(self.set.logPrefix(), "EpollSet")

    async def test_read_and_write(self) -> None:
        """Each is told what it asked for, until it asks no more."""
        ends = [self.pair() for _ in range(3)]
        for near, far in ends:
            self.set.addReader(near)
            self.set.addReader(near)
            self.set.addWriter(near)
            far.send(b"hello")
        await until(lambda: all(near.heard and near.writes for near, _ in ends))
        first, far = ends[0]
        self.set.removeReader(first)
        self.set.removeReader(first)
        for _, their in ends:
            their.send(b"!")
        await until(lambda: ends[2][0].heard == b"hello!")
        self.assertEqual(first.heard, b"hello")
        self.assertEqual([near.writes for near, _ in ends], [1, 1, 1])
        self.set.addReader(first)
        await until(lambda: first.heard == b"hello!")

    def test_reactor_knows(self) -> None:
        """The reactor has it while there is anything in it; so leaks are seen."""
        self.assertNotIn(self.set, reactor.getReaders())
        (near, _), (other, _) = self.pair(), self.pair()
        self.set.addReader(near)
        self.set.addWriter(near)
        self.set.addWriter(other)
        self.assertIn(self.set, reactor.getReaders())
        self.assertEqual(self.set.getReaders(), [near])
        self.assertEqual(self.set.getWriters(), [near, other])
        self.set.removeReader(near)
        self.set.removeWriter(other)
        self.assertIn(self.set, reactor.getReaders())
        self.set.removeWriter(near)
        self.assertNotIn(self.set, reactor.getReaders())

    async def test_one_fails(self) -> None:
        """An error ends the descriptor that raised it, and no other."""
        (near, far), (other, other_far) = self.pair(), self.pair()
        near.when_read = lambda: 1 / 0
        for end in (near, other):
            self.set.addReader(end)
        for their in (far, other_far):
            their.send(b"x")
        await until(lambda: other.heard == b"x")
        self.assertEqual(near.reasons, [ZeroDivisionError])
        self.assertEqual(other.reasons, [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.set.getReaders(), [other])

    async def test_end_fails(self) -> None:
        """Nor does an error at the end of one reach others, now or at the last."""
        for reactor_stops in (False, True):
            (near, far), (other, other_far) = self.pair(), self.pair()
            near.when_read = lambda: 1 / 0
            near.when_lost = lambda: int("nothing")
            for end in (near, other):
                self.set.addReader(end)
            if reactor_stops:
                self.set.connectionLost(Failure(ConnectionAborted()))
                self.assertEqual(other.reasons, [ConnectionAborted])
            else:
                for their in (far, other_far):
                    their.send(b"x")
                await pause(SOON_S)
                self.assertEqual((other.heard, other.reasons), (b"x", []))
                self.flushLoggedErrors(ZeroDivisionError)
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_removed_in_the_same_turn(self) -> None:
        """What one removes is not served any more, though it was ready too."""
        (near, far), (other, other_far) = self.pair(), self.pair()
        near.when_read, other.when_read = other.close, near.close
        for end, its_far in ((near, far), (other, other_far)):
            self.set.addReader(end)
            its_far.send(b"x")
        await pause(SOON_S)
        self.assertEqual(sorted([near.heard, other.heard]), [b"", b"x"])

    async def test_failed_socket(self) -> None:
        """Who waits only to write hears of a socket that has failed."""
        near, far = self.pair()
        for size in (1 << 16, 1):
            with self.assertRaises(BlockingIOError):
                while True:
                    near.wire.send(bytes(size))
        self.set.addWriter(near)
        far.close()
        await until(lambda: bool(near.reasons))
        self.assertTrue(issubclass(near.reasons[0], OSError))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_reactor_stops(self) -> None:
        """When the reactor ends its descriptors, each in the set hears of it."""
        (near, _), (other, _) = self.pair(), self.pair()
        self.set.addReader(near)
        self.set.addWriter(other)
        self.set.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual(near.reasons + other.reasons, [ConnectionAborted] * 2)
        self.assertNotIn(self.set, reactor.getReaders())

    def test_without_epoll(self) -> None:
        """Where the system has no epoll, the reactor serves them itself."""
        self.assertIsInstance(set_on(reactor), EpollSet)
        with mock.patch.object(epollset, "select", object()):
            self.assertIs(set_on(reactor), reactor)
