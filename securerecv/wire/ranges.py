"""Numbers as ranges."""

from __future__ import annotations

from bisect import bisect_right


class Ranges:
    """
    Ranges of numbers, in order; between any two of them something is missing.

    Attributes:
        firsts: the first number of each.
        ends: one behind the last number of each.
    """

    def __init__(self) -> None:
        self.firsts: list[int] = []
        self.ends: list[int] = []

    def join(self, first: int, end: int) -> bool:
        """
        Make longer what a new range touches.

        Args:
            first: of the new range, none of whose numbers is there yet.
            end: one behind its last.

        Returns:
            False, and nothing done, if it touches none.
        """
        firsts, ends = self.firsts, self.ends
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
        return joins_before or joins_behind

    def insert(self, first: int, end: int) -> None:
        """Add a range for which `join` has answered that it touches none."""
        at = bisect_right(self.firsts, first)
        self.firsts.insert(at, first)
        self.ends.insert(at, end)

    def drop_lowest(self) -> int:
        """Forget the lowest range, and give its end."""
        del self.firsts[0]
        return self.ends.pop(0)
