"""Files on their way in, through threads, store and disk."""

from __future__ import annotations

import hashlib
import os
import resource
import threading
import tracemalloc
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode, MisuseError, StorageError
from securerecv.intake.keptfiles import THREADS, FileRules
from securerecv.interfaces import Upload
from securerecv.limits import MAX_UPLOADS, MAX_UPLOADS_PER_ADDRESS
from securerecv.settings import Settings
from securerecv.vault.blobs import Blobs
from securerecv.vault.filewriter import _sealed_segment
from securerecv.vault.segments import SEALED_SEGMENT_BYTES, SEGMENT_BYTES
from tests.filekeeping import (
    CLEAN,
    CONTENT,
    DAY_S,
    INFECTED,
    MAX_FILE,
    SMALL,
    FileTests,
)
from tests.vaults import PATIENCE_S, OnPostgres, OnSqlite

SIZES = (0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3_333_333)


class UploadTests(FileTests):
    """Taking files in."""

    def test_round_trip(self) -> None:
        """What was sent is fetched, whatever its size and the size of pieces."""
        for size in SIZES:
            content = CONTENT[:1] * size if size > len(CONTENT) else CONTENT[:size]
            for piece in (999, 65_536, 2 * SEGMENT_BYTES + 1):
                upload = self.put(content, name=f"{size} {piece}")
                self.assertEqual((upload.size, upload.offset), (size, 0))
                self.write(upload, content, piece)
                self.assertEqual(self.reactor.wait(upload.finish()), "clean")
                self.assertEqual(self.fetch(upload.id, self.alice), content)
                self.assertEqual(self.scanner.scans[-1].content, content)

    def test_told(self) -> None:
        """The owner is told when a file is complete, and when it was scanned."""
        file_id, _ = self.deliver(SMALL, sender=self.bob, name="x/y/Wüste.txt")
        digest = hashlib.sha256(SMALL).hexdigest()
        self.assertEqual([to for to, _ in self.told], ["alice", "alice"])
        for (_, record), state in zip(self.told, ("scanning", "clean"), strict=True):
            self.assertEqual(
                record.line(),
                f"FILE {file_id} {state} {len(SMALL)} {digest} bob"
                " 2023-11-14T12:00:00.000Z Wüste.txt",
            )
        self.assertEqual(self.lines(self.alice), [self.told[-1][1].line()])
        self.assertEqual(self.lines(self.bob), [])

    def test_at_most_two_segments(self) -> None:
        """Who writes faster than the disk waits, with two segments in memory."""
        content = bytes(8 * SEGMENT_BYTES)
        upload = self.put(content)
        self.assertIsNone(upload.write(bytes(SEGMENT_BYTES)))
        self.assertIsNone(upload.write(bytes(SEGMENT_BYTES)))
        busy = upload.write(bytes(10))
        if busy is None:
            self.fail("it takes more")
        self.assertRaises(MisuseError, upload.write, b"x")
        self.assertRaises(MisuseError, upload.finish)
        self.reactor.wait(busy)
        self.assertIsNone(upload.write(b"x"))
        upload.abandon()

    def test_memory(self) -> None:
        """An upload needs less than 3 MiB, however large the file is."""
        content = memoryview(bytes(16 * SEGMENT_BYTES))
        digest = hashlib.sha256(content).digest()
        # What belongs to threads and not to uploads is made before, in all of them.
        barrier = threading.Barrier(THREADS)

        def warm_up() -> None:
            barrier.wait(PATIENCE_S)
            _sealed_segment()

        for done in [self.files._run(warm_up) for _ in range(THREADS)]:
            self.reactor.wait(done)
        upload = self.put(b"", size=len(content), sha256=digest)
        tracemalloc.start()
        try:
            for at in range(0, len(content), 65_536):
                busy = upload.write(content[at : at + 65_536])
                if busy is not None:
                    self.reactor.wait(busy)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(peak, 3 * SEGMENT_BYTES)
        upload.abandon()

    def test_misuse(self) -> None:
        """More than was announced is nobody's to write, and an end comes once."""
        upload = self.put(SMALL)
        self.assertRaises(MisuseError, upload.write, SMALL + b"x")
        self.write(upload, SMALL)
        self.reactor.wait(upload.finish())
        self.assertRaises(MisuseError, upload.finish)
        self.assertRaises(MisuseError, upload.write, b"x")
        upload.abandon()
        self.assertEqual(list(self.states(self.alice).values()), ["clean"])

    def test_mismatch(self) -> None:
        """Of a file that is not what was announced nothing is kept."""
        for content, written in (
            (CONTENT, CONTENT[:-1] + b"x"),
            (CONTENT, CONTENT[:-1]),
            (CONTENT, b""),
            (b"", b""),
        ):
            wrong = b"" if content else b"something"
            how: dict[str, Any] = {} if content else {"size": 0}
            sha256 = hashlib.sha256(content or wrong).digest()
            upload = self.put(content, sha256=sha256, **how)
            self.write(upload, written)
            self.assert_refused(upload.finish(), ErrorCode.MISMATCH)
            self.assertEqual(self.lines(self.alice), [])
            self.assertEqual(self.blob_ids(), set())
        self.assertEqual(self.told, [])

    def test_refused(self) -> None:
        """What cannot be taken is refused before a byte of it is sent."""
        for how, code in (
            ({"size": MAX_FILE + 1}, ErrorCode.TOO_LARGE),
            ({"name": "a/.."}, ErrorCode.USAGE),
            ({"name": "a\x1bb"}, ErrorCode.USAGE),
            ({"to": "anon-abcdefgh23456789"}, ErrorCode.NOT_ALLOWED),
            ({"to": "carol"}, ErrorCode.NO_MAILBOX),
            ({"to": "no name"}, ErrorCode.NO_MAILBOX),
        ):
            self.assert_refused(self.putting(SMALL, **how), code)
        self.scanner.refusal = "this server scans nothing"
        error = self.assert_refused(
            self.putting(SMALL, size=MAX_FILE + 1), ErrorCode.NO_SCANNER
        )
        self.assertEqual(error.words, "this server scans nothing")
        self.assertEqual(self.blob_ids(), set())

    def test_recipient_as_written(self) -> None:
        """A user is found however the name is written."""
        file_id, _ = self.deliver(SMALL, to="ALICE")
        self.assertIn(file_id, self.states(self.alice))

    # -- going on -----------------------------------------------------------------

    def begin(self, **how: Any) -> Upload:
        """Send a part of a file, and lose the connection."""
        upload = self.put(CONTENT, **how)
        self.write(upload, CONTENT[: 2 * SEGMENT_BYTES - 5])
        upload.abandon()
        upload.abandon()
        self.settle()
        return upload

    def test_go_on(self) -> None:
        """An upload that was lost goes on behind its last whole segment."""
        first = self.begin(sender=self.bob)
        self.assertEqual(self.states(self.alice), {first.id: "receiving"})
        upload = self.put(CONTENT, sender=self.bob)
        self.assertEqual((upload.id, upload.offset), (first.id, SEGMENT_BYTES))
        self.write(upload, CONTENT[upload.offset :])
        self.assertEqual(self.reactor.wait(upload.finish()), "clean")
        self.assertEqual(self.fetch(upload.id, self.alice), CONTENT)

    def test_another_file(self) -> None:
        """Who, to whom, size, content and name: one of them differs, it is new."""
        first = self.begin(sender=self.bob)
        other = CONTENT[:-1] + b"x"
        for content, how in (
            (CONTENT, {"sender": self.alice}),
            (CONTENT, {}),
            (CONTENT, {"sender": self.bob, "to": "bob"}),
            (CONTENT, {"sender": self.bob, "name": "other.pdf"}),
            (other, {"sender": self.bob}),
            (other + b"y", {"sender": self.bob}),
        ):
            upload = self.put(content, **how)
            self.assertNotEqual(upload.id, first.id)
            self.assertEqual(upload.offset, 0)
            upload.abandon()
            self.settle()

    def test_anonymous_goes_on(self) -> None:
        """Somebody without a name is known by the address."""
        first = self.begin()
        other = self.put(CONTENT, address="192.0.2.2")
        self.assertNotEqual(other.id, first.id)
        other.abandon()
        again = self.put(CONTENT)
        self.assertEqual((again.id, again.offset), (first.id, SEGMENT_BYTES))
        again.abandon()

    def test_go_on_after_crash(self) -> None:
        """After a crash a file goes on; what was torn is sent again."""
        upload = self.put(CONTENT)
        self.write(upload, CONTENT)
        self.until(lambda: upload._writer.progress.segments == 3)  # type: ignore[attr-defined] # it is a FileUpload
        path = self.data / "files" / upload.id
        os.truncate(path, 2 * SEALED_SEGMENT_BYTES - 1)
        self.restart()
        self.assertEqual(path.stat().st_size, SEALED_SEGMENT_BYTES)
        again = self.put(CONTENT)
        self.assertEqual((again.id, again.offset), (upload.id, SEGMENT_BYTES))
        self.write(again, CONTENT[again.offset :])
        self.assertEqual(self.reactor.wait(again.finish()), "clean")
        self.assertEqual(self.fetch(again.id, self.alice), CONTENT)

    def test_all_there_before_crash(self) -> None:
        """A file whose every byte was there before a crash needs only its end."""
        upload = self.put(CONTENT)
        self.write(upload, CONTENT)
        self.until(lambda: upload._writer.progress.segments == 3)  # type: ignore[attr-defined] # it is a FileUpload
        self.restart()
        again = self.put(CONTENT)
        self.assertEqual((again.id, again.offset), (upload.id, len(CONTENT)))
        self.assertEqual(self.reactor.wait(again.finish()), "clean")

    def test_nothing_came(self) -> None:
        """An announcement that nothing follows leaves nothing behind."""
        upload = self.put(CONTENT)
        self.write(upload, CONTENT[: SEGMENT_BYTES - 1])
        upload.abandon()
        self.until(lambda: not self.lines(self.alice))
        self.until(lambda: not self.blob_ids())
        crashed = self.put(CONTENT)
        self.restart()
        self.assertEqual(self.lines(self.alice), [])
        self.assertEqual(self.blob_ids(), set())
        self.assertNotEqual(self.put(CONTENT).id, crashed.id)

    def test_newest_wins(self) -> None:
        """Of two uploads of one file the newer goes on; the other's end says so."""
        first = self.put(CONTENT)
        self.write(first, CONTENT[: SEGMENT_BYTES + 5])
        second = self.put(CONTENT)
        self.assertEqual((second.id, second.offset), (first.id, SEGMENT_BYTES))
        self.write(first, CONTENT[SEGMENT_BYTES + 5 :])
        self.assert_refused(first.finish(), ErrorCode.BUSY)
        self.write(second, CONTENT[second.offset :])
        self.assertEqual(self.reactor.wait(second.finish()), "clean")
        self.assertEqual(self.fetch(second.id, self.alice), CONTENT)

    def test_newest_of_many(self) -> None:
        """However many come at once, one goes on, and each of the others ends."""
        *others, newest = [self.putting(CONTENT) for _ in range(5)]
        last = self.reactor.wait(newest)
        for other in others:
            finished: Deferred[Any] = other.addCallback(lambda upload: upload.finish())
            self.assert_refused(finished, ErrorCode.BUSY)
        self.write(last, CONTENT[last.offset :])
        self.assertEqual(self.reactor.wait(last.finish()), "clean")

    def test_while_it_ends(self) -> None:
        """A file announced again while its last bytes are stored is there already."""
        first = self.put(CONTENT)
        self.write(first, CONTENT)
        finished = first.finish()
        second = self.put(CONTENT)
        self.assertEqual((second.id, second.offset), (first.id, len(CONTENT)))
        self.assertEqual(self.reactor.wait(second.finish()), "clean")
        self.assertEqual(self.reactor.wait(finished), "clean")

    def test_there_already(self) -> None:
        """For a day a file that is there need not be sent again."""
        for verdict, state in ((CLEAN, "clean"), (INFECTED, "infected")):
            self.scanner.verdict = verdict
            file_id, _ = self.deliver(CONTENT, name=state)
            for _ in range(2):
                upload = self.put(CONTENT, name=state)
                self.assertEqual((upload.id, upload.offset), (file_id, len(CONTENT)))
                self.assertIsNone(upload.write(b""))
                self.assertRaises(MisuseError, upload.write, b"x")
                self.assertEqual(self.reactor.wait(upload.finish()), state)
                upload.abandon()
        self.assertEqual(len(self.scanner.scans), 2)
        self.reactor.clock.advance(DAY_S)
        upload = self.put(CONTENT, name="clean")
        self.assertEqual(upload.offset, 0)
        upload.abandon()

    # -- what goes wrong ------------------------------------------------------------

    def test_disk_full(self) -> None:
        """When the disk is full the sender is told; what was written counts later."""
        upload = self.put(CONTENT)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        most = SEALED_SEGMENT_BYTES + 1000
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
        try:
            self.write(upload, CONTENT)
            error = self.assertRaises(StorageError, self.reactor.wait, upload.finish())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        self.assertEqual(type(error).__name__, "StorageFullError")
        again = self.put(CONTENT)
        self.assertEqual((again.id, again.offset), (upload.id, SEGMENT_BYTES))
        self.write(again, CONTENT[again.offset :])
        self.assertEqual(self.reactor.wait(again.finish()), "clean")

    def test_disk_fails(self) -> None:
        """What the disk may have lost is not built upon."""
        upload = self.put(CONTENT)
        self.write(upload, CONTENT[:SEGMENT_BYTES])
        self.until(lambda: upload._writer.progress.segments == 1)  # type: ignore[attr-defined] # it is a FileUpload
        upload._writer.close()  # type: ignore[attr-defined] # (the same)
        self.write(upload, CONTENT[SEGMENT_BYTES:])
        self.assertRaises(StorageError, self.reactor.wait, upload.finish())
        self.settle()
        self.assertEqual(self.lines(self.alice), [])
        self.assertEqual(self.blob_ids(), set())

    def test_failed_before_it_ends(self) -> None:
        """After a failure bytes are thrown away, and the end says what it was."""
        upload = self.put(CONTENT)
        upload._writer.close()  # type: ignore[attr-defined] # it is a FileUpload
        self.write(upload, CONTENT[: 2 * SEGMENT_BYTES])
        self.until(lambda: upload._is_over)  # type: ignore[attr-defined] # (the same)
        self.assertIsNone(upload.write(CONTENT[2 * SEGMENT_BYTES :]))
        self.assertRaises(StorageError, self.reactor.wait, upload.finish())

    def test_account_removed(self) -> None:
        """Who sends to somebody who is removed meanwhile is told so."""
        upload = self.put(CONTENT)
        self.write(upload, CONTENT)
        self.remove_owner(self.alice)
        self.assert_refused(upload.finish(), ErrorCode.NO_MAILBOX)
        self.assertEqual(self.blob_ids(), set())

    def test_stopped(self) -> None:
        """A stop ends uploads, which go on after the next start."""
        upload = self.put(CONTENT)
        self.write(upload, CONTENT[: SEGMENT_BYTES + 1])
        self.files.close()
        self.assert_refused(upload.finish(), ErrorCode.BUSY)
        self.restart()
        again = self.put(CONTENT)
        self.assertEqual((again.id, again.offset), (upload.id, SEGMENT_BYTES))

    # -- limits ---------------------------------------------------------------------

    def test_busy(self) -> None:
        """So many files at once, of everybody and of one address."""
        uploads = [
            self.put(b"x", name=str(number), sender=self.bob)
            for number in range(MAX_UPLOADS_PER_ADDRESS)
        ]
        self.assert_refused(self.putting(b"x", name="more"), ErrorCode.BUSY)
        for number in range(MAX_UPLOADS_PER_ADDRESS, MAX_UPLOADS):
            address = f"192.0.2.{number // MAX_UPLOADS_PER_ADDRESS + 1}"
            how: dict[str, Any] = {"sender": self.alice, "to": "bob"}
            name = str(number)
            uploads.append(self.put(b"x", name=name, address=address, **how))
        elsewhere: dict[str, Any] = {"name": "more", "address": "192.0.2.99"}
        self.assert_refused(self.putting(b"x", **elsewhere), ErrorCode.BUSY)
        self.assertEqual(len({upload.id for upload in uploads}), MAX_UPLOADS)
        self.write(uploads[0], b"x")
        self.reactor.wait(uploads[0].finish())
        self.put(b"x", **elsewhere)

    def test_anonymous_leave_room(self) -> None:
        """Anonymous senders can take half of the places, and half of an address's."""
        half = MAX_UPLOADS_PER_ADDRESS // 2
        uploads = [
            self.put(b"x", name=str(number), address=f"192.0.2.{number // half}")
            for number in range(MAX_UPLOADS // 2)
        ]
        for address in ("192.0.2.0", "192.0.2.99"):
            more: dict[str, Any] = {"name": "more", "address": address}
            self.assert_refused(self.putting(b"x", **more), ErrorCode.BUSY)
        self.put(b"x", sender=self.bob, address="192.0.2.0")
        uploads[-1].abandon()
        self.until(lambda: len(self.files._reception.under_way) == MAX_UPLOADS // 2)
        self.put(b"x", name="more", address="192.0.2.99")

    def test_anonymous_make_way(self) -> None:
        """What somebody began without a name makes way, unless they go on."""
        self.rules = evolve(self.rules, box_bytes=4 * len(CONTENT))
        self.restart()
        idle = self.begin(name="idle")
        sending = self.put(CONTENT, name="sending")
        self.write(sending, CONTENT[:SEGMENT_BYTES])
        coming = self.put(CONTENT, name="coming")
        self.assert_refused(self.putting(CONTENT, name="more"), ErrorCode.FULL)
        self.until(lambda: self.blob_ids() == {sending.id, coming.id})
        for upload in (sending, coming):
            self.write(upload, CONTENT[SEGMENT_BYTES * (upload is sending) :])
            self.assertEqual(self.reactor.wait(upload.finish()), "clean")
        expected = {sending.id: "clean", coming.id: "clean"}
        self.assertEqual(self.states(self.alice), expected)
        self.drop(coming.id, self.alice)
        # It begins anew.
        again = self.put(CONTENT, name="idle")
        self.assertNotEqual((again.id, again.offset), (idle.id, SEGMENT_BYTES))
        again.abandon()

    def test_refused_ones_are_not_counted(self) -> None:
        """What was refused is not under way."""
        for _ in range(MAX_UPLOADS_PER_ADDRESS + 1):
            self.assert_refused(self.putting(b"x", to="carol"), ErrorCode.NO_MAILBOX)
        self.rules = evolve(self.rules, box_bytes=10)
        self.restart()
        for _ in range(MAX_UPLOADS_PER_ADDRESS + 1):
            self.assert_refused(self.putting(CONTENT), ErrorCode.FULL)
        self.put(b"x")

    def test_box_is_full(self) -> None:
        """A box holds as many bytes as the operator says, announced or there."""
        self.rules = evolve(self.rules, box_bytes=2 * len(CONTENT))
        self.restart()
        first, _ = self.deliver(CONTENT)
        # Half of the box is for those who have a name.
        self.assert_refused(self.putting(CONTENT, name="b"), ErrorCode.FULL)
        self.put(CONTENT, name="b", sender=self.bob)
        self.assert_refused(
            self.putting(b"x", name="c", sender=self.bob), ErrorCode.FULL
        )
        self.drop(first, self.alice)
        self.put(CONTENT, name="d", sender=self.bob)

    def test_keep_free(self) -> None:
        """Files leave room on the disk, what is announced counted in."""
        free = 10_000_000

        class SmallDisk(Blobs):
            def free_bytes(self) -> int:
                return free

        opened = self.open_blobs()
        small = SmallDisk(opened._folder, opened.place)
        self.patch(self, "open_blobs", lambda: small)
        self.rules = evolve(self.rules, keep_free=free - 2 * len(CONTENT))
        self.restart()
        first = self.put(CONTENT)
        second = self.put(CONTENT, name="b")
        self.assert_refused(self.putting(b"x", name="c"), ErrorCode.FULL)
        # What has come is on the disk, and not counted twice.
        self.write(first, CONTENT)
        self.reactor.wait(first.finish())
        self.put(CONTENT, name="c").abandon()
        second.abandon()
        self.settle()
        self.put(CONTENT, name="d")

    def test_rules(self) -> None:
        """The largest file that is taken always has room in a box."""
        settings = Settings(max_file=1 << 31, box_bytes=1, file_retention=3)
        rules = FileRules.of(settings)
        self.assertEqual(rules.box_bytes, 1 << 31)
        self.assertEqual(rules.retention_s, 3 * DAY_S)
        self.assertEqual(FileRules.of(Settings()).box_bytes, 1 << 30)


class SqliteUploadTests(OnSqlite, UploadTests, SynchronousTestCase):
    """On SQLite."""


class PostgresUploadTests(OnPostgres, UploadTests, SynchronousTestCase):
    """On PostgreSQL."""
