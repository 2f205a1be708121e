"""Nobody's files wait for all that somebody else has sent."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from securerecv.intake.turns import Party, Turns
from securerecv.limits import MAX_SCANS, VERDICT_WAIT_S
from tests.filekeeping import CLEAN, HELD, LASTING, FileTests
from tests.vaults import OnPostgres, OnSqlite, Owner

PLACES = 2


class TurnsTests(SynchronousTestCase):
    """Who is next."""

    def setUp(self) -> None:
        """Let nothing be under way."""
        self.turns = Turns(PLACES)
        self.begun: list[str] = []
        self.doing: list[Deferred[str]] = []

    def bring(self, party: Party, what: str) -> Deferred[str]:
        """Bring some work, which the test ends."""

        def work() -> Deferred[str]:
            self.begun.append(what)
            self.doing.append(Deferred())
            return self.doing[-1]

        return self.turns.run(party, work)

    def end(self, index: int = 0) -> str:
        """End the work that was begun first, or another; give what begins then."""
        self.doing.pop(index).callback("done")
        return self.begun[-1]

    def test_own_order(self) -> None:
        """Work of one party begins in its order, so much of it at once."""
        done = [self.bring(Party("alice"), what) for what in "1234"]
        self.assertEqual(self.begun, ["1", "2"])
        self.assertEqual([self.end(), self.end()], ["3", "4"])
        self.assertEqual(self.successResultOf(done[0]), "done")
        self.assertNoResult(done[2])

    def test_burst(self) -> None:
        """Who comes after a burst is next; each other one has one turn before."""
        for what in ("a1", "a2", "a3", "a4", "a5", "b1", "b2", "c1"):
            self.bring(Party(what[0]), what)
        order = [self.end() for _ in range(6)]
        self.assertEqual(order, ["b1", "a3", "c1", "b2", "a4", "a5"])

    def test_one_that_lasts(self) -> None:
        """What takes long takes one place, and no turn of somebody else's."""
        self.bring(Party("alice"), "long")
        for what in "12345":
            self.bring(Party("bob"), what)
        self.bring(Party("alice"), "another")
        self.assertEqual(self.end(1), "2")
        self.assertNotIn("another", self.begun)
        self.end(0)
        self.assertEqual(self.begun[-1], "another")

    def test_members(self) -> None:
        """Those of one name are as one to others, and take turns among themselves."""
        for what in ("x1", "x2", "x3", "y1", "y2", "z1"):
            self.bring(Party("anon", what[0]), what)
        for what in ("b1", "b2"):
            self.bring(Party("bob"), what)
        order = [self.end() for _ in range(6)]
        self.assertEqual(order, ["b1", "x3", "b2", "y1", "z1", "y2"])

    def test_failure(self) -> None:
        """Work that fails says so, and gives its place to the next."""
        for error in (ValueError("at once"), ValueError("later")):
            turns = Turns(1)

            def work(error: ValueError = error) -> Deferred[str]:
                if error.args == ("at once",):
                    raise error
                return fail(error)

            failed = turns.run(Party("alice"), work)
            self.assertIs(self.failureResultOf(failed, ValueError).value, error)
            done = turns.run(Party("alice"), lambda: "done")
            self.assertEqual(self.successResultOf(done), "done")

    def test_clear(self) -> None:
        """What was not begun is not begun any more."""
        waiting = [self.bring(Party("alice"), what) for what in "123"][2]
        self.turns.clear()
        self.end()
        self.assertEqual(self.begun, ["1", "2"])
        self.assertNoResult(waiting)


class ScanTurnTests(FileTests):
    """In which order files are scanned."""

    def deliver_later(
        self, what: str, sender: Owner | None = None, address: str = ""
    ) -> None:
        """Send a file, and do not wait for its scan."""
        content = what.encode()
        upload = self.put(content, sender=sender, name=what, address=address)
        self.write(upload, content)
        finished = upload.finish()
        self.until(lambda: bool(self.reactor.clock.getDelayedCalls()))
        self.reactor.clock.advance(VERDICT_WAIT_S)
        self.assertEqual(self.reactor.wait(finished), "scanning")

    def scanned(self) -> list[str]:
        """Tell which files the scanner was given, in that order."""
        return [scan.content.decode() for scan in self.scanner.scans]

    def next_scan(self, ended: int) -> str:
        """Let a scan end; tell which begins then."""
        before = len(self.scanner.scans)
        self.scanner.scans[ended].done.callback(CLEAN)
        self.until(lambda: len(self.scanner.scans) > before)
        return self.scanned()[-1]

    def burst(self) -> None:
        """Send many files anonymously, and one each by a neighbour and by bob."""
        self.scanner.verdict = None
        for what in ("x1", "x2", "x3", "x4"):
            self.deliver_later(what, address="192.0.2.66")
        self.deliver_later("y1", address="192.0.2.77")
        self.deliver_later("bob's", self.bob)

    def test_burst(self) -> None:
        """A burst of anonymous files holds up others' by those under way."""
        self.burst()
        self.assertEqual(self.scanned(), ["x1", "x2"])
        self.assertEqual(self.next_scan(0), "bob's")
        self.assertEqual(self.next_scan(1), "y1")
        # And everybody's turn comes.
        self.assertEqual([self.next_scan(at) for at in (2, 3)], ["x3", "x4"])

    def test_restart(self) -> None:
        """Who has sent a file is known after a restart, too."""
        self.burst()
        self.restart()
        self.until(lambda: len(self.scanner.scans) == MAX_SCANS)
        self.assertEqual(set(self.scanned()), {"x1", "bob's"})

    def test_restart_damaged(self) -> None:
        """A file whose description is damaged does not keep the others waiting."""
        self.burst()
        with self.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE file SET sealed_for_server = id")
        self.deliver_later("bob's other", self.bob)
        self.restart()
        self.until(lambda: self.scanned() == ["bob's other"])
        self.flushLoggedErrors()

    def test_held(self) -> None:
        """Files that were held are tried again in turn."""
        for verdict in (HELD, LASTING):
            self.scanner.verdict = verdict
            for number in range(MAX_SCANS + 2):
                self.deliver(b"%d" % number, name=f"{verdict.words} {number}")
            self.deliver(b"bob's", sender=self.bob, name=verdict.words)
            self.scanner.scans.clear()
            self.scanner.verdict = None
            self.scanner.come_back()
            self.until(lambda: len(self.scanner.scans) == MAX_SCANS)
            self.assertEqual(set(self.scanned()), {"0", "bob's"})
            self.scanner.verdict = CLEAN
            for scan in self.scanner.scans:
                scan.done.callback(CLEAN)
            self.until(lambda: set(self.states(self.alice).values()) == {"clean"})
            self.scanner.scans.clear()


class SqliteScanTurnTests(OnSqlite, ScanTurnTests):
    """See `ScanTurnTests`."""


class PostgresScanTurnTests(OnPostgres, ScanTurnTests):
    """See `ScanTurnTests`."""
