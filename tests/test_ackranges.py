"""Which packet numbers have come."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.wire.ackranges import MAX_RANGES, AckRanges


class AckRangesTests(SynchronousTestCase):
    """Ranges are what a set of numbers would be, up to what is remembered."""

    @given(st.lists(st.integers(0, 60), max_size=80))
    def test_like_a_set(self, numbers: list[int]) -> None:
        """Whatever the order, each number is new once, and ranges hold them all."""
        ranges = AckRanges()
        came: set[int] = set()
        for number in numbers:
            assert ranges.is_new(number) == (number not in came)
            if ranges.is_new(number):
                ranges.add(number, number + 1)
                came.add(number)
        newest = ranges.newest(MAX_RANGES)
        assert {n for first, end in newest for n in range(first, end)} == came
        assert newest == sorted(newest, reverse=True)
        # Between two ranges something is missing.
        assert all(later[0] > earlier[1] for later, earlier in pairwise(newest))
        assert ranges.expected == max(came, default=-1) + 1

    def test_bounded(self) -> None:
        """The oldest ranges are forgotten, and nothing below is new any more."""
        ranges = AckRanges()
        for number in range(0, 2 * MAX_RANGES + 20, 2):
            ranges.add(number, number + 1)
        self.assertEqual(len(ranges.newest(10_000)), MAX_RANGES)
        self.assertFalse(ranges.is_new(1))
        self.assertFalse(ranges.is_new(0))
        self.assertTrue(ranges.is_new(2 * MAX_RANGES + 1))
        self.assertEqual(len(ranges.newest(3)), 3)

    def test_runs(self) -> None:
        """Many numbers at once join what lies on either side."""
        ranges = AckRanges()
        ranges.add(0, 5)
        ranges.add(10, 20)
        ranges.add(5, 10)
        self.assertEqual(ranges.newest(9), [(0, 20)])
