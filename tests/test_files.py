"""Files on their way in and out, through threads, store and disk."""

from __future__ import annotations

import hashlib
import os
import resource
import secrets
import threading
import tracemalloc
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode, MisuseError, StorageError
from securerecv.intake.keptfiles import THREADS, FileRules
from securerecv.interfaces import Upload
from securerecv.limits import (
    HELD_AGAIN_AFTER_S,
    MAX_DOWNLOADS_PER_ADDRESS,
    MAX_HELD_AGAIN_AFTER_S,
    MAX_SCANS,
    MAX_UPLOADS,
    MAX_UPLOADS_PER_ADDRESS,
    VERDICT_WAIT_S,
)
from securerecv.settings import Settings
from securerecv.vault.blobs import Blobs
from securerecv.vault.filewriter import _sealed_segment
from securerecv.vault.segments import SEALED_SEGMENT_BYTES, SEGMENT_BYTES
from tests.filekeeping import (
    CLEAN,
    DAY_S,
    HELD,
    INFECTED,
    LASTING,
    MAX_FILE,
    FileTests,
    memory_files,
)
from tests.vaults import PATIENCE_S, OnPostgres, OnSqlite, group_of

SIZES = (0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3_333_333)
CONTENT = secrets.token_bytes(2 * SEGMENT_BYTES + 12_345)
SMALL = b"the heron lands at dawn"


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


