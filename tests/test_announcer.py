"""Telling those who watch what has come in."""

from __future__ import annotations

from attrs import define, field
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode, PeerError
from securerecv.intake.announcer import Announcer, News
from securerecv.wire.filelines import FileRecord, FileState
from securerecv.wire.lines import Message

MESSAGE = Message("00ff", "bob", 1_700_000_000_123, b"hi\n")


@define(eq=False)
class Ear:
    """
    Somebody who watches.

    Attributes:
        reads: it is quick enough to be told more.
        heard: what it was told.
    """

    reads: bool = True
    heard: list[News] = field(factory=list)

    def listen(self, news: News) -> bool:
        """Be told."""
        if self.reads:
            self.heard.append(news)
        return self.reads


class AnnouncerTests(SynchronousTestCase):
    """Watching and being told."""

    def setUp(self) -> None:
        """Begin with nobody who watches."""
        self.announcer = Announcer()
        self.ear = Ear()

    def test_watch(self) -> None:
        """Who watches a box is told of its messages, and of no others."""
        self.announcer.watch("alice", self.ear.listen)
        self.announcer.announce("alice", MESSAGE)
        self.announcer.announce("bob", MESSAGE)
        self.assertEqual(self.ear.heard, [MESSAGE])

    def test_files(self) -> None:
        """Who watches a box is told of its files as well."""
        record = FileRecord(
            "00ff", FileState.CLEAN, 1, "0" * 64, "bob", 1_700_000_000_123, "x"
        )
        self.announcer.watch("alice", self.ear.listen)
        self.announcer.announce("alice", record)
        self.assertEqual(self.ear.heard, [record])

    def test_as_the_sender_writes_it(self) -> None:
        """The sender need not write the name in its one form."""
        self.announcer.watch("strasse", self.ear.listen)
        for written in ("STRASSE", "Straße", "strasse"):
            self.announcer.announce(written, MESSAGE)
        self.assertEqual(self.ear.heard, [MESSAGE] * 3)

    def test_several(self) -> None:
        """All who watch a box are told, also behind one that is too slow."""
        slow, other = Ear(reads=False), Ear()
        for ear in (slow, self.ear, other):
            self.announcer.watch("alice", ear.listen)
        self.announcer.announce("alice", MESSAGE)
        self.assertEqual(
            [slow.heard, self.ear.heard, other.heard], [[], [MESSAGE], [MESSAGE]]
        )

    def test_one_fails(self) -> None:
        """A watcher whose end is broken keeps nobody else from hearing."""

        def fail(_news: News) -> bool:
            raise OSError

        self.announcer.watch("alice", fail)
        self.announcer.watch("alice", self.ear.listen)
        self.announcer.announce("alice", MESSAGE)
        self.assertEqual(self.ear.heard, [MESSAGE])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_unwatch(self) -> None:
        """Who stops watching is not told any more; the others are."""
        other = Ear()
        self.announcer.watch("alice", self.ear.listen)
        self.announcer.watch("alice", other.listen)
        self.announcer.unwatch("alice", self.ear.listen)
        self.announcer.announce("alice", MESSAGE)
        self.assertEqual([self.ear.heard, other.heard], [[], [MESSAGE]])
        self.assertTrue(self.announcer.is_heard)
        self.announcer.unwatch("alice", other.listen)
        self.assertFalse(self.announcer.is_heard)
        self.assertEqual(self.announcer._watchers, {})

    def test_unwatch_meanwhile(self) -> None:
        """Someone who stops while being told keeps nobody else from hearing."""
        other = Ear()

        def stop(news: News) -> bool:
            self.announcer.unwatch("alice", stop)
            return self.ear.listen(news)

        self.announcer.watch("alice", stop)
        self.announcer.watch("alice", other.listen)
        self.announcer.announce("alice", MESSAGE)
        self.announcer.announce("alice", MESSAGE)
        self.assertEqual([self.ear.heard, other.heard], [[MESSAGE], [MESSAGE, MESSAGE]])

    def test_hand_over(self) -> None:
        """An anonymous session that watches gets what it is sent."""
        self.announcer.watch("anon-x", self.ear.listen)
        self.announcer.hand_over("anon-x", MESSAGE)
        self.assertEqual(self.ear.heard, [MESSAGE])

    def test_nobody_there(self) -> None:
        """What nobody hears is refused: it would be kept nowhere."""
        self.announcer.watch("anon-x", self.ear.listen)
        for address in ("anon-y", "ANON-X", "anon-"):
            error = self.assertRaises(
                PeerError, self.announcer.hand_over, address, MESSAGE
            )
            self.assertIs(error.code, ErrorCode.NO_MAILBOX)
        self.assertEqual(self.ear.heard, [])

    def test_too_slow(self) -> None:
        """A session that does not read what it was sent is busy."""
        slow = Ear(reads=False)
        self.announcer.watch("anon-x", slow.listen)
        error = self.assertRaises(
            PeerError, self.announcer.hand_over, "anon-x", MESSAGE
        )
        self.assertIs(error.code, ErrorCode.BUSY)
        self.announcer.watch("anon-x", self.ear.listen)
        self.announcer.hand_over("anon-x", MESSAGE)
        self.assertEqual(self.ear.heard, [MESSAGE])
