"""Files in a box: listed, fetched, scanned once more, dropped, and gone in time."""

from __future__ import annotations

import hashlib
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode, MisuseError, StorageError
from securerecv.limits import MAX_DOWNLOADS_PER_ADDRESS
from securerecv.vault.segments import SEGMENT_BYTES
from tests.filekeeping import CLEAN, CONTENT, DAY_S, HELD, INFECTED, SMALL, FileTests
from tests.vaults import OnPostgres, OnSqlite, group_of


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


class SqliteBoxTests(OnSqlite, BoxTests, SynchronousTestCase):
    """On SQLite."""


class PostgresBoxTests(OnPostgres, BoxTests, SynchronousTestCase):
    """On PostgreSQL."""