class ScanTests(FileTests):
    """What becomes of files when they are scanned."""

    def send_later(self, content: bytes = CONTENT, **how: Any) -> str:
        """Send a file, whose scan waits for the test; do not wait for it."""
        self.scanner.verdict = None
        upload = self.put(content, **how)
        self.write(upload, content)
        before = len(self.scanner.scans)
        finished = upload.finish()
        self.until(lambda: len(self.scanner.scans) > before)
        self.reactor.clock.advance(VERDICT_WAIT_S)
        self.assertEqual(self.reactor.wait(finished), "scanning")
        return upload.id

    def told_states(self) -> list[str]:
        """Give the states that were announced."""
        return [record.state.value for _, record in self.told]

    def test_in_time(self) -> None:
        """The answer to a file waits a little for its verdict."""
        self.scanner.verdict = None
        upload = self.put(CONTENT)
        self.write(upload, CONTENT)
        finished = upload.finish()
        self.until(lambda: bool(self.scanner.scans))
        self.assertEqual(self.scanner.scans[0].content, CONTENT)
        self.reactor.clock.advance(VERDICT_WAIT_S - 1)
        self.assertNoResult(finished)
        self.scanner.scans[0].done.callback(INFECTED)
        self.assertEqual(self.reactor.wait(finished), "infected")
        self.assertEqual(self.reactor.clock.getDelayedCalls(), [])

    def test_not_in_time(self) -> None:
        """A verdict that takes longer is announced, and learnt by sending again."""
        file_id = self.send_later()
        error = self.assert_refused(
            self.getting(file_id, self.alice), ErrorCode.NOT_CLEAN
        )
        self.assertIn("being scanned", error.words)
        again = self.put(CONTENT)
        self.assertEqual((again.id, again.offset), (file_id, len(CONTENT)))
        finished = again.finish()
        self.settle()
        self.scanner.scans[0].done.callback(CLEAN)
        self.assertEqual(self.reactor.wait(finished), "clean")
        self.assertEqual(self.told_states(), ["scanning", "clean"])
        self.assertEqual(self.fetch(file_id, self.alice), CONTENT)

    def test_infected(self) -> None:
        """An infected file is gone; its owner is told what it was."""
        self.scanner.verdict = INFECTED
        file_id, state = self.deliver(CONTENT)
        self.assertEqual(state, "infected")
        self.assertEqual(self.blob_ids(), set())
        line, why = self.lines(self.alice)
        self.assertTrue(line.startswith(f"FILE {file_id} infected {len(CONTENT)} "))
        self.assertEqual(why, f"WHY {file_id} Some-Signature")
        error = self.assert_refused(
            self.getting(file_id, self.alice), ErrorCode.INFECTED
        )
        self.assertIn("Some-Signature", error.words)
        self.drop(file_id, self.alice)
        self.assertEqual(self.lines(self.alice), [])

    def test_held(self) -> None:
        """A file that cannot be scanned is held, and tried again ever later."""
        self.scanner.verdict = HELD
        file_id, state = self.deliver(CONTENT)
        self.assertEqual(state, "held")
        self.assertEqual(self.lines(self.alice)[1], f"WHY {file_id} {HELD.words}")
        error = self.assert_refused(
            self.getting(file_id, self.alice), ErrorCode.NOT_CLEAN
        )
        self.assertIn(HELD.words, error.words)
        delay_s = HELD_AGAIN_AFTER_S
        while delay_s < 3 * MAX_HELD_AGAIN_AFTER_S:
            waits_s = min(delay_s, MAX_HELD_AGAIN_AFTER_S)
            scans = len(self.scanner.scans)
            self.reactor.clock.advance(waits_s - 0.5)
            self.settle()
            self.assertEqual(len(self.scanner.scans), scans)
            self.reactor.clock.advance(0.5)
            self.until(lambda: len(self.reactor.clock.getDelayedCalls()) == 1)
            self.assertEqual(len(self.scanner.scans), scans + 1)
            delay_s *= 2
        self.scanner.verdict = CLEAN
        self.reactor.clock.advance(MAX_HELD_AGAIN_AFTER_S)
        self.until(lambda: self.states(self.alice) == {file_id: "clean"})
        self.assertEqual(self.told_states(), ["scanning", "held", "clean"])
        self.assertEqual(self.reactor.clock.getDelayedCalls(), [])
        self.assertEqual(self.fetch(file_id, self.alice), CONTENT)
        self.assertEqual(len(self.lines(self.alice)), 1)

    def test_scanner_is_back(self) -> None:
        """What is held is scanned at once when the scanner answers again."""
        self.scanner.verdict = HELD
        ids = {self.deliver(CONTENT, name=str(number))[0] for number in range(3)}
        self.scanner.verdict = LASTING
        ids.add(self.deliver(CONTENT, name="encrypted")[0])
        self.scanner.verdict = INFECTED
        self.scanner.come_back()
        expected = dict.fromkeys(ids, "infected")
        self.until(lambda: self.states(self.alice) == expected)
        self.assertEqual(self.reactor.clock.getDelayedCalls(), [])

    def test_scanner_is_away(self) -> None:
        """Of many that are held one is tried; when it was scanned, all are."""
        self.scanner.verdict = HELD
        ids = {self.deliver(CONTENT, name=str(number))[0] for number in range(3)}
        self.assertEqual(len(self.scanner.scans), 3)
        for scans, delay_s in ((4, 5), (5, 10), (6, 20), (7, 40)):
            self.assertEqual(len(self.reactor.clock.getDelayedCalls()), 1)
            self.reactor.clock.advance(delay_s)
            self.until(lambda: len(self.reactor.clock.getDelayedCalls()) == 1)
            self.assertEqual(len(self.scanner.scans), scans)
        self.assertEqual(set(self.states(self.alice).values()), {"held"})
        self.scanner.verdict = CLEAN
        self.reactor.clock.advance(80)
        expected = dict.fromkeys(ids, "clean")
        self.until(lambda: self.states(self.alice) == expected)
        self.assertEqual(self.reactor.clock.getDelayedCalls(), [])

    def test_dropped_while_held(self) -> None:
        """Those that are held do not wait for one that is not there any more."""
        self.scanner.verdict = HELD
        first, _ = self.deliver(CONTENT, name="a")
        second, _ = self.deliver(CONTENT, name="b")
        self.drop(first, self.alice)
        self.scanner.verdict = CLEAN
        self.reactor.clock.advance(HELD_AGAIN_AFTER_S)
        self.until(lambda: self.states(self.alice) == {second: "clean"})

    def test_lasting(self) -> None:
        """What the scanner would say again each time is not asked again."""
        self.scanner.verdict = LASTING
        file_id, state = self.deliver(CONTENT)
        self.assertEqual(state, "held")
        self.assertEqual(self.lines(self.alice)[1], f"WHY {file_id} it is encrypted")
        self.assertEqual(self.reactor.clock.getDelayedCalls(), [])

    def test_other_reason(self) -> None:
        """A new reason takes the place of the old, without a new announcement."""
        self.scanner.verdict = HELD
        file_id, _ = self.deliver(CONTENT)
        self.scanner.verdict = LASTING
        self.reactor.clock.advance(HELD_AGAIN_AFTER_S)
        expected = f"WHY {file_id} {LASTING.words}"
        self.until(lambda: self.lines(self.alice)[1] == expected)
        self.assertEqual(self.told_states(), ["scanning", "held"])

    def test_words_of_a_scanner(self) -> None:
        """What a scanner says is one line of bounded length."""
        self.scanner.verdict = evolve(INFECTED, words="a\r\n! FILE\tb " + "x" * 5000)
        self.deliver(CONTENT)
        _, why = self.lines(self.alice)
        self.assertIn(" a ! FILE b xxx", why)
        self.assertLess(len(why), 400)
        self.scanner.verdict = evolve(INFECTED, words="")
        self.deliver(CONTENT, name="other")
        self.assertIn("no reason", self.lines(self.alice)[-1])

    def test_restart(self) -> None:
        """What was not scanned yet is scanned after a restart."""
        scanning = self.send_later(name="a")
        self.scanner.verdict = HELD
        held, _ = self.deliver(CONTENT, name="b")
        self.scanner.verdict = CLEAN
        self.restart()
        expected = {scanning: "clean", held: "clean"}
        self.until(lambda: self.states(self.alice) == expected)
        self.assertEqual(self.fetch(scanning, self.alice), CONTENT)

    def test_memory(self) -> None:
        """What was opened for a scan is closed again, after the stop as well."""
        before = memory_files()
        self.deliver(CONTENT, name="a")
        self.until(lambda: memory_files() <= before)
        self.send_later(name="b")
        self.assertEqual(len(memory_files() - before), 1)
        self.files.close()
        self.scanner.scans[-1].done.callback(CLEAN)
        self.assertLessEqual(memory_files(), before)

    def test_stopped_meanwhile(self) -> None:
        """A verdict that comes after the stop is asked for again."""
        file_id = self.send_later()
        self.files.close()
        self.scanner.scans[0].done.callback(CLEAN)
        self.settle()
        self.assertEqual(self.states(self.alice), {file_id: "scanning"})

    def test_stopped_while_one_waits(self) -> None:
        """Who waits for a verdict at the stop is told how far it is, at once."""
        self.scanner.verdict = None
        upload = self.put(CONTENT)
        self.write(upload, CONTENT)
        finished = upload.finish()
        self.until(lambda: bool(self.reactor.clock.getDelayedCalls()))
        self.files.close()
        self.assertEqual(self.reactor.wait(finished), "scanning")
        self.assertEqual(self.reactor.clock.getDelayedCalls(), [])

    def test_store_fails(self) -> None:
        """A verdict that could not be stored is asked for again."""
        self.scanner.verdict = None
        upload = self.put(CONTENT)
        self.write(upload, CONTENT)
        finished = upload.finish()
        self.until(lambda: bool(self.scanner.scans))
        write = self.store.write
        self.patch(self.store, "write", lambda _: fail(StorageError("it is away")))
        self.scanner.scans[0].done.callback(CLEAN)
        self.assertEqual(self.reactor.wait(finished), "scanning")
        self.patch(self.store, "write", write)
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)
        self.scanner.verdict = CLEAN
        self.reactor.clock.advance(HELD_AGAIN_AFTER_S)
        self.until(lambda: self.states(self.alice) == {upload.id: "clean"})

    def test_a_few_at_once(self) -> None:
        """Not more files than that are in memory for the scanner."""
        self.scanner.verdict = None
        for number in range(MAX_SCANS + 2):
            upload = self.put(SMALL, name=str(number))
            self.write(upload, SMALL)
            finished = upload.finish()
            self.until(lambda: bool(self.reactor.clock.getDelayedCalls()))
            self.reactor.clock.advance(VERDICT_WAIT_S)
            self.reactor.wait(finished)
        self.assertEqual(len(self.scanner.scans), MAX_SCANS)
        self.scanner.scans[0].done.callback(CLEAN)
        self.until(lambda: len(self.scanner.scans) == MAX_SCANS + 1)

    def test_dropped_meanwhile(self) -> None:
        """A verdict on a file that its owner has dropped changes nothing."""
        for verdict in (CLEAN, INFECTED, HELD):
            file_id = self.send_later(name=verdict.kind.value)
            self.drop(file_id, self.alice)
            self.assertEqual(self.blob_ids(), set())
            self.told.clear()
            self.scanner.scans[-1].done.callback(verdict)
            self.settle()
            self.assertEqual(self.told, [])
            self.assertEqual(self.lines(self.alice), [])
            self.assertEqual(self.reactor.clock.getDelayedCalls(), [])

    def test_damaged(self) -> None:
        """A file that the disk has damaged is held, and says so."""
        self.scanner.verdict = None
        other = self.send_later(SMALL, name="other")
        upload = self.put(CONTENT)
        self.write(upload, CONTENT)
        with (self.data / "files" / upload.id).open("r+b") as file:
            file.write(b"?")
        self.scanner.verdict = CLEAN
        self.until(lambda: upload._writer.progress.segments == 3)  # type: ignore[attr-defined] # it is a FileUpload
        with (self.data / "files" / upload.id).open("r+b") as file:
            file.write(b"????????????????")
        self.assertEqual(self.reactor.wait(upload.finish()), "held")
        self.assertIn("damaged", self.lines(self.alice)[-1])
        self.assertIn(other, self.states(self.alice))


