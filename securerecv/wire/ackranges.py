"""Which packet numbers have come: for acknowledgements, and against repeats."""

from __future__ import annotations

from bisect import bisect_right

from securerecv.wire.ranges import Ranges

MAX_RANGES = 256
"""What is remembered; all below the oldest range counts as come."""


class AckRanges:
    """
    Numbers that have come, as ranges (RFC 9000 sections 13.2.3 and 19.3).

    Attributes:
        expected: one above the largest number; from there on all are new.
    """

    def __init__(self) -> None:
        self.expected = 0
        self._come = Ranges()
        self._floor = 0

    def is_new(self, number: int) -> bool:
        """Tell whether a number has not come before, as far as that is known."""
        if number >= self.expected:
            return True
        at = bisect_right(self._come.firsts, number) - 1
        return number >= (self._come.ends[at] if at >= 0 else self._floor)

    def add(self, first: int, end: int) -> None:
        """
        Note that numbers have come.

        Args:
            first: all from here on are new, as `is_new` says.
            end: one behind the last.
        """
        if not self._come.join(first, end):
            self._come.insert(first, end)
            if len(self._come.firsts) > MAX_RANGES:
                self._floor = self._come.drop_lowest()
        self.expected = max(self.expected, end)

    def newest(self, count: int) -> list[tuple[int, int]]:
        """Give the newest ranges, the newest first, as first number and end."""
        come = self._come
        recent = zip(come.firsts[-count:], come.ends[-count:], strict=True)
        return list(recent)[::-1]
