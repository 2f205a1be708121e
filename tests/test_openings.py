"""The budget for public-key work."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.wire.openings import OpeningBudget

# Powers of two, which floating point adds exactly.
COST_S = 1 / 128


def new_budget() -> OpeningBudget:
    """64 openings at once and 32/s in all, 16 and 16/s for an address."""
    return OpeningBudget(
        share=0.25,
        share_per_address=0.125,
        burst_s=0.5,
        burst_per_address_s=0.125,
        cost_s=COST_S,
    )


class OpeningBudgetTests(SynchronousTestCase):
    """Who may cause how many openings."""

    def setUp(self) -> None:
        """Begin with all there is."""
        self.budget = new_budget()

    def granted(self, address: str, tries: int, now_s: float) -> int:
        """Ask often at the same time."""
        return sum(self.budget.take(address, now_s) for _ in range(tries))

    def test_address(self) -> None:
        """An address has its burst, then its share, and others have theirs."""
        self.assertEqual(self.granted("a", 100, 1000.0), 16)
        self.assertEqual(self.granted("a", 100, 1000.25), 4)
        self.assertEqual(self.granted("b", 100, 1000.25), 16)
        self.assertEqual(self.granted("a", 100, 2000.0), 16)

    def test_in_all(self) -> None:
        """However many addresses ask, they get the burst and the share in all."""
        first = sum(self.granted(f"a{number}", 9, 1000.0) for number in range(100))
        self.assertEqual(first, 64)
        second = sum(self.granted(f"b{number}", 9, 1001.0) for number in range(100))
        self.assertEqual(second, 32)

    def test_refusals_cost_nothing(self) -> None:
        """Who is refused is not kept from anything by having asked."""
        self.granted("a", 16, 1000.0)
        for number in range(64):
            self.granted("a", 5, 1000.0 + number / 64)
        self.assertEqual(self.granted("a", 100, 1002.5), 16)

    def test_forgotten_when_full(self) -> None:
        """An address is remembered until its bucket is full, and no longer."""
        self.granted("a", 16, 1000.0)
        self.granted("b", 1, 1000.5)
        self.assertEqual(self.budget.remembered, 2)
        self.granted("c", 1, 1001.0)
        self.assertEqual(self.budget.remembered, 2)
        self.assertEqual(self.granted("a", 100, 1001.0), 16)

    def test_bounded(self) -> None:
        """A flood from ever new addresses makes few of them remembered."""
        for number in range(20_000):
            self.budget.take(f"a{number}", 1000.0 + number / 1000)
            self.assertLessEqual(self.budget.remembered, 64 + 32)

    def test_one_that_never_stops(self) -> None:
        """An address that keeps asking does not keep others remembered."""
        for tenths in range(100):
            self.granted("a", 20, 1000.0 + tenths / 10)
            self.budget.take(f"b{tenths}", 1000.0 + tenths / 10)
        self.assertLessEqual(self.budget.remembered, 1 + 11)

    def test_clock_set_back(self) -> None:
        """A clock that is set back neither gives more nor stops anyone."""
        self.assertEqual(self.granted("a", 100, 5000.0), 16)
        self.granted("b", 100, 5000.0)
        again = sum(self.granted(f"c{number}", 9, 1000.0) for number in range(100))
        self.assertEqual(again, 64 - 32)
        self.assertEqual(self.budget.remembered, 4)
        self.assertEqual(self.granted("d", 100, 1002.0), 16)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b", "c", "d", "e", "f", "g"]),
                st.floats(0, 0.2),
            ),
            max_size=200,
        )
    )
    def test_never_more(self, asks: list[tuple[str, float]]) -> None:
        """Whoever asks when, nobody ever gets more than burst and share."""
        budget = new_budget()
        now_s = start_s = 1000.0
        granted: dict[str, int] = {}
        for address, pause_s in asks:
            now_s += pause_s
            for _ in range(3):
                if budget.take(address, now_s):
                    granted[address] = granted.get(address, 0) + 1
        passed_s = now_s - start_s
        most = 1e-6 + (0.5 + 0.25 * passed_s) / COST_S
        assert sum(granted.values()) <= most
        for count in granted.values():
            assert count <= 1e-6 + (0.125 + 0.125 * passed_s) / COST_S
