"""The memory of what was taken."""

from __future__ import annotations

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import StorageError
from securerecv.wire.datagram import MAX_SEQUENCE, MAX_TIME_DIFFERENCE_MS
from securerecv.wire.drops import Dropped, DropReason
from securerecv.wire.replay import WINDOW, ReplayMemory, ReplayRecord, Window, digest_of

NOW_MS = 1_800_000_000_000
TOLERANCE_MS = MAX_TIME_DIFFERENCE_MS
TAKEN: DropReason | None = None


def outcome(window: Window, sequence: int, time_ms: int = NOW_MS) -> DropReason | None:
    """Take a number if that is allowed, else say why not."""
    try:
        window.check(sequence)
    except Dropped as drop:
        return drop.reason
    window.take(sequence, time_ms)
    return TAKEN


@frozen
class Event:
    """One datagram, and what happens before."""

    sender: int
    number: int
    off_ms: int
    passed_ms: int
    restart: bool


def events(passed_ms: st.SearchStrategy[int]) -> st.SearchStrategy[list[Event]]:
    """Histories of few senders with few numbers, whose clocks are off."""
    event = st.builds(
        Event,
        sender=st.integers(0, 5),
        number=st.integers(0, 3),
        off_ms=st.integers(-TOLERANCE_MS, TOLERANCE_MS),
        passed_ms=passed_ms,
        restart=st.booleans(),
    )
    return st.lists(event, max_size=30)


FIRST = st.one_of(
    st.integers(0, 3 * WINDOW),
    st.integers(MAX_SEQUENCE - 2 * WINDOW, MAX_SEQUENCE),
    st.integers(0, MAX_SEQUENCE),
)


def numbers(most: int, least: int = 0) -> st.SearchStrategy[list[int]]:
    """Numbers here and there, and a few that come one after the other."""
    run = st.builds(
        lambda first, count: range(first, min(first + count, MAX_SEQUENCE + 1)),
        FIRST,
        st.integers(1, 5),
    )
    runs = st.lists(run, min_size=least, max_size=most)
    return runs.map(lambda found: [number for run in found for number in run])


