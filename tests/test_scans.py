"""What becomes of a file when it is scanned, on disk and in the store."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode, StorageError
from securerecv.limits import (
    HELD_AGAIN_AFTER_S,
    MAX_HELD_AGAIN_AFTER_S,
    MAX_SCANS,
    VERDICT_WAIT_S,
)
from tests.filekeeping import (
    CLEAN,
    CONTENT,
    HELD,
    INFECTED,
    LASTING,
    SMALL,
    FileTests,
    memory_files,
)
from tests.vaults import OnPostgres, OnSqlite


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

    def test_infected_and_stuck(self) -> None:
        """It is gone, and its owner told, though the disk does not give it back."""

        def fail(_: bytes) -> None:
            raise StorageError

        self.patch(self.blobs, "delete", fail)
        self.scanner.verdict = INFECTED
        file_id, state = self.deliver(CONTENT)
        self.assertEqual(state, "infected")
        self.assertEqual(self.told_states(), ["scanning", "infected"])
        self.assertEqual(self.reactor.clock.getDelayedCalls(), [])
        self.assertEqual(self.blob_ids(), {file_id})
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)

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

    def test_dropped_ones_are_forgotten(self) -> None:
        """However many are held and dropped, no more is remembered of them."""
        for verdict in (HELD, LASTING):
            self.scanner.verdict = verdict
            file_id, _ = self.deliver(CONTENT)
            self.drop(file_id, self.alice)
        scans = self.files._scans
        self.assertEqual((scans._held, scans._lasting), ({}, {}))

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

    def test_asked_after_the_stop(self) -> None:
        """Who asks when the server stops does not wait for a verdict."""
        self.send_later()
        again = self.put(CONTENT)
        self.files.close()
        self.assertEqual(self.reactor.wait(again.finish()), "scanning")
        self.scanner.scans[0].done.callback(CLEAN)

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


class SqliteScanTests(OnSqlite, ScanTests, SynchronousTestCase):
    """On SQLite."""


class PostgresScanTests(OnPostgres, ScanTests, SynchronousTestCase):
    """On PostgreSQL."""