class BoxTests(FileTests):
    """What owners do with their files."""

    def test_other_people(self) -> None:
        """A file is there for its owner and for nobody else."""
        file_id, _ = self.deliver(CONTENT, sender=self.bob)
        for other in (self.bob, None):
            self.assertEqual(self.lines(other), [])
            self.assert_refused(self.getting(file_id, other), ErrorCode.NO_SUCH_ID)
            dropped = self.files.drop(self.avatar(other), file_id)
            self.assert_refused(dropped, ErrorCode.NO_SUCH_ID)
        self.assertEqual(self.fetch(file_id, self.alice), CONTENT)

    def test_no_such_file(self) -> None:
        """What is no id, or that of nothing, is said to be so."""
        for written in ("", "x", "0" * 16, "0" * 15, "0" * 32, "é" * 16):
            getting = self.getting(written, self.alice)
            self.assert_refused(getting, ErrorCode.NO_SUCH_ID)
            dropped = self.files.drop(self.avatar(self.alice), written)
            self.assert_refused(dropped, ErrorCode.NO_SUCH_ID)

    def test_states(self) -> None:
        """Only what was found clean may be had."""
        upload = self.put(CONTENT)
        error = self.assert_refused(
            self.getting(upload.id, self.alice), ErrorCode.NOT_CLEAN
        )
        self.assertIn("received", error.words)

    def test_offset(self) -> None:
        """A download begins anywhere, up to its end."""
        file_id, _ = self.deliver(SMALL)
        for offset in (0, 1, len(SMALL)):
            self.reactor.wait(self.getting(file_id, self.alice, offset)).close()
        behind = self.getting(file_id, self.alice, len(SMALL) + 1)
        self.assert_refused(behind, ErrorCode.USAGE)

    def test_download(self) -> None:
        """A download says what it is, and gives one piece at a time."""
        file_id, _ = self.deliver(CONTENT, name="my report.pdf")
        download = self.reactor.wait(self.getting(file_id, self.alice))
        self.assertEqual(
            (download.id, download.size, download.sha256, download.name),
            (
                file_id,
                len(CONTENT),
                hashlib.sha256(CONTENT).hexdigest(),
                "my report.pdf",
            ),
        )
        reading = download.read(5, 10)
        self.assertRaises(MisuseError, download.read, 0, 1)
        self.assertEqual(self.reactor.wait(reading), CONTENT[5:15])
        for offset, size in ((len(CONTENT), 1), (-1, 1), (0, 0)):
            self.assertRaises(MisuseError, download.read, offset, size)
        largest = self.reactor.wait(download.read(0, 1 << 30))
        self.assertEqual(largest, CONTENT[:SEGMENT_BYTES])
        reading = download.read(0, 10)
        download.close()
        download.close()
        self.reactor.wait(reading.addErrback(lambda _: b""))
        self.assertRaises(StorageError, self.reactor.wait, download.read(0, 10))

    def test_dropped_while_fetched(self) -> None:
        """Who is fetching a file gets it to the end, though it is dropped."""
        file_id, _ = self.deliver(CONTENT)
        download = self.reactor.wait(self.getting(file_id, self.alice))
        self.drop(file_id, self.alice)
        self.assertEqual(self.blob_ids(), set())
        last = self.reactor.wait(download.read(len(CONTENT) - 3, 10))
        self.assertEqual(last, CONTENT[-3:])
        self.assert_refused(self.getting(file_id, self.alice), ErrorCode.NO_SUCH_ID)
        download.close()

    def test_downloads_at_once(self) -> None:
        """So many downloads of one address; a closed one makes room."""
        file_id, _ = self.deliver(SMALL)
        downloads = [
            self.reactor.wait(self.getting(file_id, self.alice))
            for _ in range(MAX_DOWNLOADS_PER_ADDRESS)
        ]
        self.assert_refused(self.getting(file_id, self.alice), ErrorCode.BUSY)
        downloads[0].close()
        self.reactor.wait(self.getting(file_id, self.alice))

    def test_lost_on_disk(self) -> None:
        """A clean file whose content is gone fails, and takes no place."""
        file_id, _ = self.deliver(SMALL)
        (self.data / "files" / file_id).unlink()
        for _ in range(MAX_DOWNLOADS_PER_ADDRESS + 1):
            getting = self.getting(file_id, self.alice)
            self.assertRaises(StorageError, self.reactor.wait, getting)

    def test_messages(self) -> None:
        """Messages are fetched and dropped by their ids as well."""
        group = group_of(("alice", CONTENT), ("alice", b""))
        self.reactor.wait(self.store.keep(group))
        for index, body in enumerate((CONTENT, b"")):
            message_id = group.ids[index].hex()
            download = self.reactor.wait(self.getting(message_id, self.alice))
            self.assertEqual(download.name, f"message-{message_id}")
            download.close()
            self.assertEqual(self.fetch(message_id, self.alice), body)
            self.assert_refused(
                self.getting(message_id, self.bob), ErrorCode.NO_SUCH_ID
            )
            behind = self.getting(message_id, self.alice, len(body) + 1)
            self.assert_refused(behind, ErrorCode.USAGE)
            self.drop(message_id, self.alice)
            self.assert_refused(
                self.getting(message_id, self.alice), ErrorCode.NO_SUCH_ID
            )

    def test_drop_while_received(self) -> None:
        """A file that its owner drops while it comes is refused at its end."""
        upload = self.put(CONTENT)
        self.write(upload, CONTENT[: SEGMENT_BYTES + 1])
        self.drop(upload.id, self.alice)
        self.write(upload, CONTENT[SEGMENT_BYTES + 1 :])
        self.assert_refused(upload.finish(), ErrorCode.NO_MAILBOX)
        self.settle()
        self.assertEqual(self.blob_ids(), set())
        self.assertEqual(self.lines(self.alice), [])

    # -- newer signatures -------------------------------------------------------------

    def test_same_signatures(self) -> None:
        """A file is not scanned again for each download."""
        file_id, _ = self.deliver(CONTENT)
        self.fetch(file_id, self.alice)
        self.assertEqual(len(self.scanner.scans), 1)

    def test_newer_signatures(self) -> None:
        """With newer signatures a file is scanned again before it is given, once."""
        file_id, _ = self.deliver(CONTENT)
        self.scanner.version = "v2"
        self.scanner.verdict = evolve(CLEAN, database="v2")
        for _ in range(2):
            self.assertEqual(self.fetch(file_id, self.alice), CONTENT)
        self.assertEqual([scan.content for scan in self.scanner.scans], [CONTENT] * 2)
        self.assertEqual(len(self.told), 2)

    def test_found_later(self) -> None:
        """What newer signatures find is destroyed, and its owner told."""
        file_id, _ = self.deliver(CONTENT)
        self.scanner.version = "v2"
        self.scanner.verdict = INFECTED
        for _ in range(2):
            error = self.assert_refused(
                self.getting(file_id, self.alice), ErrorCode.INFECTED
            )
            self.assertIn("Some-Signature", error.words)
        self.assertEqual(self.states(self.alice), {file_id: "infected"})
        self.assertEqual(self.blob_ids(), set())
        self.assertEqual(self.told[-1][1].state.value, "infected")

    def test_cannot_be_scanned_again(self) -> None:
        """What should be scanned again and cannot be has to wait, and is kept."""
        file_id, _ = self.deliver(CONTENT)
        self.scanner.verdict = HELD
        for version in ("v2", None):
            self.scanner.version = version
            error = self.assert_refused(
                self.getting(file_id, self.alice), ErrorCode.NOT_CLEAN
            )
            self.assertIn(HELD.words, error.words)
        self.assertEqual(self.states(self.alice), {file_id: "clean"})
        self.scanner.verdict, self.scanner.version = CLEAN, "v1"
        self.assertEqual(self.fetch(file_id, self.alice), CONTENT)

    def test_no_scanner_any_more(self) -> None:
        """What was found clean may be had when the operator scans no more."""
        file_id, _ = self.deliver(CONTENT)
        self.scanner.refusal = "this server scans nothing"
        self.scanner.version = None
        self.assertEqual(self.fetch(file_id, self.alice), CONTENT)

    # -- time, and crashes ------------------------------------------------------------

    def test_expiry(self) -> None:
        """Files go when it is time, and what lies on the disk with them."""
        clean, _ = self.deliver(CONTENT, name="a")
        unfinished = self.put(CONTENT, name="b")
        self.write(unfinished, CONTENT[:SEGMENT_BYTES])
        unfinished.abandon()
        self.settle()
        coming = self.put(CONTENT, name="c")
        self.assertEqual(self.blob_ids(), {clean, unfinished.id, coming.id})
        self.reactor.clock.advance(DAY_S - 1)
        self.check()
        self.assertEqual(len(self.lines(self.alice)), 3)
        self.reactor.clock.advance(1)
        self.check()
        self.assertEqual(self.blob_ids(), {clean, coming.id})
        self.reactor.clock.advance(6 * DAY_S)
        self.check()
        self.assertEqual(self.states(self.alice), {coming.id: "receiving"})
        self.assertEqual(self.blob_ids(), {coming.id})

    def test_account_was_removed(self) -> None:
        """With an account goes what lies on the disk for it."""
        self.deliver(CONTENT)
        self.remove_owner(self.alice)
        self.check()
        self.assertEqual(self.blob_ids(), set())

    def test_store_fails(self) -> None:
        """Where old files cannot be deleted it is tried again, and logged."""
        failing: Deferred[Any] = Deferred()
        self.patch(self.store, "write", lambda _: failing)
        checked = self.files.check()
        failing.errback(StorageError("it is away"))
        self.reactor.wait(checked)
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)

    def test_start(self) -> None:
        """After a crash content without a row goes, and everything else stays."""
        clean, _ = self.deliver(CONTENT)
        self.scanner.verdict = INFECTED
        infected, _ = self.deliver(CONTENT, name="b")
        for name in ("ab" * 8, infected):
            (self.data / "files" / name).write_bytes(b"left behind")
        self.restart()
        self.assertEqual(self.blob_ids(), {clean})
        self.assertEqual(self.fetch(clean, self.alice), CONTENT)

    def test_start_damaged(self) -> None:
        """What the disk has lost is not deleted from the store as well."""
        clean, _ = self.deliver(CONTENT)
        path = self.data / "files" / clean
        content = path.read_bytes()
        path.unlink()
        self.restart()
        self.assertEqual(self.states(self.alice), {clean: "clean"})
        path.write_bytes(content)
        self.assertEqual(self.fetch(clean, self.alice), CONTENT)

    def test_another_place(self) -> None:
        """What is on the disk of another server is listed, and left alone."""
        clean, _ = self.deliver(CONTENT)
        folder = self.data / "files"
        folder.rename(self.data / "elsewhere")
        self.restart()
        self.assertEqual(self.states(self.alice), {clean: "clean"})
        self.assert_refused(self.getting(clean, self.alice), ErrorCode.NOT_ALLOWED)
        self.check()
        # The same file sent here is another one.
        here, _ = self.deliver(CONTENT)
        self.assertNotEqual(here, clean)
        self.assertEqual(self.fetch(here, self.alice), CONTENT)


class SqliteUploadTests(OnSqlite, UploadTests, SynchronousTestCase):
    """On SQLite."""


class PostgresUploadTests(OnPostgres, UploadTests, SynchronousTestCase):
    """On PostgreSQL."""


class SqliteScanTests(OnSqlite, ScanTests, SynchronousTestCase):
    """On SQLite."""


class PostgresScanTests(OnPostgres, ScanTests, SynchronousTestCase):
    """On PostgreSQL."""


class SqliteBoxTests(OnSqlite, BoxTests, SynchronousTestCase):
    """On SQLite."""


class PostgresBoxTests(OnPostgres, BoxTests, SynchronousTestCase):
    """On PostgreSQL."""
