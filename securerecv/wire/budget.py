"""A shared allowance of bytes that are held for peers."""

_SHARE = 4
"""One holder may have a quarter of what there is, and the others the rest."""


class Budget:
    """
    Counts bytes held in memory for all conversations together.

    Whoever holds bytes takes them here first and gives them back later, so
    that no number of peers can make the process grow beyond the total, and no
    single address can use all of it up.

    Args:
        total_bytes: what there is.
    """

    def __init__(self, total_bytes: int) -> None:
        self._left = total_bytes
        self._most = total_bytes // _SHARE
        self._held: dict[str, int] = {}

    @property
    def left(self) -> int:
        """Bytes that may still be taken by all together."""
        return self._left

    def share_of(self, holder: str) -> "Share":
        """Give the allowance of one address, which all its conversations share."""
        return Share(self, holder)

    def left_for(self, holder: str) -> int:
        """Bytes that a holder may still take."""
        return min(self._left, self._most - self._held.get(holder, 0))

    def take(self, count: int, holder: str) -> bool:
        """Take bytes; False, and nothing taken, when there are not enough."""
        if count > self.left_for(holder):
            return False
        if count:  # else who has sent nothing yet would be remembered
            self._left -= count
            self._held[holder] = self._held.get(holder, 0) + count
        return True

    def give_back(self, count: int, holder: str) -> None:
        """Return bytes that were taken."""
        self._left += count
        held = self._held.pop(holder, 0) - count
        if held:
            self._held[holder] = held


class Share:
    """The part of a `Budget` that one holder may use."""

    def __init__(self, budget: Budget, holder: str) -> None:
        self._budget = budget
        self._holder = holder

    @property
    def left(self) -> int:
        """Bytes that may still be taken."""
        return self._budget.left_for(self._holder)

    def take(self, count: int) -> bool:
        """Take bytes; False, and nothing taken, when there are not enough."""
        return self._budget.take(count, self._holder)

    def give_back(self, count: int) -> None:
        """Return bytes that were taken."""
        self._budget.give_back(count, self._holder)
