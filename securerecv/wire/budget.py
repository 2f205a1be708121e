"""A shared allowance of bytes that are held for peers."""

from weakref import WeakValueDictionary

_SHARE = 4
"""One holder may have a quarter of what there is, and the others the rest."""


class Budget:
    """
    Counts bytes held in memory for all conversations together.

    Whoever holds bytes takes them from a share of it first and gives them back
    later, so that no number of peers can make the process grow beyond the total,
    and no single address can use all of it up.

    Args:
        total_bytes: what there is.

    Attributes:
        left: bytes that may still be taken by all together.
    """

    def __init__(self, total_bytes: int) -> None:
        self.left = total_bytes
        self._most = total_bytes // _SHARE
        self._shares: WeakValueDictionary[str, Share] = WeakValueDictionary()

    def share_of(self, holder: str) -> "Share":
        """
        Give the allowance of one address, which all its conversations share.

        It is forgotten when nobody has it any more.
        """
        share = self._shares.get(holder)
        if share is None:
            share = self._shares[holder] = Share(self, self._most)
        return share


class Share:
    """
    The part of a `Budget` that one holder may use.

    Args:
        budget: it.
        most: bytes that may be taken of this share at a time.
    """

    def __init__(self, budget: Budget, most: int) -> None:
        self._budget = budget
        self._left = most

    @property
    def left(self) -> int:
        """Bytes that may still be taken."""
        return min(self._left, self._budget.left)

    def take(self, count: int) -> bool:
        """Take bytes; False, and nothing taken, when there are not enough."""
        if count > self._left or count > self._budget.left:
            return False
        self._left -= count
        self._budget.left -= count
        return True

    def give_back(self, count: int) -> None:
        """Return bytes that were taken."""
        self._left += count
        self._budget.left += count