class WindowTests(SynchronousTestCase):
    """The numbers of one sender."""

    def setUp(self) -> None:
        """Begin with nothing taken."""
        self.window = Window(digest_of(b"enc"))

    def test_edges(self) -> None:
        """The window reaches exactly as far back as it says."""
        top = 10 * WINDOW
        self.assertIs(outcome(self.window, top), TAKEN)
        self.assertIs(outcome(self.window, top - WINDOW), DropReason.BEHIND_WINDOW)
        self.assertIs(outcome(self.window, top - WINDOW + 1), TAKEN)
        self.assertIs(outcome(self.window, top - WINDOW + 1), DropReason.REPLAYED)
        self.assertIs(outcome(self.window, top), DropReason.REPLAYED)

    def test_in_order(self) -> None:
        """Numbers in order are taken, however many, and each of them once."""
        top = 3 * WINDOW
        for number in (*range(7), *range(100, top + 1)):
            self.assertIs(outcome(self.window, number), TAKEN)
        for number in (7, 99, top - WINDOW):
            self.assertIs(outcome(self.window, number), DropReason.BEHIND_WINDOW)
        for number in range(top - WINDOW + 1, top + 1):
            self.assertIs(outcome(self.window, number), DropReason.REPLAYED)
        state = top.to_bytes(8, "big") + b"\xff" * (WINDOW // 8)
        self.assertEqual(self.window.record().state, state)

    def test_checking_changes_nothing(self) -> None:
        """Only what is taken moves the window."""
        self.window.take(5, NOW_MS)
        before = self.window.record()
        self.window.check(MAX_SEQUENCE)
        self.window.check(4)
        self.assertEqual(self.window.record(), before)

    @given(numbers(60))
    def test_as_a_set(self, sent: list[int]) -> None:
        """It takes what a set of all numbers would, less what is behind."""
        window = Window(digest_of(b"enc"))
        taken: set[int] = set()
        expected: DropReason | None
        for number in sent:
            if taken and number <= max(taken) - WINDOW:
                expected = DropReason.BEHIND_WINDOW
            elif number in taken:
                expected = DropReason.REPLAYED
            else:
                expected = TAKEN
                taken.add(number)
            assert outcome(window, number) is expected

    @given(st.data(), st.integers(1, WINDOW))
    def test_any_order(self, data: st.DataObject, count: int) -> None:
        """In any order, each of as many numbers as the window is taken once."""
        shuffle = data.draw(st.randoms(use_true_random=False))
        sent = [*range(count), *range(count)]
        shuffle.shuffle(sent)
        window = Window(digest_of(b"enc"))
        seen = [number for number in sent if outcome(window, number) is TAKEN]
        assert sorted(seen) == list(range(count))

    @given(numbers(30, least=1), numbers(30))
    def test_stored(self, before: list[int], after: list[int]) -> None:
        """A window that was stored and restored takes what it would have taken."""
        window = Window(digest_of(b"enc"))
        for number in before:
            outcome(window, number)
        record = window.record()
        assert 8 < len(record.state) <= 8 + WINDOW // 8
        restored = Window(record.digest)
        restored.restore(record.state)
        for number in after:
            assert outcome(restored, number) is outcome(window, number)
        assert restored.record().state == window.record().state

    @given(numbers(30, least=1), st.integers(1, 30))
    def test_two_records(self, sent: list[int], at: int) -> None:
        """Of two records of a sender, in either order, the fuller one decides."""
        window = Window(digest_of(b"enc"))
        for number in sent[:at]:
            outcome(window, number)
        early = window.record()
        for number in sent[at:]:
            outcome(window, number, NOW_MS + 60_000)
        late = window.record()
        for records in ((early, late), (late, early)):
            memory = ReplayMemory()
            for record in records:
                memory.restore(record.digest, record.expires_s, record.state)
            found = memory.find(late.digest)
            assert found is not None
            assert found.record() == late

    def test_damaged(self) -> None:
        """What is no state is refused."""
        for size in (0, 7, 8, 8 + WINDOW // 8 + 1):
            self.assertRaises(StorageError, self.window.restore, b"\1" * size)
        memory = ReplayMemory()
        state = b"\1" * 9
        self.assertRaises(StorageError, memory.restore, b"short", 1, state)
        self.assertEqual(memory.remembered, 0)

    def test_expiry(self) -> None:
        """It expires after the largest time taken, rounded up to a second."""
        self.window.take(0, NOW_MS + 5)
        self.window.take(1, NOW_MS - 5000)
        self.assertEqual(self.window.expires_ms, NOW_MS + 5 + TOLERANCE_MS)
        expires_s = (NOW_MS + TOLERANCE_MS) // 1000 + 1
        self.assertEqual(self.window.record().expires_s, expires_s)


class ReplayMemoryTests(SynchronousTestCase):
    """The windows of all senders."""

    def setUp(self) -> None:
        """Have room for four senders, two of them from one address."""
        self.memory = ReplayMemory(max_encs=4, max_encs_per_address=2)

    def take(
        self,
        enc: str,
        address: str = "a",
        sequence: int = 0,
        time_ms: int = NOW_MS,
        now_ms: int | None = None,
    ) -> DropReason | None:
        """Do with a genuine datagram what a receiver does."""
        digest = digest_of(enc.encode())
        now_ms = time_ms if now_ms is None else now_ms
        window = self.memory.find(digest)
        try:
            self.memory.check_time(time_ms, now_ms)
            if window is None:
                self.memory.check_new(address, now_ms)
                window = self.memory.add(digest, address, time_ms)
        except Dropped as drop:
            return drop.reason
        return outcome(window, sequence, time_ms)

    def test_full(self) -> None:
        """When it is full, new senders are refused and old ones go on."""
        for enc, address in (("1", "a"), ("2", "b"), ("3", "c"), ("4", "d")):
            self.assertIs(self.take(enc, address), TAKEN)
        self.assertIs(self.take("5", "e"), DropReason.MEMORY_FULL)
        self.assertIs(self.take("1", sequence=1), TAKEN)
        for enc in "1234":
            self.assertIs(self.take(enc), DropReason.REPLAYED)
        self.assertEqual(self.memory.remembered, 4)

    def test_full_for_an_address(self) -> None:
        """One address cannot take all the room."""
        self.take("1", "a")
        self.take("2", "a")
        self.assertIs(self.take("3", "a"), DropReason.MEMORY_FULL)
        self.assertIs(self.take("3", "b"), TAKEN)

    def test_expired(self) -> None:
        """What can no longer look fresh makes room, and not a moment sooner."""
        for enc, address in (("1", "a"), ("2", "a"), ("3", "b"), ("4", "b")):
            self.take(enc, address)
        last_ms = NOW_MS + TOLERANCE_MS
        full = DropReason.MEMORY_FULL
        self.assertIs(self.take("5", "a", time_ms=last_ms), full)
        self.assertIs(self.take("5", "a", time_ms=last_ms + 1), TAKEN)
        self.assertEqual(self.memory.remembered, 1)
        self.assertIs(self.take("6", "a", time_ms=last_ms + 1), TAKEN)
        self.assertIs(self.take("7", "a", time_ms=last_ms + 1), full)

    def test_used_since(self) -> None:
        """A window that is used lives on, by the largest time seen."""
        self.take("1", "a")
        self.take("2", "b")
        later_ms = NOW_MS + TOLERANCE_MS
        self.take("1", sequence=1, time_ms=later_ms)
        self.take("3", "c", time_ms=later_ms + 1)
        self.assertIsNotNone(self.memory.find(digest_of(b"1")))
        self.assertIsNone(self.memory.find(digest_of(b"2")))
        end_ms = later_ms + TOLERANCE_MS
        self.take("4", "d", time_ms=end_ms)
        self.assertIsNotNone(self.memory.find(digest_of(b"1")))
        self.take("5", "e", time_ms=end_ms + 1)
        self.assertIsNone(self.memory.find(digest_of(b"1")))

    def test_clock_set_back(self) -> None:
        """What was forgotten is not taken again when the clock is set back."""
        self.take("1")
        ahead_ms = NOW_MS + 3_600_000
        self.assertIs(self.take("2", "b", time_ms=ahead_ms), TAKEN)
        self.assertIsNone(self.memory.find(digest_of(b"1")))
        stale = DropReason.STALE
        self.assertIs(self.take("1", time_ms=NOW_MS, now_ms=NOW_MS), stale)
        self.assertIs(self.take("3", time_ms=NOW_MS, now_ms=NOW_MS), stale)
        self.assertIs(self.take("3", time_ms=NOW_MS + 1, now_ms=NOW_MS), TAKEN)

    def test_restored(self) -> None:
        """After a restart, what was taken before is refused, what is new is not."""
        self.take("1", sequence=7)
        window = self.memory.find(digest_of(b"1"))
        assert window is not None
        record = window.record()
        self.memory = ReplayMemory(max_encs=2, max_encs_per_address=1)
        self.memory.restore(record.digest, record.expires_s, record.state)
        self.assertIs(self.take("1", sequence=7), DropReason.REPLAYED)
        self.assertIs(self.take("1", sequence=6), TAKEN)
        self.assertIs(self.take("2", "a"), TAKEN)
        self.assertIs(self.take("3", "b"), DropReason.MEMORY_FULL)
        later_ms = record.expires_s * 1000 + 1
        self.assertIs(self.take("3", "b", time_ms=later_ms), TAKEN)
        self.assertEqual(self.memory.remembered, 1)

    def test_restored_beyond_the_limit(self) -> None:
        """More than fit are all kept; new ones wait until there is room."""
        for number in range(6):
            window = Window(digest_of(b"%d" % number))
            window.take(0, NOW_MS)
            record = window.record()
            self.memory.restore(record.digest, record.expires_s, record.state)
        self.assertEqual(self.memory.remembered, 6)
        self.assertIs(self.take("new"), DropReason.MEMORY_FULL)
        self.assertIs(self.take("5"), DropReason.REPLAYED)
        self.assertIs(self.take("5", sequence=1), TAKEN)

    def test_expired_before_a_restart(self) -> None:
        """Of what had expired only the mark is left, which holds as it did before."""
        self.take("1")
        window = self.memory.find(digest_of(b"1"))
        assert window is not None
        expired_s = window.record().expires_s
        self.memory = ReplayMemory()
        self.memory.restore_forgotten(expired_s)
        self.memory.restore_forgotten(expired_s - 10)
        self.assertEqual(self.memory.remembered, 0)
        stale = DropReason.STALE
        self.assertIs(self.take("1", time_ms=NOW_MS, now_ms=NOW_MS), stale)
        # The clock that goes on, by which the window had expired, finds none stale.
        now_ms = expired_s * 1000 + 1
        oldest_ms = now_ms - TOLERANCE_MS
        self.assertIs(self.take("2", time_ms=oldest_ms, now_ms=now_ms), TAKEN)

    def test_thousands_expire(self) -> None:
        """Thousands that expire at once go a few at a time, and all go."""
        self.memory = ReplayMemory()
        for number in range(5000):
            self.take(f"{number}")
        later_ms = NOW_MS + TOLERANCE_MS + 1
        self.take("new 0", time_ms=later_ms)
        self.assertGreater(self.memory.remembered, 4000)
        for number in range(1, 100):
            self.take(f"new {number}", time_ms=later_ms)
        self.assertEqual(self.memory.remembered, 100)

    def test_times(self) -> None:
        """A time may be off by the tolerance, either way, and no further."""
        for off_ms in (-TOLERANCE_MS, 0, TOLERANCE_MS):
            self.memory.check_time(NOW_MS + off_ms, NOW_MS)
        for off_ms in (-TOLERANCE_MS - 1, TOLERANCE_MS + 1):
            drop = self.assertRaises(
                Dropped, self.memory.check_time, NOW_MS + off_ms, NOW_MS
            )
            self.assertIs(drop.reason, DropReason.STALE)

    def replay_all(self, history: list[Event], *, restart: bool) -> None:
        """Send what a history says, and after each event everything again."""
        self.memory = ReplayMemory(max_encs=3)
        now_ms = NOW_MS
        stored: dict[bytes, ReplayRecord] = {}
        taken: set[tuple[int, int, int]] = set()
        for event in history:
            now_ms += event.passed_ms
            if restart and event.restart:
                self.memory = ReplayMemory(max_encs=3)
                for record in stored.values():
                    if record.expires_s < now_ms // 1000:
                        self.memory.restore_forgotten(record.expires_s)
                    else:
                        self.memory.restore(
                            record.digest, record.expires_s, record.state
                        )
            for datagram in (
                *taken,
                (event.sender, event.number, now_ms + event.off_ms),
            ):
                sender, sequence, time_ms = datagram
                enc = f"{sender}"
                seen = self.take(enc, sequence=sequence, time_ms=time_ms, now_ms=now_ms)
                if seen is TAKEN:
                    assert datagram not in taken
                    taken |= {datagram}
                    window = self.memory.find(digest_of(enc.encode()))
                    assert window is not None
                    stored[window.digest] = window.record()

    @given(events(st.integers(-200_000, 200_000)))
    def test_never_twice(self, history: list[Event]) -> None:
        """Nothing is taken twice, however the clocks of both ends are set."""
        self.replay_all(history, restart=False)

    @given(events(st.integers(0, 200_000)))
    def test_never_twice_over_restarts(self, history: list[Event]) -> None:
        """Nothing is taken twice over restarts, while the clock runs forward."""
        self.replay_all(history, restart=True)
