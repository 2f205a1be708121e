"""Which packet numbers have come: for acknowledgements, and against repeats."""

from __future__ import annotations

from bisect import bisect_right

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
        self._firsts: list[int] = []
        self._ends: list[int] = []
        self._floor = 0

    def is_new(self, number: int) -> bool:
        """Tell whether a number has not come before, as far as that is known."""
        if number >= self.expected:
            return True
        at = bisect_right(self._firsts, number) - 1
        return number >= (self._ends[at] if at >= 0 else self._floor)

    def add(self, first: int, end: int) -> None:
        """
        Note that numbers have come.

        Args:
            first: all from here on are new, as `is_new` says.
            end: one behind the last.
        """
        firsts, ends = self._firsts, self._ends
        at = bisect_right(firsts, first)
        joins_before = at > 0 and ends[at - 1] == first
        joins_behind = at < len(firsts) and firsts[at] == end
        if joins_before and joins_behind:
            ends[at - 1] = ends.pop(at)
            del firsts[at]
        elif joins_before:
            ends[at - 1] = end
        elif joins_behind:
            firsts[at] = first
        else:
            firsts.insert(at, first)
            ends.insert(at, end)
            if len(firsts) > MAX_RANGES:
                self._floor = ends.pop(0)
                del firsts[0]
        self.expected = max(self.expected, end)

    def newest(self, count: int) -> list[tuple[int, int]]:
        """Give the newest ranges, the newest first, as first number and end."""
        recent = zip(self._firsts[-count:], self._ends[-count:], strict=True)
        return list(recent)[::-1]
